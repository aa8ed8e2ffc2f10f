/** Models as ONNX graphs of standard operators. */
import type { OnnxGraph, OnnxValue } from '../io/onnx_writer.ts';
import { sinusoid } from '../nn/embedding.ts';
import type { Model } from './checkpoint.ts';
import { familyOf, transformActivation } from './families/families.ts';
import { activated, OnnxLayers, type OnnxPrecision } from './onnx_layers.ts';

/**
 * The whole model: input_ids, attention_mask and, where it has token types, token_type_ids, i64 [batch, length], to logits [batch, length, vocabulary] (masked
 * language model), logits [batch, labels] (classifier) or last_hidden_state [batch, length, hidden] (encoder). Batch and length are free, up
 * to the model's positions. 'i8' rounds the weights of dense products, by output, and their inputs as they come.
 */
export async function modelGraph(model: Model, precision: OnnxPrecision = 'f32'): Promise<OnnxGraph> {
  const { config } = model;
  const { hiddenSize: width, numAttentionHeads: heads, maxPositionEmbeddings: positions, vocabSize: vocabularySize, feedforward } = config;
  const { embeddingSize = width, positionOffset = 0 } = config;
  const family = familyOf(config);
  const layers = await OnnxLayers.of(model, precision);
  const { graph, names } = layers;
  const get = layers.get.bind(layers);
  const integers = graph.integers.bind(graph);
  const floats = graph.floats.bind(graph);
  const linear = layers.linear.bind(layers);
  const norm = layers.norm.bind(layers);

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
  const withoutFeedforward = feedforward.kind === 'none';

  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const block = names.block(layer);
    if (family.normPlacement === 'pre') {
      hidden = graph.add('Add', [hidden, attention(norm(hidden, block.norm1), block)]);
      if (!withoutFeedforward) hidden = graph.add('Add', [hidden, layers.feedforward(norm(hidden, block.norm2), block)]);
    } else {
      hidden = norm(graph.add('Add', [hidden, attention(hidden, block)]), block.norm1);
      hidden = norm(withoutFeedforward ? hidden : graph.add('Add', [hidden, layers.feedforward(hidden, block)]), block.norm2);
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
