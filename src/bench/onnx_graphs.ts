/** Graphs for the benchmark's peer, onnxruntime, in the form that it runs fastest: its fused operators where there are any. */

import { microsoft, OnnxGraphBuilder, quantizeColumns, transpose } from '../io/onnx_builder.ts';
import type { OnnxGraph } from '../io/onnx_writer.ts';
import { addTrees } from '../models/onnx_layers.ts';

/** Weights of a dense feedforward layer: up [neurons, width], down [width, neurons]; no biases. */
export interface DenseWeights {
  width: number;
  neurons: number;
  up: Float32Array;
  down: Float32Array;
}

/** Weights of fast feedforward trees, in the backend's layout: nodes [trees n, 2 width], bias [trees n], thresholds [trees, 2^depth - 1] (absent: all 0). */
export interface TreeWeights {
  width: number;
  trees: number;
  depth: number;
  nodes: Float32Array;
  bias: Float32Array;
  thresholds?: Float32Array;
}

class GraphBuilder extends OnnxGraphBuilder {
  /** input weight^T with the weight [outputs, inputs] in f32, or rounded to i8, its input dynamically to u8. */
  linear(input: string, weight: Float32Array, outputs: number, inputs: number, precision: 'f32' | 'i8'): string {
    const transposed = transpose(weight, outputs, inputs);
    if (precision === 'f32') return this.add('MatMul', [input, this.floats([inputs, outputs], transposed)]);
    const { quantized, scales } = quantizeColumns(transposed, inputs, outputs);
    const operands = [
      input,
      this.constant('i8', [inputs, outputs], quantized),
      this.floats([outputs], scales),
      this.constant('i8', [outputs], new Int8Array(outputs)),
    ];
    return this.add('DynamicQuantizeMatMul', operands, undefined, microsoft);
  }
}

/** x [tokens, width] to y: gelu(x up^T) down^T. */
export function denseFeedforwardGraph({ width, neurons, up, down }: DenseWeights, precision: 'f32' | 'i8'): OnnxGraph {
  const graph = new GraphBuilder();
  const hidden = graph.add('Gelu', [graph.linear('x', up, neurons, width, precision)]);
  const y = graph.linear(hidden, down, width, neurons, precision);
  return finish(graph, 'dense feedforward', y, width);
}

/** x [tokens, width] to y [tokens, outputs]: x weight^T. */
export function linearGraph(weight: Float32Array, outputs: number, width: number): OnnxGraph {
  const graph = new GraphBuilder();
  return finish(graph, 'linear', graph.linear('x', weight, outputs, width, 'f32'), width, outputs);
}

/**
 * x [tokens, width] and chosen i32 [tokens, choices] to y [tokens, choices blockSize]: each token's own blocks of the weight [outputs,
 * width] are copied out and multiplied by its x.
 */
export function gatheredGraph(weight: Float32Array, outputs: number, width: number, blockSize: number): OnnxGraph {
  const graph = new GraphBuilder();
  const integers = (values: readonly number[]) => graph.integers(values);
  const blocks = graph.floats([outputs / blockSize, blockSize, width], weight);
  const gathered = graph.add('Reshape', [graph.add('Gather', [blocks, 'chosen'], { axis: 0 }), integers([0, -1, width])]);
  const products = graph.add('MatMul', [gathered, graph.add('Unsqueeze', ['x', integers([2])])]);
  const made = finish(graph, 'gathered', graph.add('Squeeze', [products, integers([2])]), width, 'chosen rows');
  return { ...made, inputs: [...made.inputs, { name: 'chosen', type: 'i32', shape: ['tokens', 'choices'] }] };
}

/** Fast feedforward trees by standard operators. */
export function treesGraph({ width, trees, depth, nodes, bias, thresholds }: TreeWeights): OnnxGraph {
  const graph = new GraphBuilder();
  const half = (from: number) => {
    const values = new Float32Array(bias.length * width);
    for (let node = 0; node < bias.length; node++)
      values.set(nodes.subarray(node * 2 * width + from, node * 2 * width + from + width), node * width);
    return values;
  };
  const y = addTrees(graph, 'x', { width, trees, depth, inputs: half(0), outputs: half(width), bias, thresholds });
  return finish(graph, 'fast feedforward', y, width);
}

export interface EncoderShape {
  layers: number;
  width: number;
  heads: number;
  neurons: number;
  normEpsilon?: number;
}

interface Affine {
  weight: Float32Array;
  bias: Float32Array;
}

/** The weights of a block: linear layers [outputs, inputs], queryKeyValue [3 width, width], and norms, whose weight is gamma. */
export type BlockWeights = Record<'queryKeyValue' | 'attentionDense' | 'norm1' | 'up' | 'down' | 'norm2', Affine>;

/**
 * BERT's encoder without embeddings (post-norm, all positions attended): x [batch, length, width] to y, by onnxruntime's fused
 * Attention, SkipLayerNormalization and BiasGelu, or their quantized forms.
 */
export function encoderGraph(
  { width, heads, neurons, normEpsilon = 1e-12 }: Omit<EncoderShape, 'layers'>,
  precision: 'f32' | 'i8',
  blocks: readonly BlockWeights[],
): OnnxGraph {
  const graph = new GraphBuilder();
  let hidden = 'x';
  for (const [layer, { queryKeyValue, attentionDense, norm1, up, down, norm2 }] of blocks.entries()) {
    const weight = transpose(queryKeyValue.weight, 3 * width, width);
    const bias = graph.floats([3 * width], queryKeyValue.bias);
    const attributes = { num_heads: heads };
    let context: string;
    if (precision === 'f32')
      context = graph.add('Attention', [hidden, graph.floats([width, 3 * width], weight), bias], attributes, microsoft);
    else {
      const { quantized, scales } = quantizeColumns(weight, width, 3 * width);
      const [x, scale, zero] = ['rounded', 'scale', 'zero'].map((name) => `${name}${layer}`);
      graph.nodes.push({ operator: 'DynamicQuantizeLinear', inputs: [hidden], outputs: [x, scale, zero] });
      const rounded = graph.constant('i8', [width, 3 * width], quantized);
      const zeros = graph.constant('i8', [3 * width], new Int8Array(3 * width));
      const operands = [x, rounded, bias, scale, graph.floats([3 * width], scales), '', zero, zeros];
      context = graph.add('QAttention', operands, attributes, microsoft);
    }
    const skip = (branch: string, norm: Affine, bias: Float32Array) => {
      const [gamma, beta, added] = [norm.weight, norm.bias, bias].map((values) => graph.floats([width], values));
      hidden = graph.add('SkipLayerNormalization', [branch, hidden, gamma, beta, added], { epsilon: { float: normEpsilon } }, microsoft);
    };
    skip(graph.linear(context, attentionDense.weight, width, width, precision), norm1, attentionDense.bias);
    const logits = graph.linear(hidden, up.weight, neurons, width, precision);
    const activated = graph.add('BiasGelu', [logits, graph.floats([neurons], up.bias)], undefined, microsoft);
    skip(graph.linear(activated, down.weight, width, neurons, precision), norm2, down.bias);
  }
  graph.add('Identity', [hidden], undefined, undefined, 'y');
  const value = (name: string) => ({ name, type: 'f32' as const, shape: ['batch', 'length', width] });
  return { name: 'encoder', inputs: [value('x')], outputs: [value('y')], initializers: graph.initializers, nodes: graph.nodes };
}

export function concatenate(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function finish(graph: GraphBuilder, name: string, y: string, width: number, outputs: number | string = width): OnnxGraph {
  graph.add('Identity', [y], undefined, undefined, 'y');
  const value = (of: string, columns: number | string) => ({ name: of, type: 'f32' as const, shape: ['tokens', columns] });
  return { name, inputs: [value('x', width)], outputs: [value('y', outputs)], initializers: graph.initializers, nodes: graph.nodes };
}
