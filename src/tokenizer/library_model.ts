import { BPE, Unigram } from '@huggingface/tokenizers';
import { copyOfWord } from './pre_tokenizer.ts';
import type { TokenizerConfig } from './tokenizer_json.ts';
import type { PieceModel } from './word_piece.ts';

/** Words whose ids are remembered, and the longest of them, in UTF-16 units. */
const rememberedWords = 1 << 16;
const longestRemembered = 256;

/** Words cut by merges (BPE) or by the most probable pieces (Unigram), as Hugging Face's JavaScript library does it. */
export class LibraryModel implements PieceModel {
  readonly unknownId: number | undefined;
  private readonly model: BPE | Unigram;
  private readonly idOf: ReadonlyMap<string, number>;
  private readonly cache = new Map<string, readonly number[]>();
  private readonly fusesUnknown: boolean;

  constructor(model: Exclude<TokenizerConfig['model'], { type: 'WordPiece' }>) {
    this.idOf = new Map(Object.entries(model.vocabulary));
    this.unknownId = model.unknownToken === undefined ? undefined : this.idOf.get(model.unknownToken);
    this.fusesUnknown = model.type === 'Unigram' || model.fusesUnknown;
    if (model.type === 'Unigram') {
      const vocab = model.pieces.map(([piece, score]) => [piece, score] as [string, number]);
      this.model = new Unigram({ type: 'Unigram', vocab, unk_id: this.unknownId ?? 0 } as ConstructorParameters<typeof Unigram>[0], '');
    } else {
      const config = { type: 'BPE', vocab: model.vocabulary, merges: model.merges, ignore_merges: model.ignoresMerges };
      this.model = new BPE(config as unknown as ConstructorParameters<typeof BPE>[0]);
    }
  }

  ids(word: string): readonly number[] {
    const known = this.cache.get(word);
    if (known) return known;
    const ids = this.cut(word).map(({ id }) => id);
    if (word.length <= longestRemembered) {
      if (this.cache.size >= rememberedWords) this.cache.clear();
      this.cache.set(copyOfWord(word), ids);
    }
    return ids;
  }

  lengths(word: string): number[] {
    return this.cut(word).map(({ length }) => length);
  }

  /** The tokens of a word, with their code points. What no piece has is the unknown token, or nothing where there is none. */
  private cut(word: string): { id: number; length: number }[] {
    const tokens: { id: number; length: number }[] = [];
    const pieces = this.model instanceof BPE ? this.bytePairs(this.model, word) : this.model.tokenize(word);
    let wasUnknown = false;
    for (const piece of pieces) {
      const id = this.idOf.get(piece) ?? this.unknownId;
      const length = Array.from(piece).length;
      const isUnknown = !this.idOf.has(piece);
      if (isUnknown && wasUnknown && this.fusesUnknown) tokens[tokens.length - 1].length += length;
      else if (id !== undefined) tokens.push({ id, length });
      wasUnknown = isUnknown && id !== undefined;
    }
    return tokens;
  }

  private bytePairs(model: BPE, word: string): string[] {
    return model.ignore_merges && this.idOf.has(word) ? [word] : model.bpe(word);
  }
}
