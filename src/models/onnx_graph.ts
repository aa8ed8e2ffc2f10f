/** Models as ONNX graphs of standard operators. */
import { firstNeuron, innerNodes, neuronsPerTree } from '../backend/tree_shape.ts';
import { OnnxGraphBuilder, quantizeColumns, transpose } from '../io/onnx_builder.ts';
import type { OnnxGraph, OnnxValue } from '../io/onnx_writer.ts';
import type { Activation } from '../nn/activation.ts';
import { sinusoid } from '../nn/embedding.ts';
import { exportParameter } from '../nn/parameter_arrays.ts';
import type { Model } from './checkpoint.ts';
import { familyOf, transformActivation } from './families/families.ts';

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

function activated(graph: OnnxGraphBuilder, x: string, activation: Activation = 'gelu'): string {
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

/**
 * The whole model: input_ids, attention_mask and, where it has token types, token_type_ids, i64 [batch, length], to logits [batch, length, vocabulary] (masked
 * language model), logits [batch, labels] (classifier) or last_hidden_state [batch, length, hidden] (encoder). Batch and length are free, up
 * to the model's positions. 'i8' rounds the weights of dense products, by output, and their inputs as they come.
 */
export async function modelGraph(model: Model, precision: 'f32' | 'i8' = 'f32'): Promise<OnnxGraph> {
  const { config } = model;
  const { hiddenSize: width, numAttentionHeads: heads, maxPositionEmbeddings: positions, vocabSize: vocabularySize, feedforward } = config;
  const { embeddingSize = width, positionOffset = 0 } = config;
  const arrays = new Map<string, Float32Array>();
  for (const parameter of model.parameters) for (const { name, values } of await exportParameter(parameter)) arrays.set(name, values);
  const family = familyOf(config);
  const names = family.names(arrays.has(`${family.names('').word}.weight`) ? '' : family.prefix);
  const get = (name: string): Float32Array => {
    const values = arrays.get(name);
    if (!values) throw new Error(`the model has no tensor '${name}'`);
    return values;
  };
  const graph = new OnnxGraphBuilder();
  const integers = graph.integers.bind(graph);
  const floats = graph.floats.bind(graph);

  /** input weight^T + bias, the weight [outputs, inputs], the bias if the checkpoint has one. */
  const linear = (input: string, part: string, outputs: number, inputs: number): string => {
    const weight = transpose(get(`${part}.weight`), outputs, inputs);
    const bias = arrays.get(`${part}.bias`);
    let product: string;
    if (precision === 'f32') product = graph.add('MatMul', [input, floats([inputs, outputs], weight)]);
    else {
      const { quantized, scales } = quantizeColumns(weight, inputs, outputs);
      const [rounded, scale, zero] = graph.addSeveral('DynamicQuantizeLinear', [input], 3);
      const sums = graph.add('MatMulInteger', [rounded, graph.constant('i8', [inputs, outputs], quantized), zero]);
      product = graph.add('Mul', [graph.add('Cast', [sums], { to: 1 }), graph.add('Mul', [scale, floats([outputs], scales)])]);
    }
    return bias ? graph.add('Add', [product, floats([outputs], bias)]) : product;
  };
  const norm = (input: string, part: string, size = width): string => {
    const operands = [input, floats([size], get(`${part}.weight`)), floats([size], get(`${part}.bias`))];
    return graph.add('LayerNormalization', operands, { axis: -1, epsilon: { float: config.layerNormEps } });
  };

  // Rows of a table for the positions there are.
  const length = graph.add('Shape', ['input_ids'], { start: 1, end: 2 });
  const firstRows = (table: string) => graph.add('Slice', [table, integers([0]), length, integers([0])]);
  /** Counted from behind padding, which has the row before (RoBERTa). */
  const countedPositions = () => {
    const isPadding = graph.add('Equal', ['input_ids', integers([config.padTokenId ?? -1], [])]);
    const counts = graph.add('Cast', [graph.add('Not', [isPadding])], { to: 7 });
    const counted = graph.add('Mul', [graph.add('CumSum', [counts, integers([1], [])]), counts]);
    return graph.add('Add', [counted, integers([positionOffset - 1], [])]);
  };
  const word = floats([vocabularySize, embeddingSize], get(`${names.word}.weight`));
  let hidden = graph.add('Gather', [word, 'input_ids'], { axis: 0 });
  if (names.positionScale !== undefined) {
    const scale = get(names.positionScale)[0];
    hidden = graph.add('Add', [
      hidden,
      firstRows(
        floats(
          [positions, width],
          sinusoid(positions, width).map((value) => value * scale),
        ),
      ),
    ]);
  } else {
    if (config.typeVocabSize > 0) {
      const types = floats([config.typeVocabSize, embeddingSize], get(`${names.tokenTypes}.weight`));
      hidden = graph.add('Add', [hidden, graph.add('Gather', [types, 'token_type_ids'], { axis: 0 })]);
    }
    const table = floats([positions + positionOffset, embeddingSize], get(`${names.positions}.weight`));
    hidden = graph.add('Add', [hidden, positionOffset === 0 ? firstRows(table) : graph.add('Gather', [table, countedPositions()])]);
  }
  hidden = norm(hidden, names.embeddingNorm!, embeddingSize);
  if (names.projection !== undefined && embeddingSize !== width) hidden = linear(hidden, names.projection, width, embeddingSize);

  // 0 where there is text, -10000 where there is padding: [batch, 1, 1, length].
  const present = graph.add('Cast', ['attention_mask'], { to: 1 });
  const missing = graph.add('Mul', [graph.add('Sub', [floats([1], [1]), present]), floats([1], [-10000])]);
  const mask = graph.add('Unsqueeze', [missing, integers([1, 2])]);
  const headSize = width / heads;

  const attention = (input: string, block: ReturnType<typeof names.block>): string => {
    let parts: string[];
    if (typeof block.queryKeyValue === 'string') {
      // Each head's query, key and value lie together.
      const all = linear(input, block.queryKeyValue, 3 * width, width);
      const split = graph.add('Reshape', [all, integers([0, 0, heads, 3, headSize])]);
      parts = [0, 1, 2].map((part) => graph.add('Gather', [split, integers([part], [])], { axis: 3 }));
    } else {
      parts = block.queryKeyValue.map((part) =>
        graph.add('Reshape', [linear(input, part, width, width), integers([0, 0, heads, headSize])]),
      );
    }
    const query = graph.add('Transpose', [parts[0]], { perm: [0, 2, 1, 3] });
    const key = graph.add('Transpose', [parts[1]], { perm: [0, 2, 3, 1] });
    const value = graph.add('Transpose', [parts[2]], { perm: [0, 2, 1, 3] });
    const products = graph.add('Mul', [graph.add('MatMul', [query, key]), floats([1], [1 / Math.sqrt(headSize)])]);
    const scores = graph.add('Softmax', [graph.add('Add', [products, mask])], { axis: -1 });
    const context = graph.add('Transpose', [graph.add('MatMul', [scores, value])], { perm: [0, 2, 1, 3] });
    return linear(graph.add('Reshape', [context, integers([0, 0, width])]), block.attentionDense, width, width);
  };
  const dense = (input: string, up: string, down: string, neurons: number) =>
    linear(activated(graph, linear(input, up, neurons, width), config.activation), down, width, neurons);
  /** What joins the stream; nothing calls it where there is no feedforward part. */
  const feed = (input: string, block: ReturnType<typeof names.block>): string => {
    if (feedforward.kind === 'none') throw new Error('there is no feedforward part');
    if (feedforward.kind === 'dense') return dense(input, block.up, block.down, feedforward.neurons);
    const bias = get(`${block.fastFeedforward}.linear_in.bias`);
    const y = addTrees(graph, graph.add('Reshape', [input, integers([-1, width])]), {
      ...feedforward,
      width,
      inputs: get(`${block.fastFeedforward}.linear_in.weight`),
      outputs: transpose(get(`${block.fastFeedforward}.linear_out.weight`), width, bias.length),
      bias,
      thresholds: arrays.get(`${block.fastFeedforward}.thresholds`),
    });
    const output = graph.add('Reshape', [y, graph.add('Shape', [input])]);
    const { fastFeedforward: name } = block;
    const { alwaysOn } = feedforward;
    return alwaysOn ? graph.add('Add', [output, dense(input, `${name}.dense_in`, `${name}.dense_out`, alwaysOn)]) : output;
  };
  const withoutFeedforward = feedforward.kind === 'none';

  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const block = names.block(layer);
    if (family.normPlacement === 'pre') {
      hidden = graph.add('Add', [hidden, attention(norm(hidden, block.norm1), block)]);
      if (!withoutFeedforward) hidden = graph.add('Add', [hidden, feed(norm(hidden, block.norm2), block)]);
    } else {
      hidden = norm(graph.add('Add', [hidden, attention(hidden, block)]), block.norm1);
      hidden = norm(withoutFeedforward ? hidden : graph.add('Add', [hidden, feed(hidden, block)]), block.norm2);
    }
  }
  if (names.finalNorm !== undefined) hidden = norm(hidden, names.finalNorm);

  const free = ['batch', 'length'];
  const output: OnnxValue = { name: 'last_hidden_state', type: 'f32', shape: [...free, width] };
  if (model.task === 'masked-lm') {
    const { transform, decoderBias } = names;
    if (transform) {
      const dense = linear(hidden, transform.dense, embeddingSize, width);
      hidden = norm(activated(graph, dense, transformActivation(config)), transform.norm, embeddingSize);
    }
    const decoder = config.untiedDecoder ? floats([vocabularySize, embeddingSize], get(`${names.decoder}.weight`)) : word;
    hidden = graph.add('MatMul', [hidden, graph.add('Transpose', [decoder], { perm: [1, 0] })]);
    if (decoderBias !== undefined) hidden = graph.add('Add', [hidden, floats([vocabularySize], get(decoderBias))]);
    Object.assign(output, { name: 'logits', shape: [...free, vocabularySize] });
  } else if (model.task === 'sequence-classification') {
    const { kind, size } = config.pooler;
    const pools = { mean: 'ReduceMean', max: 'ReduceMax', logSumExp: 'ReduceLogSumExp' } as const;
    const pooled =
      kind === 'first'
        ? graph.add('Gather', [hidden, integers([0], [])], { axis: 1 })
        : graph.add(pools[kind], [hidden, integers([1])], { keepdims: 0 });
    const activation = { tanh: 'Tanh', relu: 'Relu', gelu: 'Gelu' }[family.classifier.activation];
    hidden = linear(graph.add(activation, [linear(pooled, names.pooler, size, width)]), names.classifier, model.labels, size);
    Object.assign(output, { name: 'logits', shape: ['batch', model.labels] });
  }
  graph.add('Identity', [hidden], undefined, undefined, output.name);
  const inputs = ['input_ids', 'attention_mask', ...(config.typeVocabSize > 0 ? ['token_type_ids'] : [])];
  return {
    name: `${config.family} ${model.task}`,
    inputs: inputs.map((name) => ({ name, type: 'i64' as const, shape: free })),
    outputs: [output],
    initializers: graph.initializers,
    nodes: graph.nodes,
  };
}
