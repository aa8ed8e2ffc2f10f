import type { ModelConfig } from './config.ts';

/** What a checkpoint calls the parts of a block. A part NAME has the tensors NAME.weight and, where there is one, NAME.bias. */
export interface BlockNames {
  norm1: string;
  norm2: string;
  /** One projection, or query, key and value apart. */
  queryKeyValue: string | readonly [string, string, string];
  attentionDense: string;
  /** The dense feedforward layer. */
  up: string;
  down: string;
  /** The FFF: NAME.linear_in and NAME.linear_out. */
  fastFeedforward: string;
  /** A buffer of one number, 1 / sqrt(head size), in crammedBERT's checkpoints. */
  normFactor?: string;
}

/** What a checkpoint calls a model's parts. */
export interface ModelNames {
  word: string;
  /** crammedBERT's factor of the sinusoid, a tensor's full name. */
  positionScale: string;
  /** BERT's tables. */
  positions: string;
  tokenTypes: string;
  embeddingNorm: string;
  block(index: number): BlockNames;
  finalNorm: string;
  /** BERT's transform before the decoder. */
  transformDense: string;
  transformNorm: string;
  /** The tied decoder; its weight is a copy of the word embedding. */
  decoder: string;
  /** The decoder's bias, a tensor's full name. */
  decoderBias: string;
  pooler: string;
  classifier: string;
}

const unused = '';

const crammedBertNames: ModelNames = {
  word: 'encoder.embedding.word_embedding',
  positionScale: 'encoder.embedding.pos_embedding.scale_factor',
  positions: unused,
  tokenTypes: unused,
  embeddingNorm: 'encoder.embedding.norm',
  block(index) {
    const block = `encoder.layers.${index}`;
    return {
      norm1: `${block}.norm1`,
      norm2: `${block}.norm2`,
      queryKeyValue: `${block}.attn.self_attention.query_key_value`,
      attentionDense: `${block}.attn.dense`,
      up: `${block}.ffn.dense_in`,
      down: `${block}.ffn.dense_out`,
      fastFeedforward: `${block}.ffn`,
      normFactor: `${block}.attn.self_attention.norm_factor`,
    };
  },
  finalNorm: 'encoder.final_norm',
  transformDense: unused,
  transformNorm: unused,
  decoder: 'decoder',
  decoderBias: unused,
  pooler: 'pooler.dense',
  classifier: 'head',
};

function bertNames(prefix: string): ModelNames {
  return {
    word: `${prefix}embeddings.word_embeddings`,
    positionScale: unused,
    positions: `${prefix}embeddings.position_embeddings`,
    tokenTypes: `${prefix}embeddings.token_type_embeddings`,
    embeddingNorm: `${prefix}embeddings.LayerNorm`,
    block(index) {
      const block = `${prefix}encoder.layer.${index}`;
      const self = `${block}.attention.self`;
      return {
        norm1: `${block}.attention.output.LayerNorm`,
        norm2: `${block}.output.LayerNorm`,
        queryKeyValue: [`${self}.query`, `${self}.key`, `${self}.value`],
        attentionDense: `${block}.attention.output.dense`,
        up: `${block}.intermediate.dense`,
        down: `${block}.output.dense`,
        fastFeedforward: `${block}.ffn`,
      };
    },
    finalNorm: unused,
    transformDense: 'cls.predictions.transform.dense',
    transformNorm: 'cls.predictions.transform.LayerNorm',
    decoder: 'cls.predictions.decoder',
    decoderBias: 'cls.predictions.bias',
    pooler: `${prefix}pooler.dense`,
    classifier: 'classifier',
  };
}

/**
 * The names of a family's checkpoints. `prefixed`: BERT's encoder under 'bert.', as Hugging Face has it in models with a head; by default
 * so for 'bert' and not for 'ultrafastbert'.
 */
export function modelNames(family: ModelConfig['family'], prefixed = family === 'bert'): ModelNames {
  return family === 'crammedBERT' ? crammedBertNames : bertNames(prefixed ? 'bert.' : '');
}
