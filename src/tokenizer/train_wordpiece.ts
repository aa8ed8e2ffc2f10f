import { InputError } from '../errors.ts';
import { crammedBertNormalizer, crammedBertPreTokenizer, type WordPieceJson, wordPieceJson } from './crammed_bert.ts';
import { mergeSymbols } from './merge_symbols.ts';
import { createNormalizer } from './normalizer.ts';
import { copyOfWord, createPreTokenizer } from './pre_tokenizer.ts';

export interface TrainingProgress {
  /** First the words of the texts are counted, then pieces are merged until the vocabulary is full. */
  phase: 'counting' | 'merging';
  /** Characters read (counting) or tokens in the vocabulary (merging). */
  done: number;
  /** What `done` will reach; not known while counting. */
  total?: number;
}

export interface TrainWordPieceOptions {
  /** Number of tokens wanted, the special ones included. A small text may yield fewer. */
  vocabularySize: number;
  /** Special tokens, which get the ids 0 to 4 in this order; by default [PAD], [UNK], [CLS], [SEP], [MASK]. */
  specialTokens?: SpecialTokens;
  onProgress?: (progress: TrainingProgress) => void;
}

export interface SpecialTokens {
  pad: string;
  unknown: string;
  cls: string;
  sep: string;
  mask: string;
}

const defaultSpecialTokens: SpecialTokens = { pad: '[PAD]', unknown: '[UNK]', cls: '[CLS]', sep: '[SEP]', mask: '[MASK]' };

/** Longer words become the unknown token when they are encoded, so they teach nothing. */
const longestWord = 100;

/**
 * Distinct words held at a time; beyond, the rarest are forgotten, so that memory does not grow with the text. 100 MB of random words,
 * the worst case, then take 0.4 GB in all.
 */
const mostWords = 1_000_000;

/**
 * Learns a WordPiece vocabulary with crammedBERT's normaliser (lower case, no accents, ASCII only).
 *
 * Words are counted; then, as in byte-pair encoding (arXiv 1508.07909) and as the usual WordPiece trainers do, the pair of adjacent
 * pieces that occurs most often becomes one piece, until the vocabulary has the wanted size. Equal counts are decided by the pieces'
 * ids, so the same texts always give the same vocabulary, in whatever order they come (unless rare words had to be forgotten).
 *
 * @param texts any pieces of text that do not cut words: lines, paragraphs, documents.
 * @returns an object to be written as tokenizer.json.
 * @throws {InputError} if the vocabulary size is not usable, or the texts hold no words or are not text.
 */
export async function trainWordPiece(
  texts: AsyncIterable<string> | Iterable<string>,
  options: TrainWordPieceOptions,
): Promise<WordPieceJson> {
  const specials = options.specialTokens ?? defaultSpecialTokens;
  const { vocabularySize, onProgress } = options;
  if (!Number.isInteger(vocabularySize) || vocabularySize < 1 || vocabularySize > 1 << 20) {
    throw new InputError(`vocabulary size ${vocabularySize}: expected a whole number between 1 and ${1 << 20}`);
  }
  const specialTokens = [specials.pad, specials.unknown, specials.cls, specials.sep, specials.mask];
  if (new Set(specialTokens).size !== specialTokens.length || specialTokens.includes('')) {
    throw new InputError(`special tokens ${specialTokens.join(' ')}: expected five different, non-empty texts`);
  }

  const preTokenize = createPreTokenizer(crammedBertPreTokenizer);
  for (const token of specialTokens) {
    if (preTokenize(token).length === 2)
      throw new InputError(`special token ${token}: it looks like a word; expected one like [MASK] or <mask>`);
  }

  const counts = await countWords(texts, onProgress);
  if (counts.size === 0) throw new InputError('the corpus holds no words: expected plain text in UTF-8 with Latin letters or digits');

  const alphabet = Array.from(new Set(Array.from(counts.keys()).join(''))).sort();
  const smallest = specialTokens.length + 2 * alphabet.length;
  if (vocabularySize < smallest) {
    throw new InputError(
      `vocabulary size ${vocabularySize}: this corpus has ${alphabet.length} different characters, so at least ${smallest} tokens are needed`,
    );
  }
  // Each character gets both forms, so that no word made of these characters is ever unknown.
  const tokens = [...specialTokens, ...alphabet, ...alphabet.map((character) => `##${character}`)];
  // In a fixed order, so that the result does not depend on the order of the texts.
  const words = Array.from(counts.keys()).sort();
  await mergeSymbols(
    words,
    words.map((word) => counts.get(word) as number),
    tokens,
    vocabularySize,
    onProgress,
  );
  return wordPieceJson(tokens, specials);
}

/** Counts the words of `texts` after normalisation. Throws {@link InputError} on a NUL byte or bulk decoding errors. */
async function countWords(
  texts: AsyncIterable<string> | Iterable<string>,
  onProgress: TrainWordPieceOptions['onProgress'],
): Promise<Map<string, number>> {
  const normalizer = createNormalizer(crammedBertNormalizer);
  const preTokenize = createPreTokenizer(crammedBertPreTokenizer);
  const counts = new Map<string, number>();
  let forgotten = 0;
  let read = 0;
  let replacements = 0;
  let reported = 0;
  for await (const text of texts) {
    read += text.length;
    if (text.includes('\0')) throw new InputError('the corpus is not text: it holds a NUL byte; expected plain text in UTF-8');
    for (let at = text.indexOf('\ufffd'); at >= 0; at = text.indexOf('\ufffd', at + 1)) replacements += 1;
    // Some bad bytes are found in any large corpus; one character in a hundred is another encoding or no text at all.
    if (replacements > 100 + read / 100) throw new InputError('the corpus is not text in UTF-8: too many bytes that do not decode');

    const normalized = normalizer.normalize(text);
    const spans = preTokenize(normalized);
    for (let i = 0; i < spans.length; i += 2) {
      if (spans[i + 1] - spans[i] > longestWord) continue;
      const word = normalized.slice(spans[i], spans[i + 1]);
      const count = counts.get(word);
      if (count === undefined) counts.set(copyOfWord(word), 1);
      else counts.set(word, count + 1);
    }
    if (counts.size > mostWords) forgotten = forgetRareWords(counts, forgotten);
    if (onProgress && read - reported >= 1_000_000) {
      reported = read;
      onProgress({ phase: 'counting', done: read });
    }
  }
  onProgress?.({ phase: 'counting', done: read, total: read });
  for (const word of counts.keys()) if (!/^[!-~]+$/.test(word)) counts.delete(word);
  return counts;
}

/** Removes the rarest words until at least half the room is free; returns the highest count removed. */
function forgetRareWords(counts: Map<string, number>, forgotten: number): number {
  let threshold = forgotten;
  while (counts.size > mostWords / 2) {
    threshold += 1;
    for (const [word, count] of counts) if (count <= threshold) counts.delete(word);
  }
  return threshold;
}
