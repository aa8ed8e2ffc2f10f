import { checkArgument, checkOptions, kinds, type OptionKinds } from '../arguments.ts';
import { InputError, quoted } from '../errors.ts';
import { CharacterLoss, countCharacters, percent } from './character_loss.ts';
import { mergeSymbols, type TrainingProgress } from './merge_symbols.ts';
import { createNormalizer } from './normalizer.ts';
import { createPreTokenizer } from './pre_tokenizer.ts';
import { WordCounts } from './word_counts.ts';
import { longestWord, type TextStyle, type TextStyleName, textStyles, type WordPieceJson, wordPieceJson } from './word_piece_json.ts';

export interface TrainWordPieceOptions {
  /** Number of tokens wanted, the special ones included. A small text may yield fewer. */
  vocabularySize: number;
  /** 'bert' by default: lower case, every script. 'bert-without-accents': as BERT's uncased models have it. 'crammed': ASCII only, as crammedBERT. */
  normalizer?: TextStyleName;
  /** Special tokens, which get the ids 0 to 4 in this order; by default [PAD], [UNK], [CLS], [SEP], [MASK]. */
  specialTokens?: SpecialTokens;
  onProgress?: (progress: TrainingProgress) => void;
  /** Is told, in one line, of a corpus that loses much of its characters, or that leaves little room for words. */
  onNotice?: (line: string) => void;
  /** Stops it: it rejects with the signal's reason. */
  signal?: AbortSignal;
}

const optionKinds: OptionKinds<TrainWordPieceOptions> = {
  vocabularySize: kinds.any,
  normalizer: kinds.any,
  specialTokens: kinds.object,
  onProgress: kinds.callback,
  onNotice: kinds.callback,
  signal: kinds.signal,
};

export interface SpecialTokens {
  pad: string;
  unknown: string;
  cls: string;
  sep: string;
  mask: string;
}

const defaultSpecialTokens: SpecialTokens = { pad: '[PAD]', unknown: '[UNK]', cls: '[CLS]', sep: '[SEP]', mask: '[MASK]' };

/** Characters after which a corpus of which hardly anything is used is told of, not at its end. */
const enoughToTell = 1_000_000;

/**
 * Learns a WordPiece vocabulary. Every character of the texts, as normalized, is in it, so that no word made of them is ever unknown.
 *
 * Words are counted; then, as in byte-pair encoding (arXiv 1508.07909) and as the usual WordPiece trainers do, the pair of adjacent
 * pieces that occurs most often becomes one piece, until the vocabulary has the wanted size. Equal counts are decided by the pieces'
 * ids, so the same texts always give the same vocabulary, in whatever order they come (unless rare words had to be forgotten).
 *
 * @param texts any pieces of text that do not cut words: lines, paragraphs, documents.
 * @returns an object to be written as tokenizer.json.
 * @throws {InputError} if the vocabulary size is not usable, or the texts hold no words.
 */
export async function trainWordPiece(
  texts: AsyncIterable<string> | Iterable<string>,
  options: TrainWordPieceOptions,
): Promise<WordPieceJson> {
  checkArgument('texts', texts, kinds.texts);
  checkOptions(options, optionKinds);
  const { vocabularySize, normalizer = 'bert', specialTokens: specials = defaultSpecialTokens, onProgress, signal } = options;
  if (!Number.isInteger(vocabularySize) || vocabularySize < 1 || vocabularySize > 1 << 20) {
    throw new InputError(`vocabulary size ${quoted(vocabularySize)}: expected a whole number between 1 and ${1 << 20}`);
  }
  if (!Object.hasOwn(textStyles, normalizer))
    throw new InputError(`normalizer ${quoted(normalizer)}: expected one of ${Object.keys(textStyles).join(', ')}`);
  const style: TextStyle = textStyles[normalizer];
  const specialTokens = [specials.pad, specials.unknown, specials.cls, specials.sep, specials.mask];
  for (const token of specialTokens) checkArgument('specialTokens', token, kinds.text);
  if (new Set(specialTokens).size !== specialTokens.length || specialTokens.includes('')) {
    throw new InputError(`special tokens ${specialTokens.join(' ')}: expected five different, non-empty texts`);
  }
  const preTokenize = createPreTokenizer(style.preTokenizer);
  for (const token of specialTokens) {
    if (preTokenize(token).length === 2)
      throw new InputError(`special token ${token}: it looks like a word; expected one like [MASK] or <mask>`);
  }

  const { counts, alphabet } = await countWords(texts, style, specialTokens.length, options);
  const tokens = [...specialTokens, ...alphabet.tokens()];
  const { words, times } = counts.sorted();
  await mergeSymbols(words, times, tokens, vocabularySize, { onProgress, signal });
  if (tokens.length >= vocabularySize && alphabet.size > vocabularySize / 2)
    options.onNotice?.(
      `the corpus has ${alphabet.characters} different characters, which take ${alphabet.size} of ${vocabularySize} tokens: a larger vocabulary has more room for words`,
    );
  return wordPieceJson(tokens, specials, style);
}

/** Counts the words of `texts` after normalization. @throws InputError as {@link trainWordPiece} does of them */
async function countWords(
  texts: AsyncIterable<string> | Iterable<string>,
  style: TextStyle,
  specials: number,
  { vocabularySize, onProgress, onNotice, signal }: TrainWordPieceOptions,
): Promise<{ counts: WordCounts; alphabet: Alphabet }> {
  const normalizer = createNormalizer(style.normalizer);
  const preTokenize = createPreTokenizer(style.preTokenizer);
  const counts = new WordCounts();
  const alphabet = new Alphabet((text) => preTokenize(normalizer.normalize(text)).length / 2);
  const loss = new CharacterLoss();
  let [read, reported, told] = [0, 0, false];
  const tell = () => {
    if (counts.size > 0 && (told || !loss.isNoticeable)) return;
    const removed = `of its first ${read} characters ${percent(loss.share)} are removed by the normalizer (bert keeps every script) or stand in words of more than ${longestWord}`;
    if (counts.size === 0) throw new InputError(`the corpus holds no words, expected plain text${loss.given > 0 ? `: ${removed}` : ''}`);
    onNotice?.(`the corpus loses much: ${removed}`);
    told = true;
  };
  for await (const text of texts) {
    signal?.throwIfAborted();
    checkArgument('texts', text, kinds.text);
    const normalized = normalizer.normalize(text);
    read += text.length;
    const given = countCharacters(text);
    loss.given += given;
    loss.lost += Math.max(0, given - countCharacters(normalized));
    const spans = preTokenize(normalized);
    for (let i = 0; i < spans.length; i += 2) {
      const word = normalized.slice(spans[i], spans[i + 1]);
      if (counts.has(word)) counts.add(word);
      else if (isUsable(word)) {
        counts.add(word);
        alphabet.add(word);
      } else loss.lost += countCharacters(word);
    }
    const needed = specials + alphabet.size;
    if (needed > vocabularySize)
      throw new InputError(
        `vocabulary size ${vocabularySize}: this corpus has ${alphabet.characters} different characters or more, so at least ${needed} tokens are needed`,
      );
    counts.limit();
    if (loss.given >= enoughToTell) tell();
    if (onProgress && read - reported >= 1_000_000) {
      reported = read;
      onProgress({ phase: 'counting', done: read });
    }
  }
  tell();
  onProgress?.({ phase: 'counting', done: read, total: read });
  return { counts, alphabet };
}

/** Whether a word teaches something: the model knows longer ones as the unknown token alone, and control characters are no text. */
function isUsable(word: string): boolean {
  if (word.length > longestWord && (word.length > 2 * longestWord || Array.from(word).length > longestWord)) return false;
  return !/\p{Cc}/u.test(word);
}

/** The characters of words, and the tokens that they need: as a word's first (`c`), and further on in one (`##c`) if they ever stand there. */
class Alphabet {
  /** Whether it is always a word of its own, as punctuation may be. */
  private readonly alone = new Map<string, boolean>();
  /** Tokens. */
  size = 0;

  /** `wordsOf`: how many there are in a text. */
  constructor(private readonly wordsOf: (text: string) => number) {}

  get characters(): number {
    return this.alone.size;
  }

  add(word: string): void {
    for (const character of word) {
      if (this.alone.has(character)) continue;
      const alone = this.wordsOf(`a${character}${character}a`) === 4;
      this.alone.set(character, alone);
      this.size += alone ? 1 : 2;
    }
  }

  tokens(): string[] {
    const characters = [...this.alone.keys()].sort();
    return [...characters, ...characters.flatMap((character) => (this.alone.get(character) ? [] : `##${character}`))];
  }
}
