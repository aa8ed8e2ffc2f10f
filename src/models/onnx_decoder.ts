/** Decoders as ONNX graphs of standard operators, with what they keep of the tokens before as inputs and outputs. */
import { InputError } from '../errors.ts';
import type { OnnxGraph, OnnxValue } from '../io/onnx_writer.ts';
import type { CausalLanguageModel } from './causal_language_model.ts';
import { familyOf } from './families/families.ts';
import { OnnxLayers, type OnnxPrecision } from './onnx_layers.ts';

/** Added to scores of keys that a query does not see; as finite as that, a row that sees none has no NaN. */
const hidden = -1e9;

/**
 * input_ids [batch, length], attention_mask [batch, past + length] and position_ids [batch, length], i64, and of each layer N past_key_values.N.key and .value
 * [batch, heads, past, head size], to logits [batch, length, vocabulary] and present.N.key and .value, in which `past` is longer by `length`: the names that
 * transformers.js and optimum have. Extents are free, `past` may be 0. 'i8' as in `modelGraph`.
 * @throws InputError if the model has rotary positions
 */
export async function decoderGraph(model: CausalLanguageModel, precision: OnnxPrecision = 'f32'): Promise<OnnxGraph> {
  const { config } = model;
  const { hiddenSize: width, numAttentionHeads: heads, vocabSize: vocabulary, maxPositionEmbeddings: positions } = config;
  if (familyOf(config).decoder?.norm !== 'layer' || config.rotary)
    throw new InputError(`a model of the family '${config.family}' cannot be written as ONNX yet, expected one of GPT-2's form`);
  const layers = await OnnxLayers.of(model, precision);
  const { graph, names } = layers;
  const headSize = width / heads;
  const integers = graph.integers.bind(graph);

  const word = graph.floats([vocabulary, width], layers.get(`${names.word}.weight`));
  const position = graph.floats([positions, width], layers.get(`${names.positions}.weight`));
  let stream = graph.add('Add', [graph.add('Gather', [word, 'input_ids']), graph.add('Gather', [position, 'position_ids'])]);

  // A query sees keys up to its own place, of tokens that are no padding: [batch, 1, length, past + length].
  const extent = (value: string, axis: number) =>
    graph.add('Squeeze', [graph.add('Shape', [value], { start: axis, end: axis + 1 }), integers([0])]);
  const [one, zero] = [integers([1], []), integers([0], [])];
  const past = extent('past_key_values.0.key', 2);
  const total = graph.add('Add', [past, extent('input_ids', 1)]);
  const places = graph.add('Unsqueeze', [graph.add('Range', [past, total, one]), integers([1])]);
  const isBefore = graph.add('LessOrEqual', [graph.add('Range', [zero, total, one]), places]);
  const isText = graph.add('Unsqueeze', [graph.add('Cast', ['attention_mask'], { to: 9 }), integers([1, 2])]);
  const mask = graph.add('Where', [graph.add('And', [isBefore, isText]), graph.floats([1], [0]), graph.floats([1], [hidden])]);

  const attention = (input: string, layer: number): string => {
    const { queryKeyValue, attentionDense } = names.block(layer);
    const all = layers.linear(input, queryKeyValue as string, 3 * width, width);
    // Queries, keys and values one behind the other, each by heads: [3, batch, heads, length, head size].
    const split = graph.add('Transpose', [graph.add('Reshape', [all, integers([0, 0, 3, heads, headSize])])], { perm: [2, 0, 3, 1, 4] });
    const [query, ...own] = [0, 1, 2].map((part) => graph.add('Gather', [split, integers([part], [])], { axis: 0 }));
    const [key, value] = ['key', 'value'].map((part, index) =>
      graph.add('Concat', [`past_key_values.${layer}.${part}`, own[index]], { axis: 2 }, undefined, `present.${layer}.${part}`),
    );
    const products = graph.add('MatMul', [query, graph.add('Transpose', [key], { perm: [0, 1, 3, 2] })]);
    const scores = graph.add('Add', [graph.add('Mul', [products, graph.floats([1], [1 / Math.sqrt(headSize)])]), mask]);
    const context = graph.add('MatMul', [graph.add('Softmax', [scores], { axis: -1 }), value]);
    const joined = graph.add('Reshape', [graph.add('Transpose', [context], { perm: [0, 2, 1, 3] }), integers([0, 0, width])]);
    return layers.linear(joined, attentionDense, width, width);
  };

  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const block = names.block(layer);
    stream = graph.add('Add', [stream, attention(layers.norm(stream, block.norm1), layer)]);
    if (config.feedforward.kind !== 'none')
      stream = graph.add('Add', [stream, layers.feedforward(layers.norm(stream, block.norm2), block)]);
  }
  const decoder = config.untiedDecoder ? graph.floats([vocabulary, width], layers.get(`${names.decoder}.weight`)) : word;
  const last = layers.norm(stream, names.finalNorm as string);
  graph.add('MatMul', [last, graph.add('Transpose', [decoder], { perm: [1, 0] })], undefined, undefined, 'logits');

  const ofLayers = (name: string, length: string): OnnxValue[] =>
    Array.from({ length: config.numHiddenLayers }, (_, layer) => layer).flatMap((layer) =>
      ['key', 'value'].map((part) => ({
        name: `${name}.${layer}.${part}`,
        type: 'f32' as const,
        shape: ['batch', heads, length, headSize],
      })),
    );
  const ids = (name: string, length: string): OnnxValue => ({ name, type: 'i64', shape: ['batch', length] });
  return {
    name: `${config.family} causal-lm`,
    inputs: [
      ids('input_ids', 'length'),
      ids('attention_mask', 'total'),
      ids('position_ids', 'length'),
      ...ofLayers('past_key_values', 'past'),
    ],
    outputs: [{ name: 'logits', type: 'f32', shape: ['batch', 'length', vocabulary] }, ...ofLayers('present', 'total')],
    initializers: graph.initializers,
    nodes: graph.nodes,
  };
}
