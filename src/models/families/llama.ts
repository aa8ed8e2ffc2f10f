/**
 * Llama (arXiv 2407.21783) and models of its layers, SmolLM2 and TinyLlama, and Qwen2 (arXiv 2407.10671), as transformers has them: RMS norms, rotary
 * positions, gated feedforward layers, and heads of keys and values that several heads of queries share. With trees they are 'ultrafastllama' and
 * 'ultrafastqwen2', of which the keys and names are theirs and ours.
 */
import * as v from 'valibot';
import { InputError, quoted } from '../../errors.ts';
import type { ModelConfig } from '../config.ts';
import type { RotaryPositions } from '../rotary_positions.ts';
import {
  count,
  feedforwardEntries,
  fromFeedforwardEntries,
  headCount,
  hidden,
  layerCount,
  neurons,
  numberOrNone,
  oneOrSeveral,
  probability,
  tokenId,
  tokenIds,
  validate,
  vocabulary,
} from './entries.ts';
import type { Family } from './family.ts';
import { activation, activationName, activationOf, modelTypeOf, toFeedforward, treeActivation } from './hugging_face.ts';

const positiveNumber = v.pipe(v.number(), v.gtValue(0));

/** Rotation's settings: in files of transformers 5 all of them, in files of before the scaling alone, its kind under either name. */
const rotation = v.nullish(
  v.looseObject({
    rope_type: v.nullish(v.string()),
    type: v.nullish(v.string()),
    rope_theta: v.nullish(positiveNumber),
    factor: v.nullish(positiveNumber),
    low_freq_factor: v.nullish(positiveNumber),
    high_freq_factor: v.nullish(positiveNumber),
    original_max_position_embeddings: v.nullish(positiveNumber),
  }),
);
type Rotation = NonNullable<v.InferOutput<typeof rotation>>;

const entries = {
  vocab_size: v.optional(vocabulary, 32000),
  hidden_size: v.optional(hidden, 4096),
  num_hidden_layers: v.optional(layerCount, 32),
  num_attention_heads: v.optional(headCount, 32),
  num_key_value_heads: v.nullish(headCount),
  head_dim: v.nullish(count(2 ** 10)),
  // No table is made of them.
  max_position_embeddings: v.optional(count(2 ** 24), 2048),
  rms_norm_eps: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 1e-6),
  initializer_range: v.optional(v.pipe(v.number(), v.minValue(0)), 0.02),
  attention_dropout: v.optional(probability, 0),
  attention_bias: v.nullish(v.literal(false), false),
  mlp_bias: v.nullish(v.literal(false), false),
  use_sliding_window: v.nullish(v.literal(false), false),
  tie_word_embeddings: v.nullish(v.boolean(), false),
  bos_token_id: tokenId,
  eos_token_id: tokenIds,
  pad_token_id: tokenId,
  rope_theta: v.nullish(positiveNumber),
  rope_scaling: rotation,
  rope_parameters: rotation,
};

const ofTrees = { ...feedforwardEntries, intermed_type: v.picklist(['fff', 'none']), hidden_act: treeActivation };

/** `name`: of transformers' classes. `queryKeyValueBias`: their projections have one. `defaults`: of what a file may leave out, beside Llama's. */
function llamaFamily(type: string, name: string, queryKeyValueBias: boolean, defaults: Record<string, unknown> = {}): Family {
  const modelTypes = { dense: type, trees: `ultrafast${type}` };
  const ofDense = { intermediate_size: v.optional(neurons, 11008), hidden_act: v.optional(activation, 'silu') };
  const dense = v.object({ ...entries, model_type: v.literal(modelTypes.dense), ...ofDense });
  const trees = v.object({ ...entries, model_type: v.literal(modelTypes.trees), ...ofTrees });
  return {
    modelTypes,
    decoder: { norm: 'rms', transposed: false },
    normPlacement: 'pre',
    specialTokens: false,
    transformFollows: false,
    classifier: { activation: 'tanh', inputDropout: false },
    prefix: 'model.',
    heads: /^(lm_head|score)\./,
    maskedHead: /^lm_head\./,
    unused: /\.rotary_emb\.inv_freq$/,
    writesTiedDecoder: false,
    names: (prefix) => ({
      word: `${prefix}embed_tokens`,
      block(index) {
        const block = `${prefix}layers.${index}`;
        const attention = `${block}.self_attn`;
        return {
          norm1: `${block}.input_layernorm`,
          norm2: `${block}.post_attention_layernorm`,
          queryKeyValue: [`${attention}.q_proj`, `${attention}.k_proj`, `${attention}.v_proj`],
          attentionDense: `${attention}.o_proj`,
          gate: `${block}.mlp.gate_proj`,
          up: `${block}.mlp.up_proj`,
          down: `${block}.mlp.down_proj`,
          fastFeedforward: `${block}.mlp`,
        };
      },
      finalNorm: `${prefix}norm`,
      decoder: 'lm_head',
      pooler: 'pooler',
      classifier: 'score',
    }),
    readConfig(json, source) {
      const own = validate(modelTypeOf(json) === type ? dense : trees, { ...defaults, ...(json as object) }, source);
      const { num_attention_heads: heads, num_key_value_heads: keyValueHeads } = own;
      if (keyValueHeads && heads % keyValueHeads !== 0)
        throw new InputError(`${source}: 'num_key_value_heads' is ${keyValueHeads}, which ${heads} heads cannot share`);
      const headSize = own.head_dim ?? own.hidden_size / heads;
      if (headSize % 2 === 1)
        throw new InputError(`${source}: heads have ${headSize} elements, expected an even number: pairs of them turn by the position`);
      return {
        family: own.model_type,
        vocabSize: own.vocab_size,
        hiddenSize: own.hidden_size,
        numHiddenLayers: own.num_hidden_layers,
        numAttentionHeads: heads,
        numKeyValueHeads: keyValueHeads ?? undefined,
        headSize: own.head_dim ?? undefined,
        maxPositionEmbeddings: own.max_position_embeddings,
        rotary: rotaryOf(own, source),
        bosTokenId: numberOrNone(own.bos_token_id),
        eosTokenIds: own.eos_token_id ?? undefined,
        padTokenId: numberOrNone(own.pad_token_id),
        untiedDecoder: own.tie_word_embeddings === true ? undefined : true,
        typeVocabSize: 0,
        feedforward:
          'intermediate_size' in own
            ? { kind: 'dense', neurons: own.intermediate_size, gated: true }
            : fromFeedforwardEntries(own, `${source}: '`),
        activation: activationOf(own.hidden_act),
        bias: { queryKeyValue: queryKeyValueBias, dense: false },
        layerNormEps: own.rms_norm_eps,
        initializerRange: own.initializer_range,
        dropout: { embedding: 0, attention: own.attention_dropout, hidden: 0, classifier: 0 },
        mlmProbability: 0.15,
        pooler: { kind: 'first', size: own.hidden_size },
      };
    },
    writeConfig(config: ModelConfig) {
      const { numAttentionHeads: heads } = config;
      const isDense = config.family === modelTypes.dense;
      return {
        architectures: [`${isDense ? '' : 'UltraFast'}${name}ForCausalLM`],
        model_type: config.family,
        vocab_size: config.vocabSize,
        hidden_size: config.hiddenSize,
        ...toFeedforward(config.feedforward, isDense),
        num_hidden_layers: config.numHiddenLayers,
        num_attention_heads: heads,
        num_key_value_heads: config.numKeyValueHeads ?? heads,
        ...(config.headSize !== undefined && { head_dim: config.headSize }),
        max_position_embeddings: config.maxPositionEmbeddings,
        hidden_act: activationName(config),
        rms_norm_eps: config.layerNormEps,
        initializer_range: config.initializerRange,
        attention_dropout: config.dropout.attention,
        tie_word_embeddings: !config.untiedDecoder,
        bos_token_id: config.bosTokenId ?? null,
        eos_token_id: oneOrSeveral(config.eosTokenIds),
        pad_token_id: config.padTokenId ?? null,
        rope_parameters: fromRotary(config.rotary),
      };
    },
  };
}

type Own = { rope_theta?: number | null; rope_scaling?: Rotation | null; rope_parameters?: Rotation | null };

/** As transformers takes them: what is said together, before what was said apart in files of before. */
function rotaryOf({ rope_theta, rope_scaling, rope_parameters }: Own, source: string): RotaryPositions {
  const said = { ...rope_scaling, ...rope_parameters };
  const base = said.rope_theta ?? rope_theta ?? 10000;
  const kind = said.rope_type ?? said.type ?? 'default';
  const needed = (key: keyof Rotation): number => {
    const value = said[key];
    if (typeof value !== 'number')
      throw new InputError(`${source}: '${key}' of the rotation is ${quoted(value)}, expected a number above 0`);
    return value;
  };
  if (kind === 'default') return { base };
  if (kind === 'linear') return { base, scaling: { kind, factor: needed('factor') } };
  if (kind === 'llama3') {
    const [low, high] = [needed('low_freq_factor'), needed('high_freq_factor')];
    const originalPositions = needed('original_max_position_embeddings');
    return { base, scaling: { kind, factor: needed('factor'), lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions } };
  }
  throw new InputError(`${source}: 'rope_type' is ${quoted(kind)}, expected "default", "linear" or "llama3"`);
}

function fromRotary({ base, scaling }: RotaryPositions = { base: 10000 }): Record<string, unknown> {
  const common = { rope_theta: base, rope_type: scaling?.kind ?? 'default', ...(scaling && { factor: scaling.factor }) };
  if (scaling?.kind !== 'llama3') return common;
  const { lowFrequencyFactor, highFrequencyFactor, originalPositions } = scaling;
  return {
    ...common,
    low_freq_factor: lowFrequencyFactor,
    high_freq_factor: highFrequencyFactor,
    original_max_position_embeddings: originalPositions,
  };
}

export const llama = llamaFamily('llama', 'Llama', false, { bos_token_id: 1, eos_token_id: 2 });
export const qwen2 = llamaFamily('qwen2', 'Qwen2', true, {
  ...{ vocab_size: 151936, intermediate_size: 22016, num_key_value_heads: 32, max_position_embeddings: 32768 },
});
