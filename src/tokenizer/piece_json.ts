/** The parts of a tokenizer.json that say how words become pieces: the model, and how it spells words. */
import * as v from 'valibot';
import type { SpellingConfig } from './spelling.ts';

/** How words become pieces. Ids of `vocabulary` are still to be checked. */
export type PieceModelConfig = { vocabulary: Record<string, number> } & (
  | { type: 'WordPiece'; unknownToken: string; prefix: string; longestWord: number }
  | { type: 'BPE'; unknownToken?: string; merges: readonly (readonly [string, string])[]; fusesUnknown: boolean; ignoresMerges: boolean }
  | { type: 'Unigram'; unknownToken?: string; pieces: readonly (readonly [string, number])[] }
);

const flag = (otherwise: boolean) => v.optional(v.boolean(), otherwise);
const none = v.nullish(v.literal(''), '');

const vocabulary = v.custom<Record<string, number>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'an object of tokens and ids',
);

const wordPiece = v.pipe(
  v.object({
    // Files of before 2021 do not say the type.
    type: v.optional(v.literal('WordPiece', '"WordPiece", "BPE" or "Unigram"'), 'WordPiece'),
    unk_token: v.string(),
    continuing_subword_prefix: v.optional(v.string(), '##'),
    max_input_chars_per_word: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000)), 100),
    vocab: vocabulary,
  }),
  v.transform(
    (model): PieceModelConfig => ({
      type: 'WordPiece',
      unknownToken: model.unk_token,
      prefix: model.continuing_subword_prefix,
      longestWord: model.max_input_chars_per_word,
      vocabulary: model.vocab,
    }),
  ),
);

const isPair = (value: unknown): boolean => Array.isArray(value) && value.length === 2 && typeof value[0] === 'string';

/** Pairs, or in files of before pairs with a space between them. */
const merges = v.custom<readonly (string | [string, string])[]>(
  (value) =>
    Array.isArray(value) &&
    value.every((merge) => (typeof merge === 'string' ? merge.includes(' ') : isPair(merge) && typeof merge[1] === 'string')),
  'pairs of tokens',
);

const bytePairs = v.pipe(
  v.object({
    type: v.literal('BPE'),
    unk_token: v.nullish(v.string()),
    // Pieces are drawn at random with another.
    dropout: v.nullish(v.literal(0)),
    continuing_subword_prefix: none,
    end_of_word_suffix: none,
    fuse_unk: flag(false),
    byte_fallback: v.optional(v.literal(false), false),
    ignore_merges: flag(false),
    vocab: vocabulary,
    merges,
  }),
  v.transform(
    (model): PieceModelConfig => ({
      type: 'BPE',
      unknownToken: model.unk_token ?? undefined,
      merges: model.merges.map((merge) => (typeof merge === 'string' ? (merge.split(' ', 2) as [string, string]) : merge)),
      fusesUnknown: model.fuse_unk,
      ignoresMerges: model.ignore_merges,
      vocabulary: model.vocab,
    }),
  ),
);

const unigram = v.pipe(
  v.object({
    type: v.literal('Unigram'),
    unk_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0))),
    byte_fallback: v.optional(v.literal(false), false),
    vocab: v.custom<readonly (readonly [string, number])[]>(
      (value) => Array.isArray(value) && value.length > 0 && value.every((one) => isPair(one) && Number.isFinite(one[1])),
      'pairs of a token and its score',
    ),
  }),
  v.check(({ unk_id, vocab }) => unk_id == null || unk_id < vocab.length, 'an unk_id of the vocabulary'),
  v.transform(
    ({ vocab, unk_id }): PieceModelConfig => ({
      type: 'Unigram',
      unknownToken: unk_id == null ? undefined : vocab[unk_id][0],
      pieces: vocab,
      vocabulary: Object.fromEntries(vocab.map(([piece], id) => [piece, id])),
    }),
  ),
);

export const modelSchema: v.GenericSchema<unknown, PieceModelConfig> = v.lazy((input) => {
  const { type } = (input ?? {}) as { type?: unknown };
  return (type === 'BPE' ? bytePairs : type === 'Unigram' ? unigram : wordPiece) as v.GenericSchema<unknown, PieceModelConfig>;
});

export const byteLevelSchema = v.object({
  type: v.literal('ByteLevel'),
  add_prefix_space: flag(true),
  trim_offsets: flag(true),
  use_regex: flag(true),
});

export const metaspaceSchema = v.pipe(
  v.object({
    type: v.literal('Metaspace'),
    replacement: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(2)), '▁'),
    // What comes before the text's first word alone is not supported.
    prepend_scheme: v.optional(v.picklist(['always', 'never'])),
    /** The same in files of before. */
    add_prefix_space: v.optional(v.boolean()),
    split: flag(true),
  }),
  v.transform(({ replacement, prepend_scheme: scheme, add_prefix_space: adds = true, split }): SpellingConfig & { type: 'Metaspace' } => ({
    type: 'Metaspace',
    replacement,
    prepend: scheme === undefined ? adds : scheme === 'always',
    split,
  })),
);
