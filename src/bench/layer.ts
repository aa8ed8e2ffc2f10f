import type { Device } from '../backend/device.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import { ReferenceDevice } from '../backend/reference.ts';
import { contest } from './contest.ts';
import { type DenseWeights, denseFeedforwardGraph, type TreeWeights, treesGraph } from './onnx_graphs.ts';
import type { OnnxRuntime } from './peers.ts';
import { denseLayer, randomDense, treeLayer } from './queued_layers.ts';
import {
  checkedTokens,
  type Inputs,
  largestError,
  onnxWork,
  perToken,
  type QueuedLayer,
  queuedWork,
  type TokenRows,
  type TokenTiming,
  type Work,
} from './work.ts';

export interface LayerBenchmarkOptions {
  /** Random ones, or a model's. */
  layers: readonly TreeWeights[];
  /** Of the layers' width: `randomTokens`, or what a model's layer takes in. */
  tokens: TokenRows;
  /** Tokens a call. */
  batches: readonly number[];
  dtypes: readonly Precision[];
  rounds: number;
  roundMilliseconds: number;
  onnxRuntime?: OnnxRuntime;
  onResult?(result: LayerResult): void;
}

export interface LayerPeer extends TokenTiming {
  name: string;
  dtype: Precision;
  /** Only dense layers, which compute every neuron, take part in `ratio`. */
  kind: 'dense' | 'trees';
  /** Largest difference from the reference backend's answer, in f32, over the largest value of that: of the first measured tokens. */
  maxRelativeError: number;
}

export interface LayerResult extends TokenTiming {
  /** 'trees x depth width', as in '1x11 768'. */
  config: string;
  batch: number;
  dtype: Precision;
  device: string;
  peers: LayerPeer[];
  /** The fastest dense layer over the trees: in i8 the fastest in i8, else the fastest in f32. */
  ratio: number;
  /** The same against dense layers of the very dtype. */
  ratioSameDtype: number;
  /** Of the trees, as a peer's. */
  maxRelativeError: number;
}

/**
 * Times fast feedforward trees against dense layers of as many neurons, ours and onnxruntime's, in one run by turns. Inputs differ
 * from call to call; a call's output is not read but in the check.
 */
export async function benchmarkLayer(device: Device, options: LayerBenchmarkOptions): Promise<LayerResult[]> {
  const inputs = { x: options.tokens };
  const results: LayerResult[] = [];
  for (const tree of options.layers) {
    const { width, trees, depth } = tree;
    const layers = await prepareLayers(device, options, tree, randomDense(width, tree.bias.length), inputs);
    try {
      for (const batch of options.batches) results.push(...(await measure(device, options, layers, `${trees}x${depth} ${width}`, batch)));
    } finally {
      for (const { work } of layers) await work.dispose();
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
  work: Work;
}

async function prepareLayers(
  device: Device,
  options: LayerBenchmarkOptions,
  tree: TreeWeights,
  dense: DenseWeights,
  inputs: Inputs<'x'>,
): Promise<Layer[]> {
  using reference = new ReferenceDevice();
  const expect = (layer: QueuedLayer) => queuedWork(reference, layer, inputs).output(checkedTokens);
  const expected = {
    trees: await expect(treeLayer(reference, tree, 'f32')),
    dense: await expect(denseLayer(reference, dense, 'f32')),
  };
  const layers: Layer[] = [];
  const addOurs = (kind: Layer['kind'], dtype: Precision) => {
    const layer = kind === 'trees' ? treeLayer(device, tree, dtype) : denseLayer(device, dense, dtype);
    layers.push({ name: `ours ${kind}`, dtype, kind, ours: true, expected: expected[kind], work: queuedWork(device, layer, inputs) });
  };
  for (const dtype of options.dtypes) {
    addOurs('trees', dtype);
    addOurs('dense', dtype);
  }
  // A bf16 layer is set against dense layers in f32 too.
  if (!options.dtypes.includes('f32')) addOurs('dense', 'f32');
  await device.finish();
  const { onnxRuntime } = options;
  if (!onnxRuntime) return layers;
  const addPeer = async (kind: Layer['kind'], dtype: 'f32' | 'i8') => {
    const graph = kind === 'trees' ? treesGraph(tree) : denseFeedforwardGraph(dense, dtype);
    const work = onnxWork(await onnxRuntime.session(graph, device.threads), inputs);
    const name = `${onnxRuntime.name} ${kind === 'trees' ? 'trees by standard operators' : 'dense'}`;
    layers.push({ name, dtype, kind, ours: false, expected: expected[kind], work });
  };
  await addPeer('dense', 'f32');
  if (options.dtypes.includes('i8')) await addPeer('dense', 'i8');
  await addPeer('trees', 'f32');
  return layers;
}

async function measure(
  device: Device,
  options: LayerBenchmarkOptions,
  layers: readonly Layer[],
  config: string,
  batch: number,
): Promise<LayerResult[]> {
  const timings = await contest(
    layers.map(({ work }) => work.contestant(batch)),
    options,
  );
  const rows: (LayerPeer & { ours: boolean })[] = [];
  for (const [i, { name, dtype, kind, ours, expected, work }] of layers.entries()) {
    const maxRelativeError = largestError(`${name} ${dtype}`, await work.output(batch), expected);
    rows.push({ name, dtype, kind, ours, maxRelativeError, ...perToken(timings[i], batch) });
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
        device: `${device.name}: ${device.description}`,
        usPerToken: trees.usPerToken,
        spread: trees.spread,
        peers: rows.filter((row) => row !== trees && (row.kind === 'dense' || !row.ours)).map(({ ours: _, ...peer }) => peer),
        ratio: fastest(trees.dtype === 'i8' ? 'i8' : 'f32') / trees.usPerToken,
        ratioSameDtype: fastest(trees.dtype) / trees.usPerToken,
        maxRelativeError: trees.maxRelativeError,
      };
      options.onResult?.(result);
      return result;
    });
}
