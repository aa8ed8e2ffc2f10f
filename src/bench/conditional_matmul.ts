import type { Device } from '../backend/device.ts';
import { ReferenceDevice } from '../backend/reference.ts';
import type { Tensor } from '../backend/tensor.ts';
import { contest } from './contest.ts';
import { gatheredGraph, linearGraph } from './onnx_graphs.ts';
import type { OnnxRuntime, OnnxSession } from './peers.ts';
import { preparedLinear, uniform } from './queued_layers.ts';
import {
  checkedTokens,
  largestError,
  onnxWork,
  perToken,
  type QueuedLayer,
  queuedWork,
  randomTokens,
  type TokenTiming,
  tokensFor,
  type Work,
} from './work.ts';

export interface ConditionalMatmulBenchmarkOptions {
  width: number;
  /** Rows of the weight. */
  neurons: number;
  /** Tokens a call. */
  batches: readonly number[];
  /** Rows of the weight that are chosen together. */
  blockSizes: readonly number[];
  /** Rows of the weight that each token meets; those that are no whole blocks are left out. */
  chosen: readonly number[];
  rounds: number;
  roundMilliseconds: number;
  onnxRuntime?: OnnxRuntime;
  onResult?(result: ConditionalMatmulResult): void;
}

export interface ConditionalMatmulPeer extends TokenTiming {
  name: string;
  /** 'dense' computes every row of the weight for every token; 'conditional' the chosen ones. */
  kind: 'dense' | 'conditional';
  /** Largest difference from the reference backend's answer over the largest value of that: of the first measured tokens. */
  maxRelativeError: number;
}

export interface ConditionalMatmulResult extends TokenTiming {
  batch: number;
  blockSize: number;
  /** Rows of the weight that each token meets, and of how many. */
  chosen: number;
  neurons: number;
  device: string;
  peers: ConditionalMatmulPeer[];
  /** The fastest dense product over ours. */
  ratio: number;
  /** Ours, as a peer's. */
  maxRelativeError: number;
}

/** onnxruntime copies the chosen rows out before it multiplies: beyond this, in bytes, that is not measured. */
const maxGathered = 2 ** 28;

/** One way to the product, for some number of chosen rows; dense ones serve all. */
interface Entrant {
  name: string;
  ours: boolean;
  chosen?: number;
  work: Work;
}

/**
 * Times products in which each token meets its own blocks of the weight, drawn evenly and anew for each token, against products with
 * the whole weight, in one run by turns: weight [neurons, width] in f32, tokens that differ from call to call.
 */
export async function benchmarkConditionalMatmul(
  device: Device,
  options: ConditionalMatmulBenchmarkOptions,
): Promise<ConditionalMatmulResult[]> {
  const { width, neurons, batches, onnxRuntime } = options;
  const x = randomTokens(width, batches);
  const weight = uniform(neurons * width, 1 / width, 2);
  const expected = await denseProducts(x.values as Float32Array, weight, width, neurons);
  const results: ConditionalMatmulResult[] = [];
  for (const blockSize of options.blockSizes) {
    const counts = options.chosen.filter((chosen) => chosen % blockSize === 0 && chosen <= neurons);
    if (counts.length === 0 || neurons % blockSize !== 0) continue;
    const entrants: Entrant[] = [{ name: 'ours dense', ours: true, work: queuedWork(device, denseProduct(device, weight, width), { x }) }];
    const sessions: OnnxSession[] = [];
    const open = async (graph: Parameters<OnnxRuntime['session']>[0]) => {
      sessions.push(await (onnxRuntime as OnnxRuntime).session(graph, device.threads));
      return sessions[sessions.length - 1];
    };
    try {
      if (onnxRuntime)
        entrants.push({
          name: `${onnxRuntime.name} dense`,
          ours: false,
          work: onnxWork(await open(linearGraph(weight, neurons, width)), { x }),
        });
      const gathered = onnxRuntime && (await open(gatheredGraph(weight, neurons, width, blockSize)));
      const drawn = new Map<number, Int32Array>();
      for (const chosen of counts) {
        const choices = chosen / blockSize;
        const values = drawBlocks(tokensFor(batches), choices, neurons / blockSize);
        drawn.set(chosen, values);
        const inputs = { x, chosen: { values, width: choices } };
        entrants.push({
          name: 'ours',
          ours: true,
          chosen,
          work: queuedWork(device, conditional(device, weight, width, blockSize, choices), inputs),
        });
        if (gathered)
          entrants.push({ name: `${onnxRuntime.name} Gather and MatMul`, ours: false, chosen, work: onnxWork(gathered, inputs) });
      }
      for (const batch of batches) {
        const present = entrants.filter(({ ours, chosen }) => ours || !chosen || chosen * batch * width * 4 <= maxGathered);
        results.push(...(await measure(device, options, present, { batch, blockSize, drawn, expected })));
      }
    } finally {
      for (const { ours, work } of entrants) if (ours) await work.dispose();
      for (const session of sessions) await session.release();
    }
  }
  return results;
}

async function measure(
  device: Device,
  options: ConditionalMatmulBenchmarkOptions,
  entrants: readonly Entrant[],
  at: { batch: number; blockSize: number; drawn: ReadonlyMap<number, Int32Array>; expected: Float32Array },
): Promise<ConditionalMatmulResult[]> {
  const { batch, blockSize } = at;
  const timings = await contest(
    entrants.map(({ work }) => work.contestant(batch)),
    options,
  );
  const rows: (Omit<Entrant, 'work'> & TokenTiming & { maxRelativeError: number })[] = [];
  for (const [i, { name, ours, chosen, work }] of entrants.entries()) {
    const blocks = chosen && (at.drawn.get(chosen) as Int32Array).subarray(0, (checkedTokens * chosen) / blockSize);
    const expected = blocks ? pick(at.expected, blocks, blockSize, options.neurons) : at.expected;
    const maxRelativeError = largestError(name, await work.output(batch), expected);
    rows.push({ name, ours, chosen, maxRelativeError, ...perToken(timings[i], batch) });
  }
  return rows
    .filter(({ ours, chosen }) => ours && chosen !== undefined)
    .map((row) => {
      const peers = rows
        .filter(({ ours, chosen }) => chosen === undefined || (!ours && chosen === row.chosen))
        .map(({ name, chosen, usPerToken, spread, maxRelativeError }): ConditionalMatmulPeer => {
          return { name, kind: chosen === undefined ? 'dense' : 'conditional', usPerToken, spread, maxRelativeError };
        });
      const fastest = Math.min(...peers.filter(({ kind }) => kind === 'dense').map(({ usPerToken }) => usPerToken));
      const result: ConditionalMatmulResult = {
        batch,
        blockSize,
        chosen: row.chosen as number,
        neurons: options.neurons,
        device: `${device.name}: ${device.description}`,
        usPerToken: row.usPerToken,
        spread: row.spread,
        peers,
        ratio: fastest / row.usPerToken,
        maxRelativeError: row.maxRelativeError,
      };
      options.onResult?.(result);
      return result;
    });
}

/** Of the first tokens with every row of the weight, by the reference backend: [tokens, neurons]. */
async function denseProducts(tokens: Float32Array, weight: Float32Array, width: number, neurons: number): Promise<Float32Array> {
  using reference = new ReferenceDevice();
  using input = reference.tensor('x', [checkedTokens, width], 'f32', tokens.slice(0, checkedTokens * width));
  using factor = reference.tensor('weight', [neurons, width], 'f32', weight);
  using output = reference.tensor('products', [checkedTokens, neurons]);
  reference.linear({ input, weight: factor, output });
  return reference.read(output);
}

/** What each token's chosen blocks are of its products with every row. */
function pick(products: Float32Array, chosen: Int32Array, blockSize: number, neurons: number): Float32Array {
  const choices = chosen.length / checkedTokens;
  const picked = new Float32Array(chosen.length * blockSize);
  chosen.forEach((block, i) => {
    const row = Math.floor(i / choices) * neurons;
    picked.set(products.subarray(row + block * blockSize, row + (block + 1) * blockSize), i * blockSize);
  });
  return picked;
}

function denseProduct(device: Device, values: Float32Array, width: number): QueuedLayer {
  const outputs = values.length / width;
  const weight = preparedLinear(device, values, outputs, width, 'f32');
  return { outputs, call: ({ x }, output) => device.linear({ input: x, weight, output }), dispose: () => weight.dispose() };
}

function conditional(device: Device, values: Float32Array, width: number, blockSize: number, choices: number): QueuedLayer<'x' | 'chosen'> {
  const weight = device.tensor('weight', [values.length / width, width], 'f32', values);
  return {
    outputs: choices * blockSize,
    call: ({ x, chosen }: Record<'x' | 'chosen', Tensor>, output) =>
      device.conditionalMatmul({ input: x, weight, chosen, blockSize, output }),
    dispose: () => weight.dispose(),
  };
}

/** Distinct blocks for each token, every block as likely as any other: [tokens, choices]. */
function drawBlocks(tokens: number, choices: number, blocks: number): Int32Array {
  const drawn = new Int32Array(tokens * choices);
  const order = Int32Array.from({ length: blocks }, (_, block) => block);
  let state = 1;
  for (let token = 0; token < tokens; token++) {
    for (let i = 0; i < choices; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const other = i + Math.floor((state / 2 ** 32) * (blocks - i));
      [order[i], order[other]] = [order[other], order[i]];
    }
    drawn.set(order.subarray(0, choices), token * choices);
  }
  return drawn;
}
