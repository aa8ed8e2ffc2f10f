import { InputError } from '../errors.ts';
import { readJson } from '../io/files.ts';
import { extentOfTokenizer } from '../io/json.ts';
import { AddedTokenFinder } from './added_tokens.ts';
import { type AlignedText, alignedText, codePointIndex } from './aligned_text.ts';
import { CharacterLoss, countCharacters } from './character_loss.ts';
import { createNormalizer, type Normalizer } from './normalizer.ts';
import { copyOfWord, createPreTokenizer, type PreTokenizer } from './pre_tokenizer.ts';
import { parseTokenizerJson, type TemplateItem, type TokenizerConfig } from './tokenizer_json.ts';

export interface EncodeOptions {
  /** Read together with the text. */
  pair?: string;
  addSpecialTokens?: boolean;
  /** Tokens in all; see {@link Tokenizer.encode}. */
  maxLength?: number;
  /** Lower-case the texts before the tokenizer has them, as some sentence models ask for. */
  lowerCase?: boolean;
}

/** A text, or a pair of texts, as tokens. The arrays have one entry a token. */
export interface Encoding {
  ids: number[];
  /** The vocabulary's tokens; for an added token, such as [MASK], the stretch of text that it was found in. */
  tokens: string[];
  /** Which part of the template a token belongs to; BERT has 0 for the first text and 1 for the second. */
  typeIds: number[];
  /**
   * Where each token came from in its text: start and end (excluded), in Unicode code points. Added special tokens have [0, 0].
   * Computed when first read.
   */
  readonly offsets: [number, number][];
  /** Tokens that were left out because there were more than asked for; 0 if none. */
  truncated: number;
  /** Characters of the texts, and those of them that no token stands for but the unknown one. What was cut off counts as it is. */
  loss: CharacterLoss;
}

/** Words whose ids are remembered; English text of any length has few more that matter. */
const rememberedWords = 1 << 17;

/** Names of the special tokens in the tokenizers there are, preferred ones first. */
const specialNames = {
  pad: ['[PAD]', '<pad>'],
  cls: ['[CLS]', '<cls>', '<s>'],
  sep: ['[SEP]', '<sep>', '</s>'],
  mask: ['[MASK]', '<mask>'],
};

/**
 * A WordPiece tokenizer, loaded from a tokenizer.json. It agrees with Hugging Face's `tokenizers`, whose format that is, but for characters
 * that are younger than that library's tables: what is a letter, a mark or punctuation is as the JavaScript engine has it. Whatever a file
 * asks for, its patterns too, takes time in proportion to the text's length.
 */
export class Tokenizer {
  /** The content of the tokenizer.json. */
  readonly json: unknown;
  /** Number of tokens; ids are 0 to this number, excluded. */
  readonly vocabularySize: number;
  readonly unknownId: number;
  readonly padId: number | undefined;
  readonly clsId: number | undefined;
  readonly sepId: number | undefined;
  readonly maskId: number | undefined;
  /** The text that stands for a masked word, such as [MASK]. */
  readonly maskToken: string | undefined;
  /** Ids of all special tokens. */
  readonly specialIds: ReadonlySet<number>;

  private readonly config: TokenizerConfig;
  private readonly idOf: ReadonlyMap<string, number>;
  private readonly normalizer: Normalizer;
  private readonly preTokenize: PreTokenizer;
  private readonly pieces: ReadonlyMap<string, number>;
  /** Code points of the longest token. */
  private readonly longestPiece: number;
  private readonly finder: AddedTokenFinder;
  private readonly normalizedFinder: AddedTokenFinder;
  private readonly cache = new Map<string, readonly number[]>();

  private constructor(json: unknown, source: string) {
    this.json = json;
    const config = parseTokenizerJson(json, source);
    this.config = config;
    const { model, tokens, addedTokens } = config;
    this.vocabularySize = tokens.length;
    const idOf = new Map<string, number>();
    for (let id = 0; id < tokens.length; id++) idOf.set(tokens[id], id);
    this.idOf = idOf;
    this.normalizer = createNormalizer(config.normalizer ?? { type: 'Sequence', normalizers: [] });
    this.preTokenize = config.preTokenizer ? createPreTokenizer(config.preTokenizer) : (text) => [0, text.length];
    this.pieces = new Map(Object.entries(model.vocabulary));
    let longest = 0;
    for (const piece of this.pieces.keys()) if (piece.length > longest) longest = Math.max(longest, codePoints(piece));
    this.longestPiece = longest;
    this.finder = new AddedTokenFinder(addedTokens.filter((token) => !token.normalized));
    this.normalizedFinder = new AddedTokenFinder(
      addedTokens.filter((token) => token.normalized),
      this.normalizer,
    );

    const named = (names: readonly string[]): number | undefined => names.map((name) => this.idOf.get(name)).find((id) => id !== undefined);
    this.unknownId = this.idOf.get(model.unknownToken) as number;
    this.padId = named(specialNames.pad);
    this.clsId = named(specialNames.cls);
    this.sepId = named(specialNames.sep);
    this.maskId = named(specialNames.mask);
    this.maskToken = this.maskId === undefined ? undefined : tokens[this.maskId];
    this.specialIds = new Set(addedTokens.filter((token) => token.special).map((token) => token.id));
  }

  /**
   * @param json the content of a tokenizer.json, parsed.
   * @param source its name, for messages.
   * @throws {InputError} naming the file and the key if it is malformed or not of the WordPiece kind.
   */
  static fromJson(json: unknown, source = 'tokenizer.json'): Tokenizer {
    return new Tokenizer(json, source);
  }

  /** Reads a tokenizer.json. Throws {@link InputError} as {@link fromJson} does, and if the file cannot be read. */
  static async load(path: string): Promise<Tokenizer> {
    return new Tokenizer(await readJson(path, extentOfTokenizer), path);
  }

  /**
   * Encodes a text, or a text and its `pair`, with the special tokens that the tokenizer's template adds unless told not to. With
   * `maxLength` the end of the text, or of the longer one of the two, is left out as far as is needed for so many tokens in all.
   *
   * @throws {InputError} if `maxLength` does not even hold the special tokens.
   */
  encode(text: string, options: EncodeOptions = {}): Encoding {
    const { pair, addSpecialTokens = true, maxLength, lowerCase } = options;
    if (lowerCase) return this.encode(text.toLowerCase(), { ...options, pair: pair?.toLowerCase(), lowerCase: false });
    const { template } = this.config;
    let items: readonly TemplateItem[];
    if (pair === undefined) items = addSpecialTokens ? template.single : template.single.filter((item) => 'sequence' in item);
    else items = addSpecialTokens ? template.pair : template.pairWithoutSpecials;

    const textOf = (item: { sequence: 'A' | 'B' }): string => (item.sequence === 'A' ? text : (pair as string));
    const loss = new CharacterLoss();
    const parts = items.map((item) => {
      const part = { ids: [] as number[], tokens: [] as string[] };
      if ('sequence' in item) this.encodeText(textOf(item), part.ids, loss, part.tokens);
      else for (const id of item.ids) part.tokens[part.ids.push(id) - 1] = this.config.tokens[id];
      return part;
    });
    const truncated = maxLength === undefined ? 0 : truncate(items, parts, maxLength);
    const placeTokens = (): [number, number][] =>
      items.flatMap((item, i) =>
        'sequence' in item ? this.offsetsOf(textOf(item)).slice(0, parts[i].ids.length) : item.ids.map((): [number, number] => [0, 0]),
      );
    let offsets: [number, number][] | undefined;
    return {
      ids: parts.flatMap(({ ids }) => ids),
      tokens: parts.flatMap(({ tokens }) => tokens),
      typeIds: items.flatMap(({ typeId }, i) => parts[i].ids.map(() => typeId)),
      truncated,
      loss,
      get offsets() {
        offsets ??= placeTokens();
        return offsets;
      },
    };
  }

  /** The ids of a text without added special tokens, as fast as can be: for large amounts of text. Adds to `loss` what became of its characters. */
  encodeIds(text: string, loss = new CharacterLoss()): number[] {
    const ids: number[] = [];
    this.encodeText(text, ids, loss);
    return ids;
  }

  /** Appends the ids of a text and, if wanted, the tokens. */
  private encodeText(text: string, ids: number[], loss: CharacterLoss, tokens?: string[]): void {
    if (typeof text !== 'string') throw new InputError(`text: found ${text === null ? 'null' : typeof text}, expected a string`);
    for (const stretch of this.finder.split(text)) {
      const piece = text.slice(stretch.start, stretch.end);
      if (stretch.id === undefined) {
        const normalized = this.normalizer.normalize(piece);
        const given = countCharacters(piece);
        loss.given += given;
        loss.lost += Math.max(0, given - countCharacters(normalized));
        this.encodeNormalized(normalized, ids, loss, tokens);
      } else {
        ids.push(stretch.id);
        tokens?.push(piece);
      }
    }
  }

  private encodeNormalized(text: string, ids: number[], loss: CharacterLoss, tokens?: string[]): void {
    for (const stretch of this.normalizedFinder.split(text)) {
      const piece = text.slice(stretch.start, stretch.end);
      if (stretch.id !== undefined) {
        ids.push(stretch.id);
        tokens?.push(piece);
        continue;
      }
      const spans = this.preTokenize(piece);
      for (let i = 0; i < spans.length; i += 2) {
        const word = piece.slice(spans[i], spans[i + 1]);
        for (const id of this.wordIds(word)) {
          if (id === this.unknownId) loss.lost += countCharacters(word);
          ids.push(id);
          tokens?.push(this.config.tokens[id]);
        }
      }
    }
  }

  private wordIds(word: string): readonly number[] {
    const known = this.cache.get(word);
    if (known) return known;
    // No character has more than two UTF-16 units, so this word is too long for the model.
    if (word.length > 2 * this.config.model.longestWord) return [this.unknownId];
    const ids = this.cutWord(word);
    if (this.cache.size >= rememberedWords) this.cache.clear();
    this.cache.set(copyOfWord(word), ids);
    return ids;
  }

  /** A word's pieces, each the longest of the vocabulary that begins where the one before ended; the unknown token if there is none, or the word is too long. */
  private cutWord(word: string): number[] {
    const { longestWord, prefix } = this.config.model;
    // Where its code points begin, and its end.
    const places: number[] = [];
    for (let at = 0; at < word.length; at += (word.codePointAt(at) as number) > 0xffff ? 2 : 1) places.push(at);
    const length = places.length;
    if (length > longestWord) return [this.unknownId];
    places.push(word.length);
    const ids: number[] = [];
    for (let start = 0; start < length; ) {
      let end = Math.min(length, start + this.longestPiece);
      let id: number | undefined;
      for (; end > start; end--) {
        const piece = word.slice(places[start], places[end]);
        id = this.pieces.get(start > 0 ? prefix + piece : piece);
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.unknownId];
      ids.push(id);
      start = end;
    }
    return ids;
  }

  /** The offsets of the tokens that {@link encodeIds} finds, by the same steps with the characters' places kept. */
  private offsetsOf(text: string): [number, number][] {
    const offsets: [number, number][] = [];
    let first = 0;
    for (const stretch of this.finder.split(text)) {
      const piece = text.slice(stretch.start, stretch.end);
      const source = alignedText(piece, first);
      const next = first + source.characters.length;
      if (stretch.id !== undefined) offsets.push([first, next]);
      else this.offsetsOfNormalized(this.normalizer.align(source), offsets);
      first = next;
    }
    return offsets;
  }

  private offsetsOfNormalized(aligned: AlignedText, offsets: [number, number][]): void {
    const text = aligned.characters.join('');
    const indices = codePointIndex(aligned.characters);
    const place = (start: number, end: number): void => {
      if (end > start) offsets.push([aligned.starts[start], aligned.ends[end - 1]]);
      else offsets.push([aligned.first, aligned.first]);
    };
    for (const stretch of this.normalizedFinder.split(text)) {
      if (stretch.id !== undefined) {
        place(indices[stretch.start], indices[stretch.end]);
        continue;
      }
      const words = text.slice(stretch.start, stretch.end);
      const spans = this.preTokenize(words);
      for (let i = 0; i < spans.length; i += 2) {
        let start = indices[stretch.start + spans[i]];
        const wordEnd = indices[stretch.start + spans[i + 1]];
        const ids = this.wordIds(words.slice(spans[i], spans[i + 1]));
        ids.forEach((id, index) => {
          const end = index === ids.length - 1 ? wordEnd : start + this.pieceLength(id, index > 0);
          place(start, end);
          start = end;
        });
      }
    }
  }

  /** Code points of a token without the prefix that says that it continues a word. */
  private pieceLength(id: number, continues: boolean): number {
    const token = this.config.tokens[id];
    return codePoints(continues ? token.slice(this.config.model.prefix.length) : token);
  }

  /**
   * The text of `ids`, with spaces between words.
   *
   * @throws {InputError} if an id is not one of the vocabulary's.
   */
  decode(ids: Iterable<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    const { tokens, decoder } = this.config;
    const shown: string[] = [];
    for (const id of ids) {
      if (tokens[id] === undefined) throw new InputError(`token id ${id}: expected a whole number from 0 to ${this.vocabularySize - 1}`);
      if (!options.skipSpecialTokens || !this.specialIds.has(id)) shown.push(tokens[id]);
    }
    if (decoder === null) return shown.join(' ');
    const pieces = shown.map((token, index) => {
      let piece = token;
      if (index > 0) piece = token.startsWith(decoder.prefix) ? token.slice(decoder.prefix.length) : ` ${token}`;
      return decoder.cleanup ? cleanUp(piece) : piece;
    });
    return pieces.join('');
  }

  /** What JSON.stringify writes of it: a tokenizer.json. */
  toJSON(): unknown {
    return this.json;
  }

  tokenToId(token: string): number | undefined {
    return this.idOf.get(token);
  }

  idToToken(id: number): string | undefined {
    return this.config.tokens[id];
  }
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** Takes back the spaces before punctuation and English contractions. The decoder applies it to each piece by itself. */
function cleanUp(piece: string): string {
  if (!piece.includes(' ')) return piece;
  return piece
    .replaceAll(/ ([.?!,])/g, '$1')
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(' do not', " don't")
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
}

/** Cuts the ends of the texts' parts, one token at a time off the longer, until all fit; returns the tokens cut. */
function truncate(items: readonly TemplateItem[], parts: readonly { ids: number[]; tokens: string[] }[], maxLength: number): number {
  const texts = parts.filter((_, i) => 'sequence' in items[i]).map(({ ids, tokens }) => ({ ids, tokens, left: ids.length }));
  const total = parts.reduce((sum, { ids }) => sum + ids.length, 0);
  const special = total - texts.reduce((sum, { left }) => sum + left, 0);
  if (!Number.isInteger(maxLength) || maxLength < special)
    throw new InputError(`maxLength: got ${maxLength}, expected a whole number from ${special}, for the special tokens alone are as many`);
  for (let over = total - maxLength; over > 0; over--) {
    // Of two of one length the one that was shorter to begin with, as the format's reference has it ('longest first').
    const longest = texts.reduce((best, text) => {
      const isLonger = text.left > best.left || (text.left === best.left && text.ids.length < best.ids.length);
      return isLonger ? text : best;
    });
    longest.left--;
  }
  for (const { ids, tokens, left } of texts) {
    ids.length = left;
    tokens.length = left;
  }
  return Math.max(total - maxLength, 0);
}
