import { Arena } from '../backend/arena.ts';
import type { Backend } from '../backend/backend.ts';
import { InputError } from '../errors.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

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
}

/** Fills blanks. Call it with a text or with several; see {@link pipeline}. */
export interface FillMaskPipeline extends Disposable {
  /** @throws InputError if the text is empty, has no mask token, or is longer than the model's positions. */
  <const Text extends string>(text: Text, options?: FillMaskOptions): Promise<FillMaskAnswerFor<Text>>;
  /** Answers in the order of the texts, the same as one by one. @throws InputError as for one text. */
  <const Text extends string>(texts: readonly Text[], options?: FillMaskOptions): Promise<FillMaskAnswerFor<Text>[]>;
  readonly task: 'fill-mask';
  readonly model: MaskedLanguageModel;
  readonly tokenizer: Tokenizer;
  /** Frees the model, and the backend unless it was handed in. Resolves when calls under way have ended. */
  dispose(): Promise<void>;
}

/** Tokens in one forward pass, padding included: enough to keep a machine busy, little enough to keep activations small. */
const tokensPerBatch = 4096;

interface Encoded {
  ids: number[];
  /** Positions of the mask token. */
  masks: number[];
}

/** A fill-mask pipeline of a model and its tokenizer. `release` is called once, when the pipeline is disposed. */
export function createFillMask(model: MaskedLanguageModel, tokenizer: Tokenizer, backend: Backend, release: () => void): FillMaskPipeline {
  const arena = new Arena(backend);
  let disposed = false;
  // Calls take turns: they share the arena.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work);
    last = result.catch(() => undefined);
    return result;
  };

  const fill = async (texts: string | readonly string[], options: FillMaskOptions = {}): Promise<FillMaskAnswer | FillMaskAnswer[]> => {
    if (disposed) throw new Error('this fill-mask pipeline was disposed');
    const count = options.top_k ?? 5;
    if (!Number.isInteger(count) || count < 1) throw new InputError(`top_k: got ${count}, expected a whole number from 1`);
    if (typeof texts !== 'string' && !Array.isArray(texts))
      throw new InputError(`got ${typeof texts}, expected a text or an array of texts`);
    const single = typeof texts === 'string';
    const list: readonly string[] = single ? [texts] : texts;
    const encoded = list.map((text, index) => encode(text, tokenizer, model.config.positions, single ? 'the text' : `text ${index + 1}`));
    const answers = await inTurn(async () => {
      const answers: FillMaskAnswer[] = new Array(encoded.length);
      for (const batch of batches(encoded)) {
        const logits = await maskLogits(
          model,
          backend,
          arena,
          batch.map((index) => encoded[index]),
        );
        let row = 0;
        for (const index of batch) {
          const { ids, masks } = encoded[index];
          const lists = masks.map((position) => candidates(logits(row++), ids, position, tokenizer, count));
          answers[index] = lists.length === 1 ? lists[0] : lists;
        }
      }
      return answers;
    });
    return single ? answers[0] : answers;
  };

  const dispose = (): Promise<void> => {
    if (disposed) return last.then(() => undefined);
    disposed = true;
    return inTurn(async () => {
      arena.dispose();
      release();
    });
  };
  return Object.assign(fill, { task: 'fill-mask', model, tokenizer, dispose, [Symbol.dispose]: () => void dispose() }) as FillMaskPipeline;
}

function encode(text: string, tokenizer: Tokenizer, positions: number, what: string): Encoded {
  if (typeof text !== 'string') throw new InputError(`${what}: got ${typeof text}, expected a string`);
  if (text.trim() === '') throw new InputError(`${what} is empty, expected a sentence with ${tokenizer.maskToken} in it`);
  const { ids } = tokenizer.encode(text);
  if (ids.length > positions) {
    throw new InputError(`${what} has ${ids.length} tokens, but the model takes at most ${positions}: shorten it`);
  }
  const masks = ids.flatMap((id, position) => (id === tokenizer.maskId ? [position] : []));
  if (masks.length === 0)
    throw new InputError(`${what} has no blank: write ${tokenizer.maskToken} where a word is to be filled in (got ${excerpt(text)})`);
  return { ids, masks };
}

const excerpt = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);

/** Groups of texts for one forward pass each: of like length, so that there is little padding. */
function* batches(encoded: readonly Encoded[]): Generator<number[]> {
  const order = encoded.map((_, index) => index).sort((a, b) => encoded[a].ids.length - encoded[b].ids.length);
  let batch: number[] = [];
  for (const index of order) {
    if (batch.length > 0 && (batch.length + 1) * encoded[index].ids.length > tokensPerBatch) {
      yield batch;
      batch = [];
    }
    batch.push(index);
  }
  if (batch.length > 0) yield batch;
}

/** Runs the model; returns the logits [vocabulary] of the n-th blank of the batch. */
async function maskLogits(
  model: MaskedLanguageModel,
  backend: Backend,
  arena: Arena,
  batch: readonly Encoded[],
): Promise<(blank: number) => Float32Array> {
  const length = Math.max(...batch.map(({ ids }) => ids.length));
  const ids = new Int32Array(batch.length * length);
  const attentionMask = new Int32Array(batch.length * length);
  batch.forEach((text, row) => {
    ids.set(text.ids, row * length);
    attentionMask.fill(1, row * length, row * length + text.ids.length);
  });
  const positions = Int32Array.from(batch.flatMap(({ masks }, row) => masks.map((position) => row * length + position)));
  const padded = attentionMask.includes(0);
  arena.reset();
  const tensor = model.logits(
    { backend, arena, training: false },
    { batch: batch.length, length, ids, attentionMask: padded ? attentionMask : undefined },
    positions,
  );
  const logits = await backend.read(tensor);
  const vocabulary = logits.length / positions.length;
  return (blank) => logits.subarray(blank * vocabulary, (blank + 1) * vocabulary);
}

function candidates(
  logits: Float32Array,
  ids: readonly number[],
  position: number,
  tokenizer: Tokenizer,
  count: number,
): FillMaskCandidate[] {
  const { maskId, specialIds } = tokenizer;
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  // A model's vocabulary may be padded beyond the tokenizer's.
  return largestIndices(logits.subarray(0, tokenizer.vocabularySize), count).map((token) => {
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
