import { CallOptions, kinds } from '../arguments.ts';
import { InputError, quoted } from '../errors.ts';
import type { BatchPass } from '../models/batch_queue.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import type { TextBatch } from '../models/text_batches.ts';
import type { Context } from '../nn/parameter.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import {
  callOptionKinds,
  isAsyncIterable,
  plainText,
  type RefusedCallback,
  TextPipeline,
  type TextPipelineParts,
  type TimingCallback,
  type TokenizedText,
} from './text_pipeline.ts';

/** One word that may stand in a blank. */
export interface FillMaskCandidate {
  /** Probability, softmax over the vocabulary. */
  score: number;
  /** The word's id in the vocabulary. */
  token: number;
  token_str: string;
  /** The text with the word filled in, as the tokenizer decodes it (a tokenizer that lowercases gives lower case). Further blanks stay [MASK]. */
  sequence: string;
}

/** The candidates of a text's one blank, best first; of several blanks, a list for each. */
export type FillMaskAnswer = FillMaskCandidate[] | FillMaskCandidate[][];

/** What a text's type tells of its answer: the blanks of a literal are counted at compile time. */
export type FillMaskAnswerFor<Text extends string> = string extends Text
  ? FillMaskAnswer
  : Text extends `${string}[MASK]${infer Rest}`
    ? Rest extends `${string}[MASK]${string}`
      ? FillMaskCandidate[][]
      : FillMaskCandidate[]
    : FillMaskAnswer;

export interface FillMaskOptions {
  /** Candidates for each blank, 5 by default. */
  top_k?: number;
  /**
   * The words to choose among, instead of the whole vocabulary: their scores are what they are among all words. One that is no word of the
   * vocabulary is taken for its first piece, and one of which the tokenizer makes nothing is left out, each with a notice.
   */
  targets?: string | readonly string[];
  /** Stops the call: it rejects with the signal's reason, within the time of one batch. */
  signal?: AbortSignal;
  /** Of a stream: is told of each text that cannot be taken, which is then left out. Without it the stream ends with the error. */
  refused_callback?: RefusedCallback;
  /** Is told what a call took: tokens and milliseconds of each text. */
  timing_callback?: TimingCallback;
}

/** Fills blanks. Call it with a text or with several; see {@link pipeline}. */
export interface FillMaskPipeline {
  /** @throws InputError if the text is empty, has no mask token, or is longer than the model's positions, or no target is left. */
  <const Text extends string>(text: Text, options?: FillMaskOptions): Promise<FillMaskAnswerFor<Text>>;
  /** Answers in the order of the texts, the same as one by one. @throws InputError as for one text. */
  <const Text extends string>(texts: readonly Text[], options?: FillMaskOptions): Promise<FillMaskAnswerFor<Text>[]>;
  (texts: string | readonly string[], options?: FillMaskOptions): Promise<FillMaskAnswer | FillMaskAnswer[]>;
  /**
   * Answers a stream of texts in order: all that it has ready, 256 at most, before more is read.
   * @throws InputError as for one text, after the answers to those before it.
   */
  (texts: AsyncIterable<string>, options?: FillMaskOptions): AsyncGenerator<FillMaskAnswer>;
}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: a class cannot write its call signatures
export class FillMaskPipeline extends TextPipeline<string, Encoded> {
  readonly task = 'fill-mask';
  private readonly checked: CallOptions<FillMaskOptions>;
  private readonly pass: BatchPass<Encoded, Float32Array[]>;

  constructor(
    readonly model: MaskedLanguageModel,
    readonly tokenizer: Tokenizer,
    parts: Pick<TextPipelineParts<string, Encoded>, 'device' | 'recover' | 'batching' | 'notice' | 'release'>,
  ) {
    const { maxPositionEmbeddings } = model.config;
    super({ ...parts, inputs: { ...plainText, encode: (text, name) => encode(text, tokenizer, maxPositionEmbeddings, name) } });
    this.checked = new CallOptions<FillMaskOptions>(
      'fill-mask',
      { top_k: kinds.any, targets: kinds.any, ...callOptionKinds },
      parts.notice,
    );
    this.pass = { compute: (context, batch, texts) => maskLogits(model, context, batch, texts) };
  }

  protected override _call(texts: string | readonly string[] | AsyncIterable<string>, options: FillMaskOptions = {}) {
    return isAsyncIterable(texts) ? this.fillStream(texts as AsyncIterable<string>, options) : this.fill(texts, options);
  }

  private async fill(texts: string | readonly string[], options: FillMaskOptions): Promise<FillMaskAnswer | FillMaskAnswer[]> {
    const answers = await this.answer(texts, this.asked(this.checked.check(options)));
    return Array.isArray(texts) ? answers : answers[0];
  }

  private async *fillStream(texts: AsyncIterable<string>, options: FillMaskOptions): AsyncGenerator<FillMaskAnswer> {
    yield* this.answerStream(texts, this.asked(this.checked.check(options)), options.refused_callback);
  }

  /** What is to be made of texts, by the options. */
  private asked({ top_k: count = 5, targets, signal, timing_callback }: FillMaskOptions) {
    if (!Number.isInteger(count) || count < 1) throw new InputError(`top_k: got ${quoted(count)}, expected a whole number from 1`);
    const among = targets === undefined ? undefined : targetIds(targets, this.tokenizer, this.notice);
    const finish = (logits: readonly Float32Array[], encoded: Encoded): FillMaskAnswer => {
      const { ids, masks } = encoded;
      const lists = masks.map((position, blank) => {
        this.checkFinite(encoded, logits[blank]);
        return candidates(logits[blank], { ids, position, among, count }, this.tokenizer);
      });
      return lists.length === 1 ? lists[0] : lists;
    };
    return { pass: this.pass, finish, signal, timing_callback };
  }
}

interface Encoded extends TokenizedText {
  ids: readonly number[];
  /** Positions of the mask token. */
  masks: readonly number[];
}

function encode(text: string, tokenizer: Tokenizer, positions: number, what: string): Encoded {
  if (text.trim() === '') throw new InputError(`${what} is empty, expected a sentence with ${tokenizer.maskToken} in it`);
  const { ids, typeIds, loss } = tokenizer.encode(text);
  if (ids.length > positions) {
    throw new InputError(`${what} has ${ids.length} tokens, but the model takes at most ${positions}: shorten it`);
  }
  const masks = ids.flatMap((id, position) => (id === tokenizer.maskId ? [position] : []));
  if (masks.length === 0)
    throw new InputError(`${what} has no blank: write ${tokenizer.maskToken} where a word is to be filled in (got ${excerpt(text)})`);
  return { ids, typeIds, masks, loss };
}

const excerpt = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);

/** For each text the logits [vocabulary] of its blanks. */
async function maskLogits(
  model: MaskedLanguageModel,
  context: Context,
  batch: TextBatch,
  texts: readonly Encoded[],
): Promise<Float32Array[][]> {
  const positions = texts.flatMap(({ masks }, row) => masks.map((position) => row * batch.length + position));
  const logits = await context.device.read(model.logits(context, batch, Int32Array.from(positions)));
  const vocabulary = logits.length / positions.length;
  let blank = 0;
  return texts.map(({ masks }) => masks.map(() => logits.subarray(blank * vocabulary, ++blank * vocabulary)));
}

/** The ids of the targets, each once. @throws InputError if there is none */
function targetIds(targets: string | readonly string[], tokenizer: Tokenizer, notice: (message: string) => void): number[] {
  const words = typeof targets === 'string' ? [targets] : targets;
  if (!Array.isArray(words) || words.some((word) => typeof word !== 'string'))
    throw new InputError(`targets: got ${quoted(targets)}, expected a word or an array of words`);
  const ids = new Set<number>();
  for (const word of words) {
    const id = tokenizer.tokenToId(word) ?? tokenizer.encodeIds(word).at(0);
    if (id === undefined) notice(`target ${quoted(word)}: the tokenizer makes no token of it, it is left out`);
    else {
      const token = tokenizer.idToToken(id) as string;
      if (token !== word) notice(`target ${quoted(word)} is no word of the model's vocabulary: ${quoted(token)} is taken for it`);
      ids.add(id);
    }
  }
  if (ids.size === 0) throw new InputError(`targets: got ${quoted(targets)}, expected at least one word of the model's vocabulary`);
  return [...ids];
}

/** The best `count` of the vocabulary, or of the ids `among` it, for the blank at `position` of a text's `ids`. */
function candidates(
  logits: Float32Array,
  { ids, position, among, count }: { ids: readonly number[]; position: number; among: readonly number[] | undefined; count: number },
  tokenizer: Tokenizer,
): FillMaskCandidate[] {
  const { maskId, specialIds } = tokenizer;
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  const best = among
    ? largestIndices(
        Float32Array.from(among, (id) => logits[id]),
        count,
      ).map((index) => among[index])
    : // A model's vocabulary may be padded beyond the tokenizer's, and that may have holes.
      largestIndices(
        logits
          .subarray(0, tokenizer.vocabularySize)
          .map((logit, id) => (tokenizer.idToToken(id) === undefined ? Number.NEGATIVE_INFINITY : logit)),
        count,
      );
  return best.map((token) => {
    const filled = ids.map((id, index) => (index === position ? token : id));
    const shown = filled.filter((id, index) => index === position || id === maskId || !specialIds.has(id));
    return {
      score: Math.exp(logits[token] - largest) / sum,
      token,
      token_str: tokenizer.decode([token]),
      sequence: tokenizer.decode(shown),
    };
  });
}

/** Indices of the `count` largest values, largest first, the lower index first among equals. */
function largestIndices(values: Float32Array, count: number): number[] {
  const best: number[] = [];
  for (let index = 0; index < values.length; index++) {
    if (best.length === count && values[index] <= values[best[count - 1]]) continue;
    let place = best.length;
    while (place > 0 && values[index] > values[best[place - 1]]) place--;
    best.splice(place, 0, index);
    if (best.length > count) best.pop();
  }
  return best;
}
