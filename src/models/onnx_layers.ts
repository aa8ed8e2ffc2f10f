/** What graphs of models are made of: linear layers, norms and feedforward parts by standard ONNX operators. */
import { firstNeuron, innerNodes, neuronsPerTree } from '../backend/tree_shape.ts';
import { OnnxGraphBuilder, quantizeColumns, transpose } from '../io/onnx_builder.ts';
import type { Activation } from '../nn/activation.ts';
import type { Parameter } from '../nn/parameter.ts';
import { exportParameter } from '../nn/parameter_arrays.ts';
import type { ModelConfig } from './config.ts';
import { familyOf } from './families/families.ts';
import type { BlockNames, ModelNames } from './families/family.ts';

/** Weights of fast feedforward trees; n neurons, as a checkpoint counts them (see the operation fff). */
export interface OnnxTrees {
  width: number;
  trees: number;
  depth: number;
  leafWidth?: number;
  /** [n, width]. */
  inputs: Float32Array;
  /** [n, width]. */
  outputs: Float32Array;
  /** [n]. */
  bias: Float32Array;
  /** [trees, 2^depth - 1], of the inner nodes; absent: all 0. */
  thresholds?: Float32Array;
}

/** Fast feedforward trees by standard operators: x [tokens, width] to y; gathers each level's rows, compares, goes on. */
export function addTrees(
  graph: OnnxGraphBuilder,
  x: string,
  { width, trees, depth, leafWidth = 1, inputs, outputs, bias, thresholds }: OnnxTrees,
): string {
  const perTree = neuronsPerTree(depth, leafWidth);
  const neurons = trees * perTree;
  const [weightIn, weightOut, biases] = [
    graph.floats([neurons, width], inputs),
    graph.floats([neurons, width], outputs),
    graph.floats([neurons], bias),
  ];
  const roots = graph.integers(
    Array.from({ length: trees }, (_, tree) => tree * perTree),
    [1, trees],
  );
  const tokens = graph.add('Shape', [x], { start: 0, end: 1 });
  const shape = graph.add('Concat', [tokens, graph.integers([trees])], { axis: 0 });
  const limitOf = thresholds?.some((value) => value !== 0) ? ownThresholds(graph, trees, depth, thresholds) : undefined;
  // Node of each token and tree, counted within the tree: 2 k + 1 + (z > threshold).
  let k = graph.add('Expand', [graph.integers([0], [1, 1]), shape]);
  const [one, two] = [graph.integers([1]), graph.integers([2])];
  const repeated = graph.add('Unsqueeze', [x, one]);
  let y = '';
  for (let level = 0; level <= depth; level++) {
    let rows = graph.add('Add', [k, roots]);
    if (level === depth && leafWidth > 1) {
      // Leaf k begins at neuron `inner` + (k - inner) leafWidth, and its neurons lie side by side.
      const inner = firstNeuron(2 ** depth - 1, depth, leafWidth);
      const ofLeaf = graph.add('Mul', [graph.add('Sub', [k, graph.integers([inner])]), graph.integers([leafWidth])]);
      const first = graph.add('Add', [graph.add('Add', [ofLeaf, graph.integers([inner])]), roots]);
      const each = graph.add('Add', [graph.add('Unsqueeze', [first, two]), graph.integers(Array.from({ length: leafWidth }, (_, i) => i))]);
      rows = graph.add('Reshape', [each, graph.integers([0, -1])]);
    }
    const products = graph.add('Mul', [repeated, graph.add('Gather', [weightIn, rows])]);
    const z = graph.add('Add', [graph.add('ReduceSum', [products, two], { keepdims: 0 }), graph.add('Gather', [biases, rows])]);
    const activation = graph.add('Unsqueeze', [graph.add('Gelu', [z]), two]);
    const added = graph.add('ReduceSum', [graph.add('Mul', [activation, graph.add('Gather', [weightOut, rows])]), one], { keepdims: 0 });
    y = y === '' ? added : graph.add('Add', [y, added]);
    if (level === depth) break;
    const limit = limitOf?.(k) ?? graph.floats([1], [0]);
    const right = graph.add('Cast', [graph.add('Greater', [z, limit])], { to: 7 });
    k = graph.add('Add', [graph.add('Add', [graph.add('Mul', [k, two]), one]), right]);
  }
  return y;
}

export function activated(graph: OnnxGraphBuilder, x: string, activation: Activation = 'gelu'): string {
  if (activation === 'silu') return graph.add('Mul', [x, graph.add('Sigmoid', [x])]);
  if (activation === 'relu') return graph.add('Relu', [x]);
  return graph.add('Gelu', [x], activation === 'geluTanh' ? { approximate: 'tanh' } : undefined);
}

/** The thresholds of the nodes [tokens, trees] that tokens are at. */
function ownThresholds(graph: OnnxGraphBuilder, trees: number, depth: number, thresholds: Float32Array): (nodes: string) => string {
  const limits = graph.floats([trees * innerNodes(depth)], thresholds);
  const roots = graph.integers(
    Array.from({ length: trees }, (_, tree) => tree * innerNodes(depth)),
    [1, trees],
  );
  return (nodes) => graph.add('Gather', [limits, graph.add('Add', [nodes, roots])]);
}

/** Of a model's dense products: rounded by output, with their inputs rounded as they come, or not. */
export type OnnxPrecision = 'f32' | 'i8';

/** A graph in the making, and the weights of a model that go into it. */
export class OnnxLayers {
  readonly graph = new OnnxGraphBuilder();

  private constructor(
    readonly config: ModelConfig,
    readonly names: ModelNames,
    private readonly arrays: ReadonlyMap<string, Float32Array>,
    private readonly precision: OnnxPrecision,
  ) {}

  static async of(
    { config, parameters }: { config: ModelConfig; parameters: readonly Parameter[] },
    precision: OnnxPrecision,
  ): Promise<OnnxLayers> {
    const arrays = new Map<string, Float32Array>();
    for (const parameter of parameters) for (const { name, values } of await exportParameter(parameter)) arrays.set(name, values);
    const family = familyOf(config);
    return new OnnxLayers(config, family.names(arrays.has(`${family.names('').word}.weight`) ? '' : family.prefix), arrays, precision);
  }

  get(name: string): Float32Array {
    const values = this.arrays.get(name);
    if (!values) throw new Error(`the model has no tensor '${name}'`);
    return values;
  }

  /** input weight^T + bias, the weight [outputs, inputs] (transposed in a block of some decoders), the bias if the checkpoint has one. */
  linear(input: string, part: string, outputs: number, inputs: number): string {
    const { graph } = this;
    const stored = this.get(`${part}.weight`);
    const weight = familyOf(this.config).decoder?.transposed ? stored : transpose(stored, outputs, inputs);
    const bias = this.arrays.get(`${part}.bias`);
    let product: string;
    if (this.precision === 'f32') product = graph.add('MatMul', [input, graph.floats([inputs, outputs], weight)]);
    else {
      const { quantized, scales } = quantizeColumns(weight, inputs, outputs);
      const [rounded, scale, zero] = graph.addSeveral('DynamicQuantizeLinear', [input], 3);
      const sums = graph.add('MatMulInteger', [rounded, graph.constant('i8', [inputs, outputs], quantized), zero]);
      product = graph.add('Mul', [graph.add('Cast', [sums], { to: 1 }), graph.add('Mul', [scale, graph.floats([outputs], scales)])]);
    }
    return bias ? graph.add('Add', [product, graph.floats([outputs], bias)]) : product;
  }

  norm(input: string, part: string, size = this.config.hiddenSize): string {
    const { graph } = this;
    const operands = [input, graph.floats([size], this.get(`${part}.weight`)), graph.floats([size], this.get(`${part}.bias`))];
    return graph.add('LayerNormalization', operands, { axis: -1, epsilon: { float: this.config.layerNormEps } });
  }

  /** What a feedforward part adds to the stream; nothing calls it where there is none. */
  feedforward(input: string, block: BlockNames): string {
    const { graph } = this;
    const { feedforward, hiddenSize: width } = this.config;
    if (feedforward.kind === 'none') throw new Error('there is no feedforward part');
    if (feedforward.kind === 'dense') return this.dense(input, block.up, block.down, feedforward.neurons);
    const { fastFeedforward: name } = block;
    const bias = this.get(`${name}.linear_in.bias`);
    const y = addTrees(graph, graph.add('Reshape', [input, graph.integers([-1, width])]), {
      ...feedforward,
      width,
      inputs: this.get(`${name}.linear_in.weight`),
      outputs: transpose(this.get(`${name}.linear_out.weight`), width, bias.length),
      bias,
      thresholds: this.arrays.get(`${name}.thresholds`),
    });
    const output = graph.add('Reshape', [y, graph.add('Shape', [input])]);
    const { alwaysOn } = feedforward;
    return alwaysOn ? graph.add('Add', [output, this.dense(input, `${name}.dense_in`, `${name}.dense_out`, alwaysOn)]) : output;
  }

  private dense(input: string, up: string, down: string, neurons: number): string {
    const { hiddenSize: width, activation } = this.config;
    return this.linear(activated(this.graph, this.linear(input, up, neurons, width), activation), down, width, neurons);
  }
}
