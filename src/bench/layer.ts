import type { Backend } from '../backend/backend.ts';
import type { Precision, PreparedWeight } from '../backend/prepared_weight.ts';
import { ReferenceBackend } from '../backend/reference.ts';
import type { Tensor } from '../backend/tensor.ts';
import { type Contestant, contest } from './contest.ts';
import { type DenseWeights, denseFeedforwardGraph, type TreeWeights, treesGraph } from './onnx_graphs.ts';
import type { OnnxRuntime, OnnxSession } from './peers.ts';
import { fillUniform, type Timing } from './timing.ts';

export interface LayerBenchmarkOptions {
  width: number;
  configs: readonly { trees: number; depth: number }[];
  /** Tokens a call. */
  batches: readonly number[];
  dtypes: readonly Precision[];
  rounds: number;
  roundMilliseconds: number;
  onnxRuntime?: OnnxRuntime;
  onResult?(result: LayerResult): void;
}

export interface LayerPeer {
  name: string;
  dtype: Precision;
  usPerToken: number;
  spread: [number, number];
  /** Only dense layers, which do 341 times the work, take part in `ratio`. */
  kind: 'dense' | 'trees';
  /** Largest difference from the reference backend's answer over the largest value of that answer. */
  maxRelativeError: number;
}

export interface LayerResult {
  /** 'trees x depth width', as in '1x11 768'. */
  config: string;
  batch: number;
  dtype: Precision;
  backend: string;
  usPerToken: number;
  /** Quartiles. */
  spread: [number, number];
  peers: LayerPeer[];
  /** The fastest dense layer over the trees: in i8 the fastest in i8, else the fastest in f32. */
  ratio: number;
  /** The same against dense layers of the very dtype. */
  ratioSameDtype: number;
  /** Largest difference of the trees' outputs from the reference backend's, in f32, over the first tokens. */
  maxAbsError: number;
}

/** Tokens that calls take in turn, or two calls' worth if that is more: no call meets the tokens of the call before. */
const poolTokens = 1024;
const checkedTokens = 8;
const callsOf = (batch: number) => Math.max(2, Math.floor(poolTokens / batch));

/**
 * Times fast feedforward trees against dense layers of as many neurons, ours and onnxruntime's, in one run by turns. Inputs have unit
 * variance and differ from call to call; a call's output is not read but in the check.
 */
export async function benchmarkLayer(backend: Backend, options: LayerBenchmarkOptions): Promise<LayerResult[]> {
  const { width, batches } = options;
  const pool = fillUniform(new Float32Array(Math.max(poolTokens, 2 * Math.max(...batches)) * width), Math.sqrt(3), 1);
  const results: LayerResult[] = [];
  for (const { trees, depth } of options.configs) {
    const neurons = trees * (2 ** (depth + 1) - 1);
    const uniform = (size: number, variance: number, seed: number) => fillUniform(new Float32Array(size), Math.sqrt(3 * variance), seed);
    const tree: TreeWeights = { width, trees, depth, nodes: uniform(neurons * 2 * width, 1 / width, 2), bias: new Float32Array(neurons) };
    const dense: DenseWeights = {
      width,
      neurons,
      up: uniform(neurons * width, 1 / width, 3),
      down: uniform(neurons * width, 1 / neurons, 4),
    };
    const layers = await prepareLayers(backend, options, tree, dense, pool);
    try {
      for (const batch of batches) results.push(...(await measure(backend, options, layers, `${trees}x${depth} ${width}`, batch)));
    } finally {
      for (const layer of layers) await layer.dispose();
    }
  }
  return results;
}

interface Layer {
  name: string;
  dtype: Precision;
  kind: 'dense' | 'trees';
  ours: boolean;
  /** Of the reference backend, for the first tokens. */
  expected: Float32Array;
  contestant(batch: number): Contestant;
  /** For the first tokens. */
  output(): Promise<Float32Array>;
  dispose(): Promise<void>;
}

async function prepareLayers(
  backend: Backend,
  options: LayerBenchmarkOptions,
  tree: TreeWeights,
  dense: DenseWeights,
  pool: Float32Array,
): Promise<Layer[]> {
  const layers: Layer[] = [];
  using reference = new ReferenceBackend();
  const first = pool.slice(0, checkedTokens * tree.width);
  const [ofTrees, ofDense] = [
    await once(reference, treeLayer(reference, tree, 'f32'), first, tree.width),
    await once(reference, denseLayer(reference, dense, 'f32'), first, tree.width),
  ];
  for (const dtype of options.dtypes) {
    layers.push(ourLayer(backend, treeLayer(backend, tree, dtype), 'trees', dtype, ofTrees, pool, tree.width));
    layers.push(ourLayer(backend, denseLayer(backend, dense, dtype), 'dense', dtype, ofDense, pool, tree.width));
  }
  // A bf16 layer is set against dense layers in f32 too.
  if (!options.dtypes.includes('f32'))
    layers.push(ourLayer(backend, denseLayer(backend, dense, 'f32'), 'dense', 'f32', ofDense, pool, tree.width));
  await backend.finish();
  const { onnxRuntime } = options;
  if (!onnxRuntime) return layers;
  const session = (graph: Parameters<OnnxRuntime['session']>[0]) => onnxRuntime.session(graph, backend.threads);
  const add = async (kind: Layer['kind'], dtype: Precision, made: Promise<OnnxSession>, expected: Float32Array) =>
    layers.push(
      onnxLayer(
        `${onnxRuntime.name} ${kind === 'trees' ? 'trees by standard operators' : 'dense'}`,
        kind,
        dtype,
        await made,
        expected,
        pool,
        tree.width,
      ),
    );
  await add('dense', 'f32', session(denseFeedforwardGraph(dense, 'f32')), ofDense);
  if (options.dtypes.includes('i8')) await add('dense', 'i8', session(denseFeedforwardGraph(dense, 'i8')), ofDense);
  await add('trees', 'f32', session(treesGraph(tree)), ofTrees);
  return layers;
}

/** A layer in a backend: queues one call. */
interface Queued {
  call(input: Tensor, output: Tensor): void;
  dispose(): void;
}

function treeLayer(backend: Backend, { width, trees, depth, nodes, bias }: TreeWeights, precision: Precision): Queued {
  const count = bias.length;
  const weight = backend.tensor('nodes', [count, 2 * width], 'f32', nodes);
  const biases = backend.tensor('bias', [count], 'f32', bias);
  const prepared: Tensor | PreparedWeight = precision === 'f32' ? weight : backend.prepareNodes({ nodes: weight, precision });
  if (prepared !== weight) weight.dispose();
  return {
    call: (input, output) => backend.fff({ input, nodes: prepared, bias: biases, trees, depth, output }),
    dispose: () => [prepared, biases].forEach((made) => void made.dispose()),
  };
}

function denseLayer(backend: Backend, { width, neurons, up, down }: DenseWeights, precision: Precision): Queued {
  const [first, second] = [
    [up, neurons, width],
    [down, width, neurons],
  ].map(([values, outputs, inputs]) => {
    using weight = backend.tensor('weight', [outputs as number, inputs as number], 'f32', values as Float32Array);
    return backend.prepareLinear({ weight, precision });
  });
  let hidden: Tensor | undefined;
  return {
    call(input, output) {
      const rows = input.size / width;
      if (hidden?.shape[0] !== rows) {
        hidden?.dispose();
        hidden = backend.tensor('hidden', [rows, neurons]);
      }
      backend.linear({ input, weight: first, output: hidden, activation: 'gelu' });
      backend.linear({ input: hidden, weight: second, output });
    },
    dispose: () => [first, second, hidden].forEach((made) => void made?.dispose()),
  };
}

async function once(backend: Backend, layer: Queued, values: Float32Array, width: number): Promise<Float32Array> {
  using input = backend.tensor('input', [values.length / width, width], 'f32', values);
  using output = backend.tensor('output', [values.length / width, width]);
  layer.call(input, output);
  return backend.read(output);
}

function ourLayer(
  backend: Backend,
  layer: Queued,
  kind: Layer['kind'],
  dtype: Precision,
  expected: Float32Array,
  pool: Float32Array,
  width: number,
): Layer {
  const tokens = backend.tensor('tokens', [pool.length / width, width], 'f32', pool);
  const outputs: Tensor[] = [];
  return {
    name: `ours ${kind}`,
    dtype,
    kind,
    ours: true,
    expected,
    contestant(batch) {
      const output = backend.tensor('output', [batch, width]);
      outputs.push(output);
      const inputs = Array.from({ length: callsOf(batch) }, (_, i) => tokens.view([batch, width], i * batch * width));
      let next = 0;
      return {
        // Queued in one go, as a model's layers are.
        async run(times) {
          for (let i = 0; i < times; i++) layer.call(inputs[next++ % inputs.length], output);
          await backend.finish();
        },
      };
    },
    output: () => once(backend, layer, pool.slice(0, checkedTokens * width), width),
    async dispose() {
      layer.dispose();
      for (const made of [tokens, ...outputs]) made.dispose();
    },
  };
}

function onnxLayer(
  name: string,
  kind: Layer['kind'],
  dtype: Precision,
  session: OnnxSession,
  expected: Float32Array,
  pool: Float32Array,
  width: number,
): Layer {
  return {
    name,
    dtype,
    kind,
    ours: false,
    expected,
    contestant(batch) {
      let next = 0;
      const count = callsOf(batch);
      return {
        async run(times) {
          for (let i = 0; i < times; i++, next++)
            await session.run(pool.subarray((next % count) * batch * width, ((next % count) + 1) * batch * width), [batch, width]);
        },
      };
    },
    output: async () => session.run(pool.slice(0, checkedTokens * width), [checkedTokens, width]),
    dispose: () => session.release(),
  };
}

async function measure(
  backend: Backend,
  options: LayerBenchmarkOptions,
  layers: readonly Layer[],
  config: string,
  batch: number,
): Promise<LayerResult[]> {
  const timings = await contest(
    layers.map((layer) => layer.contestant(batch)),
    options,
  );
  const rows: (LayerPeer & { ours: boolean; absolute: number })[] = [];
  for (const [i, { name, dtype, kind, ours, expected, output }] of layers.entries()) {
    const differences = (await output()).map((value, at) => Math.abs(value - expected[at]));
    const absolute = differences.reduce((a, b) => Math.max(a, b), 0);
    const largest = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    rows.push({ name, dtype, kind, ours, absolute, maxRelativeError: absolute / largest, ...perToken(timings[i], batch) });
  }
  return rows
    .filter(({ kind, ours }) => kind === 'trees' && ours)
    .map((trees) => {
      const fastest = (dtype: Precision) =>
        Math.min(...rows.filter((row) => row.kind === 'dense' && row.dtype === dtype).map((row) => row.usPerToken));
      const result: LayerResult = {
        config,
        batch,
        dtype: trees.dtype,
        backend: `${backend.name}: ${backend.description}`,
        usPerToken: trees.usPerToken,
        spread: trees.spread,
        peers: rows.filter((row) => row !== trees && (row.kind === 'dense' || !row.ours)).map(({ ours: _, absolute: __, ...peer }) => peer),
        ratio: fastest(trees.dtype === 'i8' ? 'i8' : 'f32') / trees.usPerToken,
        ratioSameDtype: fastest(trees.dtype) / trees.usPerToken,
        maxAbsError: trees.absolute,
      };
      options.onResult?.(result);
      return result;
    });
}

function perToken({ median, low, high }: Timing, batch: number): { usPerToken: number; spread: [number, number] } {
  return { usPerToken: (median * 1000) / batch, spread: [(low * 1000) / batch, (high * 1000) / batch] };
}
