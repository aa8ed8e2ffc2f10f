import { CallOptions, kinds } from '../arguments.ts';
import type { Device } from '../backend/device.ts';
import { InputError, quoted } from '../errors.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import type { TextBatch } from '../models/text_batches.ts';
import type { Context } from '../nn/parameter.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { isAsyncIterable, plainText, type RefusedCallback, type RunText, streamOptionKinds, TextRunner } from './text_runner.ts';

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
}

/** Fills blanks. Call it with a text or with several; see {@link pipeline}. */
export interface FillMaskPipeline extends Disposable {
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
  readonly task: 'fill-mask';
  readonly model: MaskedLanguageModel;
  readonly tokenizer: Tokenizer;
  /** Frees the model, and the backend unless it was handed in. Resolves when calls under way have ended. */
  dispose(): Promise<void>;
}

interface Encoded extends RunText {
  ids: readonly number[];
  /** Positions of the mask token. */
  masks: readonly number[];
}

/** A fill-mask pipeline of a model and its tokenizer. `notice` is told of targets that are no words; `release` is called once, when the pipeline is disposed. */
export function createFillMask(
  model: MaskedLanguageModel,
  tokenizer: Tokenizer,
  device: Device,
  notice: (message: string) => void,
  release: () => void,
): FillMaskPipeline {
  const { maxPositionEmbeddings: positions } = model.config;
  const inputs = { ...plainText, encode: (text: string, name: string) => encode(text, tokenizer, positions, name) };
  const runner = new TextRunner('fill-mask', device, inputs, notice, release);
  const checked = new CallOptions<FillMaskOptions>('fill-mask', { top_k: kinds.any, targets: kinds.any, ...streamOptionKinds }, notice);

  /** What is to be made of texts, by the options. */
  const filler = ({ top_k: count = 5, targets, signal }: FillMaskOptions) => {
    if (!Number.isInteger(count) || count < 1) throw new InputError(`top_k: got ${quoted(count)}, expected a whole number from 1`);
    const among = targets === undefined ? undefined : targetIds(targets, tokenizer, notice);
    return async (encoded: readonly Encoded[]): Promise<FillMaskAnswer[]> => {
      const answers: FillMaskAnswer[] = new Array(encoded.length);
      await runner.run(encoded, { signal }, async (context, batch) => {
        const logits = await maskLogits(model, context, batch, encoded);
        let row = 0;
        for (const index of batch.members) {
          const { ids, masks } = encoded[index];
          const lists = masks.map((position) => {
            const own = logits(row++);
            runner.checkFinite(encoded[index], own);
            return candidates(own, { ids, position, among, count }, tokenizer);
          });
          answers[index] = lists.length === 1 ? lists[0] : lists;
        }
      });
      return answers;
    };
  };

  const fill = (texts: string | readonly string[] | AsyncIterable<string>, options: FillMaskOptions = {}) => {
    if (isAsyncIterable(texts)) return stream(texts as AsyncIterable<string>, options);
    return (async () => {
      const answers = await runner.call(texts, checked.check(options).signal, filler(options));
      return Array.isArray(texts) ? answers : answers[0];
    })();
  };
  async function* stream(texts: AsyncIterable<string>, options: FillMaskOptions) {
    yield* runner.stream(texts, checked.check(options).signal, filler(options), options.refused_callback);
  }

  const dispose = () => runner.dispose();
  return Object.assign(fill, { task: 'fill-mask', model, tokenizer, dispose, [Symbol.dispose]: () => void dispose() }) as FillMaskPipeline;
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

/** Runs the model; returns the logits [vocabulary] of the n-th blank of the batch. */
async function maskLogits(
  model: MaskedLanguageModel,
  context: Context,
  batch: TextBatch,
  encoded: readonly Encoded[],
): Promise<(blank: number) => Float32Array> {
  const positions = Int32Array.from(
    batch.members.flatMap((index, row) => encoded[index].masks.map((position) => row * batch.length + position)),
  );
  const logits = await context.device.read(model.logits(context, batch, positions));
  const vocabulary = logits.length / positions.length;
  return (blank) => logits.subarray(blank * vocabulary, (blank + 1) * vocabulary);
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
