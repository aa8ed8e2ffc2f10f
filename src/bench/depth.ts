import type { Device } from '../backend/device.ts';
import type { Tensor } from '../backend/tensor.ts';
import { fillUniform, milliseconds, summarize, type Timing } from './timing.ts';

export interface DepthBenchmarkOptions {
  width: number;
  /** Tokens a call. */
  batch: number;
  /** Batches of different tokens that go through the layer in each round, so that a row once read is not simply read again. */
  batches: number;
  depths: readonly number[];
  rounds: number;
}

/** Times in microseconds a token; the optimizer's in microseconds a step, which does not depend on the tokens. */
export interface DepthResult {
  depth: number;
  neurons: number;
  /** Of the layer's weights. */
  bytes: number;
  forward: Timing;
  /** Of input and weights. */
  backward: Timing;
  forwardAndBackward: Timing;
  /** Norm of the gradient, AdamW, and zeroing the touched rows of the gradient. */
  optimizer: Timing;
}

/**
 * Times one fast feedforward tree of each depth through the device's calls, the depths by turns. A turn takes all batches forward, then all
 * of them backward, then one step of AdamW, and all of it twice: the first time, which finds the caches as another depth left them, is not
 * counted.
 */
export async function benchmarkDepth(device: Device, options: DepthBenchmarkOptions): Promise<DepthResult[]> {
  const entrants: Entrant[] = [];
  try {
    for (const depth of options.depths) entrants.push(enter(device, depth, options));
    await device.finish();
    for (let round = 0; round < options.rounds; round++) {
      for (const { pass, passes } of entrants) {
        await pass();
        passes.push(await pass());
      }
    }
  } finally {
    for (const { dispose } of entrants) dispose();
  }
  return entrants.map(({ depth, neurons, bytes, passes }) => {
    const part = (of: (pass: Pass) => number) => summarize(passes.map(of));
    return {
      depth,
      neurons,
      bytes,
      forward: part(({ forward }) => forward),
      backward: part(({ backward }) => backward),
      forwardAndBackward: part(({ forward, backward }) => forward + backward),
      optimizer: part(({ optimizer }) => optimizer),
    };
  });
}

/** Times as in {@link DepthResult}. */
type Pass = Record<'forward' | 'backward' | 'optimizer', number>;

interface Entrant extends Pick<DepthResult, 'depth' | 'neurons' | 'bytes'> {
  pass(): Promise<Pass>;
  /** Those that count. */
  passes: Pass[];
  dispose(): void;
}

function enter(device: Device, depth: number, { width, batch, batches }: DepthBenchmarkOptions): Entrant {
  const neurons = 2 ** (depth + 1) - 1;
  const owned: Tensor[] = [];
  const own = (tensor: Tensor) => {
    owned.push(tensor);
    return tensor;
  };
  const zeros = (name: string, shape: number[], dtype?: 'i32') => own(device.zeros(name, shape, dtype));
  // Inputs of unit variance and weights that give logits of unit variance: the signs, and so the paths, are even.
  const nodes = own(
    device.tensor('nodes', [neurons, 2 * width], 'f32', fillUniform(new Float32Array(neurons * 2 * width), Math.sqrt(3 / width), 1)),
  );
  const layer = { nodes, trees: 1, depth };
  const bias = zeros('bias', [neurons]);
  const rowMask = zeros('rowMask', [neurons], 'i32');
  const [gradNodes, gradBias] = [zeros('nodes.gradient', [neurons, 2 * width]), zeros('bias.gradient', [neurons])];
  const trained = [nodes, bias].map((parameter, i) => ({
    parameter,
    gradient: [gradNodes, gradBias][i],
    mean: zeros(`${parameter.name}.mean`, [...parameter.shape]),
    variance: zeros(`${parameter.name}.variance`, [...parameter.shape]),
    rowMask,
  }));
  const squares = zeros('squares', [1]);
  const inputs = Array.from({ length: batches }, (_, i) => ({
    input: own(device.tensor('input', [batch, width], 'f32', fillUniform(new Float32Array(batch * width), Math.sqrt(3), i + 2))),
    pathNodes: zeros('pathNodes', [batch, 1, depth + 1], 'i32'),
    logits: zeros('logits', [batch, 1, depth + 1]),
  }));
  const output = zeros('output', [batch, width]);
  const gradInput = zeros('input.gradient', [batch, width]);
  const gradOutput = own(device.tensor('gradOutput', [batch, width], 'f32', fillUniform(new Float32Array(batch * width), 1e-3, 1)));

  const finish = () => device.finish();
  let step = 0;
  const pass = async (): Promise<Pass> => {
    step++;
    const forward = await milliseconds(() => {
      for (const activations of inputs) device.fff({ ...layer, ...activations, bias, output });
    }, finish);
    const backward = await milliseconds(() => {
      for (const activations of inputs) {
        device.fffBackward({ ...layer, ...activations, gradOutput, gradInput, gradNodes, gradBias, rowMask });
      }
    }, finish);
    const optimizer = await milliseconds(() => {
      for (const { gradient } of trained) device.sumOfSquares({ input: gradient, rowMask, output: squares });
      for (const tensors of trained) {
        // So small a step that the paths stay as they were.
        device.adamw({ ...tensors, learningRate: 1e-9, beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0, step });
        device.clearRows(tensors);
      }
      device.fill({ output: rowMask, value: 0 });
    }, finish);
    const perToken = 1000 / (batch * batches);
    return { forward: forward * perToken, backward: backward * perToken, optimizer: optimizer * 1000 };
  };
  const dispose = () => {
    for (const tensor of owned) tensor.dispose();
  };
  return { depth, neurons, bytes: neurons * (2 * width + 1) * 4, pass, passes: [], dispose };
}
