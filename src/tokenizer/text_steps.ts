import { InputError } from '../errors.ts';
import { AddedTokenFinder } from './added_tokens.ts';
import { type AlignedText, alignedText, codePointIndex } from './aligned_text.ts';
import { CharacterLoss, countCharacters } from './character_loss.ts';
import { LibraryModel } from './library_model.ts';
import { createNormalizer, type Normalizer } from './normalizer.ts';
import { createPreTokenizer, type PreTokenizer } from './pre_tokenizer.ts';
import { createSpelling, type Spelling, spaceLetter } from './spelling.ts';
import type { TokenizerConfig } from './tokenizer_json.ts';
import { type PieceModel, WordPiece } from './word_piece.ts';

/** The steps from a text to its tokens: added tokens are found, the rest is normalized, cut into words, and these into pieces. */
export class TextSteps {
  readonly normalizer: Normalizer;
  readonly unknownId: number | undefined;
  private readonly preTokenize: PreTokenizer;
  private readonly spelling: Spelling | undefined;
  private readonly pieces: PieceModel;
  private readonly finder: AddedTokenFinder;
  private readonly normalizedFinder: AddedTokenFinder;

  /** @param source the tokenizer.json's name, for messages. */
  constructor(
    private readonly config: TokenizerConfig,
    source: string,
  ) {
    const { model, addedTokens } = config;
    this.normalizer = createNormalizer(config.normalizer ?? { type: 'Sequence', normalizers: [] });
    this.preTokenize = config.preTokenizer ? createPreTokenizer(config.preTokenizer) : (text) => [0, text.length];
    this.spelling = config.spelling ? createSpelling(config.spelling) : undefined;
    this.pieces = model.type === 'WordPiece' ? new WordPiece(model, source) : new LibraryModel(model);
    this.finder = new AddedTokenFinder(addedTokens.filter((token) => !token.normalized));
    this.normalizedFinder = new AddedTokenFinder(
      addedTokens.filter((token) => token.normalized),
      this.normalizer,
    );
    this.unknownId = this.pieces.unknownId;
  }

  /** Appends the ids of a text and, if wanted, the tokens. Adds to `loss` what became of its characters. */
  encode(text: string, ids: number[], loss: CharacterLoss, tokens?: string[]): void {
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
        if (!this.spelling) this.encodeWord(word, ids, loss, tokens);
        else for (const { text: spelled } of this.spelling(word)) this.encodeWord(spelled, ids, loss, tokens);
      }
    }
  }

  private encodeWord(word: string, ids: number[], loss: CharacterLoss, tokens?: string[]): void {
    let hasUnknown = false;
    for (const id of this.pieces.ids(word)) {
      hasUnknown ||= id === this.unknownId;
      ids.push(id);
      tokens?.push(this.config.tokens[id] as string);
    }
    if (hasUnknown) loss.lost += this.unknownCharacters(word);
  }

  private unknownCharacters(word: string): number {
    const ids = this.pieces.ids(word);
    const characters = Array.from(word);
    let [count, start] = [0, 0];
    this.pieces.lengths(word).forEach((length, index) => {
      if (ids[index] === this.unknownId) count += countCharacters(characters.slice(start, start + length).join(''));
      start += length;
    });
    return count;
  }

  /** The offsets of the tokens that {@link encode} finds, by the same steps with the characters' places kept. */
  offsets(text: string): [number, number][] {
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
    return this.config.trimOffsets ? this.trimmed(offsets, text, this.config.trimOffsets) : offsets;
  }

  /** Offsets without the space that tokens of BPE begin or end with, where the tokenizer has it so. */
  private trimmed(offsets: [number, number][], text: string, { addsSpace }: { addsSpace: boolean }): [number, number][] {
    const tokens: string[] = [];
    this.encode(text, [], new CharacterLoss(), tokens);
    return offsets.map(([start, end], index): [number, number] => {
      let leading = leadingSpaces.exec(tokens[index])?.[0].length ?? 0;
      // What was put there takes no place in the text.
      if (leading > 0 && (index === 0 || start === 0) && addsSpace) leading--;
      const trailing = trailingSpaces.exec(tokens[index])?.[0].length ?? 0;
      const from = Math.min(start + leading, end);
      return [from, trailing > 0 && end >= trailing ? Math.max(end - trailing, from) : end];
    });
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
        const first = indices[stretch.start + spans[i]];
        const word = words.slice(spans[i], spans[i + 1]);
        const asItIs = { text: word, places: (): undefined => undefined };
        for (const spelled of this.spelling?.(word) ?? [asItIs]) {
          const places = spelled.places();
          let start = 0;
          for (const length of this.pieces.lengths(spelled.text)) {
            const end = start + length;
            if (places) place(first + places[start], first + places[end - 1] + 1);
            else place(first + start, first + end);
            start = end;
          }
        }
      }
    }
  }
}

const leadingSpaces = new RegExp(`^[${spaceLetter}\\p{White_Space}]+`, 'u');
const trailingSpaces = new RegExp(`[${spaceLetter}\\p{White_Space}]+$`, 'u');
