import { checkArgument, checkOptions, kinds, type OptionKinds } from '../arguments.ts';
import { InputError, quoted } from '../errors.ts';
import { CharacterLoss } from './character_loss.ts';
import { lowerCases } from './normalizer.ts';
import { joinByteLetters, joinMarked } from './spelling.ts';
import { TextSteps } from './text_steps.ts';
import { byteStream, growingStream, type TextStream } from './text_stream.ts';
import { parseTokenizerJson, readTokenizerJson, type TemplateItem, type TokenizerConfig } from './tokenizer_json.ts';
import { type EncodedPart, type TruncationSide, truncate } from './truncate.ts';
import { cleanUpSpaces, joinPieces } from './word_piece.ts';

export interface EncodeOptions {
  /** Read together with the text. */
  pair?: string;
  addSpecialTokens?: boolean;
  /** Tokens in all; see {@link Tokenizer.encode}. */
  maxLength?: number;
  /** Which end is left out of a text that is too long; by default {@link Tokenizer.truncationSide}. */
  truncationSide?: TruncationSide;
}

/** The special tokens that have a part to play. */
export type SpecialTokenName = 'pad' | 'cls' | 'sep' | 'mask' | 'bos' | 'eos';

/** What a tokenizer_config.json says beside the tokenizer.json. */
export interface TokenizerSettings {
  /** Tokens of a text that the model was made for, special ones included; {@link Tokenizer.encode} cuts to it only if it is told to. */
  maxLength?: number;
  /** By default the side that the tokenizer.json names, else 'right'. */
  truncationSide?: TruncationSide;
  /** Which tokens they are, by default those of the usual names. */
  specialTokens?: Partial<Record<SpecialTokenName, string>>;
  /** Whether decoded text loses the blanks before punctuation and English contractions. By default it does not. */
  cleansUp?: boolean;
  /** Whether token types are told; otherwise all are 0. By default they are. */
  tokenTypes?: boolean;
  /** All of it, which goes along where the tokenizer is saved. */
  config?: Readonly<Record<string, unknown>>;
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

const encodeOptionKinds: OptionKinds<EncodeOptions> = {
  pair: kinds.text,
  addSpecialTokens: kinds.flag,
  maxLength: kinds.integer,
  truncationSide: { expected: "'left' or 'right'", holds: (value) => value === 'left' || value === 'right' },
};

/** Names of the special tokens in the tokenizers there are, preferred ones first. */
const specialNames: Record<SpecialTokenName, readonly string[]> = {
  pad: ['[PAD]', '<pad>'],
  cls: ['[CLS]', '<cls>', '<s>'],
  sep: ['[SEP]', '<sep>', '</s>'],
  mask: ['[MASK]', '<mask>'],
  bos: ['<|endoftext|>', '<|begin_of_text|>', '<s>'],
  eos: ['<|endoftext|>', '<|end_of_text|>', '</s>'],
};

/**
 * A tokenizer of the WordPiece, BPE or Unigram kind, loaded from a tokenizer.json. It agrees with Hugging Face's `tokenizers`, whose format that is, but for characters
 * that are younger than that library's tables: what is a letter, a mark or punctuation is as the JavaScript engine has it. Whatever a file
 * asks for, its patterns too, takes time in proportion to the text's length.
 */
export class Tokenizer {
  /** The content of the tokenizer.json. */
  readonly json: unknown;
  /** Ids are 0 to this number, excluded; not each of them need have a token. */
  readonly vocabularySize: number;
  /** Absent if the vocabulary lacks the token for what it does not know. */
  readonly unknownId: number | undefined;
  readonly padId: number | undefined;
  readonly clsId: number | undefined;
  readonly sepId: number | undefined;
  readonly maskId: number | undefined;
  /** What a text begins and ends with in the training of models that write. */
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  /** The text that stands for a masked word, such as [MASK]. */
  readonly maskToken: string | undefined;
  /** Ids of all special tokens. */
  readonly specialIds: ReadonlySet<number>;
  /** Tokens of a text that the model was made for, special ones included, if its folder says so. */
  readonly maxLength: number | undefined;
  /** Which end of a text is left out where it is too long. */
  readonly truncationSide: TruncationSide;

  private readonly config: TokenizerConfig;
  /** What stands for each id in decoded text. */
  private readonly shown: (string | undefined)[];
  private readonly idOf: ReadonlyMap<string, number>;
  private readonly steps: TextSteps;

  private constructor(
    json: unknown,
    private readonly source: string,
    readonly settings: TokenizerSettings,
  ) {
    this.json = json;
    const config = parseTokenizerJson(json, source);
    this.config = config;
    const { model, tokens, addedTokens } = config;
    this.vocabularySize = tokens.length;
    const idOf = new Map<string, number>(Object.entries(model.vocabulary));
    for (const { content, id } of addedTokens) idOf.set(content, id);
    this.idOf = idOf;
    this.steps = new TextSteps(config, source);

    // One that is found in normalized text is shown as it was found.
    this.shown = [...tokens];
    for (const { id, content, normalized } of addedTokens) this.shown[id] = normalized ? this.steps.normalizer.normalize(content) : content;
    const { maxLength, truncationSide = config.truncationSide, specialTokens = {} } = settings;
    this.maxLength = maxLength;
    this.truncationSide = truncationSide;
    const named = (name: SpecialTokenName): number | undefined => {
      const given = specialTokens[name];
      return (given === undefined ? specialNames[name] : [given]).map((content) => idOf.get(content)).find((id) => id !== undefined);
    };
    this.unknownId = this.steps.unknownId;
    this.padId = named('pad');
    this.clsId = named('cls');
    this.sepId = named('sep');
    this.maskId = named('mask');
    this.bosId = named('bos');
    this.eosId = named('eos');
    this.maskToken = this.maskId === undefined ? undefined : tokens[this.maskId];
    this.specialIds = new Set(addedTokens.filter(({ special, content, id }) => special && this.shown[id] === content).map(({ id }) => id));
  }

  /**
   * @param json the content of a tokenizer.json, parsed.
   * @param source its name, for messages.
   * @throws {InputError} naming the file and the key if it is malformed or of another kind.
   */
  static fromJson(json: unknown, source = 'tokenizer.json', settings: TokenizerSettings = {}): Tokenizer {
    checkArgument('source', source, kinds.text);
    checkArgument('settings', settings, kinds.object);
    return new Tokenizer(json, source, settings);
  }

  /**
   * Reads a tokenizer.json by itself; {@link loadTokenizer} reads a model's folder. Throws {@link InputError} as {@link fromJson} does, and if
   * the file cannot be read.
   */
  static async load(path: string): Promise<Tokenizer> {
    checkArgument('path', path, kinds.text);
    return new Tokenizer(await readTokenizerJson(path), path, {});
  }

  /** This tokenizer if it lower-cases, else one that does and is otherwise the same. */
  lowerCased(): Tokenizer {
    const { normalizer } = this.config;
    if (lowerCases(normalizer)) return this;
    const normalizers = [
      { type: 'Lowercase' },
      ...(normalizer?.type === 'Sequence' ? normalizer.normalizers : normalizer ? [normalizer] : []),
    ];
    return new Tokenizer({ ...(this.json as object), normalizer: { type: 'Sequence', normalizers } }, this.source, this.settings);
  }

  /**
   * Encodes a text, or a text and its `pair`, with the special tokens that the tokenizer's template adds unless told not to. With
   * `maxLength` the end of the text (the beginning, if `truncationSide` is 'left'), or of the longer one of the two, is left out as far as
   * is needed for so many tokens in all.
   *
   * @throws {InputError} if `maxLength` does not even hold the special tokens.
   */
  encode(text: string, options: EncodeOptions = {}): Encoding {
    checkArgument('text', text, kinds.text);
    checkOptions(options, encodeOptionKinds);
    const { pair, addSpecialTokens = true, maxLength, truncationSide = this.truncationSide } = options;
    const { tokenTypes = true } = this.settings;
    const { template } = this.config;
    let items: readonly TemplateItem[];
    if (pair === undefined) items = addSpecialTokens ? template.single : template.single.filter((item) => 'sequence' in item);
    else items = addSpecialTokens ? template.pair : template.pairWithoutSpecials;

    const textOf = (item: { sequence: 'A' | 'B' }): string => (item.sequence === 'A' ? text : (pair as string));
    const loss = new CharacterLoss();
    const parts = items.map((item) => {
      const part: EncodedPart = { ids: [], tokens: [], skipped: 0 };
      if ('sequence' in item) this.steps.encode(textOf(item), part.ids, loss, part.tokens);
      else for (const id of item.ids) part.tokens[part.ids.push(id) - 1] = this.config.tokens[id] ?? '';
      return part;
    });
    const truncated = maxLength === undefined ? 0 : truncate(items, parts, maxLength, truncationSide);
    const placeTokens = (): [number, number][] =>
      items.flatMap((item, i) => {
        const { ids, skipped } = parts[i];
        return 'sequence' in item
          ? this.steps.offsets(textOf(item)).slice(skipped, skipped + ids.length)
          : item.ids.map((): [number, number] => [0, 0]);
      });
    let offsets: [number, number][] | undefined;
    return {
      ids: parts.flatMap(({ ids }) => ids),
      tokens: parts.flatMap(({ tokens }) => tokens),
      typeIds: items.flatMap(({ typeId }, i) => parts[i].ids.map(() => (tokenTypes ? typeId : 0))),
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
    this.steps.encode(text, ids, loss);
    return ids;
  }

  /**
   * The text of `ids`, with spaces between words; what has no token is left out.
   *
   * @throws {InputError} if an id is not one of the vocabulary's.
   */
  decode(ids: Iterable<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    checkArgument('ids', ids, kinds.iterable);
    checkOptions(options, { skipSpecialTokens: kinds.flag });
    const { decoder } = this.config;
    const shown: string[] = [];
    for (const id of ids) {
      if (!(Number.isInteger(id) && id >= 0 && id < this.vocabularySize))
        throw new InputError(`token id ${quoted(id)}: expected a whole number from 0 to ${this.vocabularySize - 1}`);
      const token = this.shown[id];
      if (token !== undefined && !(options.skipSpecialTokens && this.specialIds.has(id))) shown.push(token);
    }
    const text = joinTokens(shown, decoder);
    return this.settings.cleansUp ? cleanUpSpaces(text) : text;
  }

  /** The same of ids that come one by one, as text that grows by whole characters. */
  textStream(options: { skipSpecialTokens?: boolean } = {}): TextStream {
    checkOptions(options, { skipSpecialTokens: kinds.flag });
    if (this.config.decoder?.type !== 'ByteLevel') return growingStream((ids) => this.decode(ids, options));
    return byteStream((id) => (options.skipSpecialTokens && this.specialIds.has(id) ? undefined : this.shown[id]));
  }

  /** What JSON.stringify writes of it: a tokenizer.json. */
  toJSON(): unknown {
    return this.json;
  }

  tokenToId(token: string): number | undefined {
    return this.idOf.get(token);
  }

  idToToken(id: number): string | undefined {
    return this.shown[id];
  }
}

function joinTokens(tokens: readonly string[], decoder: TokenizerConfig['decoder']): string {
  if (decoder === null) return tokens.join(' ');
  if (decoder.type === 'WordPiece') return joinPieces(tokens, decoder);
  return decoder.type === 'ByteLevel' ? joinByteLetters(tokens) : joinMarked(tokens, decoder);
}
