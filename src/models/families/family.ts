import type { PoolerActivation } from '../../nn/pooler.ts';
import type { ModelConfig, Task } from '../config.ts';

/** What a checkpoint calls the parts of a block. A part NAME has the tensors NAME.weight and, where there is one, NAME.bias. */
export interface BlockNames {
  norm1: string;
  norm2: string;
  /** One projection, of each head side by side (encoders) or of all queries, then keys, then values (decoders); or query, key and value apart. */
  queryKeyValue: string | readonly [string, string, string];
  attentionDense: string;
  /** The dense feedforward layer. */
  gate?: string;
  up: string;
  down: string;
  /** The FFF: NAME.linear_in and NAME.linear_out. */
  fastFeedforward: string;
  /** A buffer of one number, 1 / sqrt(head size), in crammedBERT's checkpoints. */
  normFactor?: string;
}

/** What a checkpoint calls a model's parts. A part without a name is not there. */
export interface ModelNames {
  word: string;
  /** The factor of a scaled sinusoid, a tensor's full name; without it positions are a learned table. */
  positionScale?: string;
  positions?: string;
  tokenTypes?: string;
  embeddingNorm?: string;
  /** From embeddings of another size to the hidden size. */
  projection?: string;
  block(index: number): BlockNames;
  /** The norm behind the last block. */
  finalNorm?: string;
  /** The masked language model's transform before the decoder. */
  transform?: { dense: string; norm: string };
  /** The decoder; tied, its weight is a copy of the word embedding. */
  decoder: string;
  /** The decoder's bias, a tensor's full name. */
  decoderBias?: string;
  /** The dense layer before the classification head, and the head. */
  pooler: string;
  classifier: string;
}

/**
 * What sets a family of models apart, in one place: its configuration's form, its checkpoints' names, how its parts are put together, and
 * what is refused.
 */
export interface Family {
  /** Its `model_type`s: of models with dense layers, and of those with trees; the same where one type has both. */
  readonly modelTypes: { readonly dense: string; readonly trees: string };
  /** Absent: it is a family of encoders. */
  readonly decoder?: {
    /** By mean and variance, or by the root of the mean square. */
    readonly norm: 'layer' | 'rms';
    /** Its checkpoints have the weights of a block's dense layers as [inputs, outputs] (GPT-2's Conv1D). */
    readonly transposed: boolean;
  };
  /** Where the norms of a block are: before its halves, or after what they add to the stream. */
  readonly normPlacement: 'pre' | 'post';
  /** Whether texts stand between special tokens ([CLS] and [SEP]) when it is trained. */
  readonly specialTokens: boolean;
  /** Whether the masked language model's transform has the layers' activation; otherwise GELU. */
  readonly transformFollows: boolean;
  /** Between the dense layer before the classification head and the head; and whether there is dropout before that layer too. */
  readonly classifier: { readonly activation: PoolerActivation; readonly inputDropout: boolean };
  /** Before the names of the encoder's tensors where a dense model has a head, 'bert.' say; '' if they are the same. */
  readonly prefix: string;
  /** Names of the heads' tensors, which have no prefix, and those of the masked language model's among them. */
  readonly heads: RegExp;
  readonly maskedHead: RegExp;
  /** Names of tensors that published checkpoints hold and no model here uses. */
  readonly unused: RegExp;
  /** Names of the masked language model's tied decoder are written a second time, as its checkpoints have them. */
  readonly writesTiedDecoder: boolean;
  /** The names, the encoder's behind `prefix`. */
  names(prefix: string): ModelNames;
  /** @throws InputError naming the key if it is missing, of the wrong kind, absurdly large, or asks for what is not supported */
  readConfig(json: unknown, source: string): ModelConfig;
  /** The inverse of {@link readConfig}. */
  writeConfig(config: ModelConfig, task: Task): Record<string, unknown>;
}
