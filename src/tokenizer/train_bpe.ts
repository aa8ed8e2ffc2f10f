import { checkArgument, checkOptions, kinds, type OptionKinds } from '../arguments.ts';
import { InputError, quoted } from '../errors.ts';
import { mergeSymbols, type TrainingProgress } from './merge_symbols.ts';
import { compilePattern } from './pattern.ts';
import { byteLetters, gpt2Words, toByteLetters } from './spelling.ts';
import { WordCounts } from './word_counts.ts';

export interface TrainBytePairsOptions {
  /** Number of tokens wanted, the one for the end of a text and those of the 256 bytes included. A small text may yield fewer. */
  vocabularySize: number;
  /** The token for the end of a text, which gets id 0; GPT-2's by default. */
  endOfText?: string;
  onProgress?: (progress: TrainingProgress) => void;
  /** Stops it: it rejects with the signal's reason. */
  signal?: AbortSignal;
}

const optionKinds: OptionKinds<TrainBytePairsOptions> = {
  vocabularySize: kinds.any,
  endOfText: kinds.text,
  onProgress: kinds.callback,
  signal: kinds.signal,
};

export const endOfTextToken = '<|endoftext|>';

/** The bytes' letters in the order of their ids. */
const alphabet = [...byteLetters].sort();
/** That of the end of a text, and a byte's each. */
const fewestTokens = 1 + alphabet.length;

/**
 * Learns a byte-level BPE vocabulary, as GPT-2 has it: every text can be written in its tokens and read back, byte for byte. Words are counted; then the
 * pair of adjacent pieces that occurs most often becomes one piece (arXiv 1508.07909), of equal ones that of the lowest ids, until the vocabulary has the wanted
 * size. What comes out is what the BpeTrainer of Hugging Face's `tokenizers` gives.
 *
 * @param texts any pieces of text that do not cut words: paragraphs, documents.
 * @returns an object to be written as tokenizer.json.
 * @throws {InputError} if the vocabulary size is not usable, or the texts hold nothing.
 */
export async function trainBytePairs(
  texts: AsyncIterable<string> | Iterable<string>,
  options: TrainBytePairsOptions,
): Promise<BytePairsJson> {
  checkArgument('texts', texts, kinds.texts);
  checkOptions(options, optionKinds);
  const { vocabularySize, endOfText = endOfTextToken, onProgress, signal } = options;
  if (!Number.isInteger(vocabularySize) || vocabularySize < fewestTokens || vocabularySize > 1 << 20)
    throw new InputError(
      `vocabulary size ${quoted(vocabularySize)}: expected a whole number from ${fewestTokens}, for every byte has a token, to ${1 << 20}`,
    );
  if (Array.from(endOfText).length < 2)
    throw new InputError(`endOfText ${quoted(endOfText)}: expected a text of several characters, ${endOfTextToken} say`);
  const matches = compilePattern({ Regex: gpt2Words });
  const counts = new WordCounts();
  let [read, reported] = [0, 0];
  for await (const text of texts) {
    signal?.throwIfAborted();
    checkArgument('texts', text, kinds.text);
    // Every character is in some match.
    for (const { start, end } of matches(text)) counts.add(text.slice(start, end));
    read += text.length;
    counts.limit();
    if (onProgress && read - reported >= 1_000_000) {
      reported = read;
      onProgress({ phase: 'counting', done: read });
    }
  }
  if (counts.size === 0) throw new InputError('the corpus holds no text');
  onProgress?.({ phase: 'counting', done: read, total: read });
  const { words, times } = counts.sorted();
  const tokens = [endOfText, ...alphabet];
  const merges = await mergeSymbols(words.map(toByteLetters), times, tokens, vocabularySize, { onProgress, signal, prefix: '' });
  return bytePairsJson(tokens, merges, endOfText);
}

function bytePairsJson(tokens: readonly string[], merges: readonly (readonly [string, string])[], endOfText: string) {
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [{ id: 0, content: endOfText, ...special }],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: { ...byteLevel, trim_offsets: false },
    decoder: { ...byteLevel, add_prefix_space: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map(([left, right]) => [left, right]),
    },
  };
}

export type BytePairsJson = ReturnType<typeof bytePairsJson>;
