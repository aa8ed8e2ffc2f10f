import { InputError, quoted } from '../errors.ts';
import { copyOfWord } from './pre_tokenizer.ts';
import type { TokenizerConfig } from './tokenizer_json.ts';

/** Words whose ids are remembered; English text of any length has few more that matter. */
const rememberedWords = 1 << 17;

/** How words become tokens. */
export interface PieceModel {
  readonly unknownId: number | undefined;
  /** @throws InputError if the word needs the unknown token, and the vocabulary has none */
  ids(word: string): readonly number[];
  /** Code points of the word that each of its tokens stands for. */
  lengths(word: string): number[];
}

type Config = Extract<TokenizerConfig['model'], { type: 'WordPiece' }>;

/** Words into pieces of a vocabulary. */
export class WordPiece implements PieceModel {
  readonly unknownId: number | undefined;
  private readonly pieces: ReadonlyMap<string, number>;
  /** Code points of the longest token. */
  private readonly longestPiece: number;
  private readonly cache = new Map<string, readonly number[]>();

  /** @param source the tokenizer.json's name, for messages. */
  constructor(
    private readonly model: Config,
    private readonly source: string,
  ) {
    this.pieces = new Map(Object.entries(model.vocabulary));
    this.unknownId = this.pieces.get(model.unknownToken);
    let longest = 0;
    for (const piece of this.pieces.keys()) if (piece.length > longest) longest = Math.max(longest, codePoints(piece));
    this.longestPiece = longest;
  }

  ids(word: string): readonly number[] {
    const known = this.cache.get(word);
    if (known) return known;
    // No character has more than two UTF-16 units, so this word is too long for the model.
    if (word.length > 2 * this.model.longestWord) return [this.unknown(word)];
    const { ids } = this.cutWord(word);
    if (this.cache.size >= rememberedWords) this.cache.clear();
    this.cache.set(copyOfWord(word), ids);
    return ids;
  }

  /** A word's pieces, each the longest of the vocabulary that begins where the one before ended; the unknown token if there is none, or the word is too long. */
  private cutWord(word: string): { ids: number[]; lengths: number[] } {
    const { longestWord, prefix } = this.model;
    // Where its code points begin, and its end.
    const places: number[] = [];
    for (let at = 0; at < word.length; at += (word.codePointAt(at) as number) > 0xffff ? 2 : 1) places.push(at);
    const length = places.length;
    const asUnknown = () => ({ ids: [this.unknown(word)], lengths: [length] });
    if (length > longestWord) return asUnknown();
    places.push(word.length);
    const ids: number[] = [];
    const lengths: number[] = [];
    for (let start = 0; start < length; ) {
      let end = Math.min(length, start + this.longestPiece);
      let id: number | undefined;
      for (; end > start; end--) {
        const piece = word.slice(places[start], places[end]);
        id = this.pieces.get(start > 0 ? prefix + piece : piece);
        if (id !== undefined) break;
      }
      if (id === undefined) return asUnknown();
      ids.push(id);
      lengths.push(end - start);
      start = end;
    }
    return { ids, lengths };
  }

  private unknown(word: string): number {
    if (this.unknownId !== undefined) return this.unknownId;
    const { unknownToken } = this.model;
    throw new InputError(
      `${this.source}: model.vocab lacks the unk_token ${quoted(unknownToken)}, which stands for what the vocabulary does not have, such as ${quoted(word)}`,
    );
  }

  lengths(word: string): number[] {
    return this.cutWord(word).lengths;
  }
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** Tokens as text, with spaces between words. */
export function joinPieces(tokens: readonly string[], decoder: { prefix: string; cleanup: boolean }): string {
  const pieces = tokens.map((token, index) => {
    let piece = token;
    if (index > 0) piece = token.startsWith(decoder.prefix) ? token.slice(decoder.prefix.length) : ` ${token}`;
    return decoder.cleanup ? cleanUp(piece) : piece;
  });
  return pieces.join('');
}

/** Takes back the spaces before punctuation and English contractions. The decoder applies it to each piece by itself. */
function cleanUp(piece: string): string {
  return piece.includes(' ') ? cleanUpSpaces(piece).replaceAll(' do not', " don't") : piece;
}

/** What transformers does to a whole decoded text where `clean_up_tokenization_spaces` says so; the decoder's own has one rule more. */
export function cleanUpSpaces(text: string): string {
  return text
    .replaceAll(/ ([.?!,])/g, '$1')
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
}
