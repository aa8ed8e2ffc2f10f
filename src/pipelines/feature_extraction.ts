import type { Backend } from '../backend/backend.ts';
import { InputError } from '../errors.ts';
import type { Encoder } from '../models/encoder.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { SentenceModules } from './sentence_transformer.ts';
import { answerStream, encodeAll, isAsyncIterable, listOf, TextRunner } from './text_runner.ts';

/** Vectors of texts, with the names that transformers.js has. */
export interface Features {
  /** Pooled: [texts, width]. Not pooled: [texts, tokens, width], shorter texts filled up with zeros. */
  dims: number[];
  /** The values, the last dimension running fastest. */
  data: Float32Array;
  /** The values as nested arrays. */
  tolist(): NestedNumbers[];
}

type NestedNumbers = number[] | NestedNumbers[];

export interface FeatureExtractionOptions {
  /**
   * How a text's token vectors become one: their mean, the first token's ('cls'), or the largest of each feature; 'none' leaves them. By default
   * what the model's folder says (modules.json of sentence-transformers), else 'none'.
   */
  pooling?: 'none' | SentenceModules['pooling'];
  /** Scale pooled vectors to length 1. By default what the model's folder says, else false. */
  normalize?: boolean;
  /** Stops the call: it rejects with the signal's reason, within the time of one batch. */
  signal?: AbortSignal;
}

/** Embeds texts; see {@link pipeline}. Texts of more tokens than the model takes are cut, with a notice. */
export interface FeatureExtractionPipeline extends Disposable {
  /** One text gives the first dimension 1. @throws InputError if what is given is no text. */
  (texts: string | readonly string[], options?: FeatureExtractionOptions): Promise<Features>;
  /** The pooled vector of each text of a stream, as they come, in order. @throws InputError with pooling 'none'. */
  (texts: AsyncIterable<string>, options?: FeatureExtractionOptions): AsyncGenerator<Float32Array>;
  readonly task: 'feature-extraction';
  readonly model: Encoder;
  readonly tokenizer: Tokenizer;
  /** Tokens of a text that are used, special ones included. */
  readonly maxLength: number;
  /** How texts become vectors, if the model's folder says so (modules.json). */
  readonly pooling: SentenceModules['pooling'] | undefined;
  /** Frees the model, and the backend unless it was handed in. Resolves when calls under way have ended. */
  dispose(): Promise<void>;
}

/** What the backend calls the ways of pooling. */
export const poolKinds = { mean: 'mean', cls: 'first', max: 'max' } as const;

/** `modules`: what the model's folder says. `notice` is told of texts that were cut; `release` is called once, when the pipeline is disposed. */
export function createFeatureExtraction(
  model: Encoder,
  tokenizer: Tokenizer,
  backend: Backend,
  modules: SentenceModules | undefined,
  notice: (message: string) => void,
  release: () => void,
): FeatureExtractionPipeline {
  const runner = new TextRunner('feature-extraction', backend, release);
  const width = model.config.hiddenSize;
  const maxLength = Math.min(modules?.maxLength ?? Number.POSITIVE_INFINITY, model.config.positions);

  const settle = (options: FeatureExtractionOptions) => {
    const { pooling = modules?.pooling ?? 'none', normalize = modules?.normalize ?? false } = options;
    if (pooling !== 'none' && !(pooling in poolKinds)) {
      throw new InputError(`pooling: got ${JSON.stringify(pooling)}, expected one of none, ${Object.keys(poolKinds).join(', ')}`);
    }
    return { pooling, normalize: normalize && pooling !== 'none', signal: options.signal };
  };

  const extract = (texts: readonly string[], options: FeatureExtractionOptions) => runner.call(() => extractInTurn(texts, options));
  const extractInTurn = async (texts: readonly string[], options: FeatureExtractionOptions): Promise<Features> => {
    const { pooling, normalize, signal } = settle(options);
    const encoded = await encodeAll(texts, signal, (text) => tokenizer.encode(text, { maxLength }));
    const cut = encoded.filter(({ truncated }) => truncated > 0).length;
    if (cut > 0)
      notice(`${cut} of ${texts.length} texts ${cut === 1 ? 'has' : 'have'} more than ${maxLength} tokens: the end was left out`);
    const longest = encoded.reduce((most, { ids }) => Math.max(most, ids.length), 0);
    const perText = pooling === 'none' ? longest * width : width;
    const data = new Float32Array(texts.length * perText);
    await runner.run(encoded, { signal }, async (run, batch) => {
      const { output } = model.forward(run, batch);
      if (pooling === 'none') {
        const values = await run.backend.read(output);
        batch.members.forEach((index, row) => {
          const start = row * batch.length * width;
          data.set(values.subarray(start, start + encoded[index].ids.length * width), index * perText);
        });
        return;
      }
      const { batch: rows, length } = batch;
      const pooled = run.arena.tensor('pooled', [rows, width]);
      const mask = batch.attentionMask && run.arena.tensor('pooling mask', [rows, length], 'i32');
      if (mask) run.backend.write(mask, batch.mask);
      run.backend.pool({ input: output, batch: rows, length, kind: poolKinds[pooling], output: pooled, mask });
      const values = await run.backend.read(pooled);
      batch.members.forEach((index, row) => {
        const vector = values.subarray(row * width, (row + 1) * width);
        data.set(normalize ? normalised(vector) : vector, index * width);
      });
    });
    return features(data, pooling === 'none' ? [texts.length, longest, width] : [texts.length, width]);
  };

  const call = (texts: string | readonly string[] | AsyncIterable<string>, options: FeatureExtractionOptions = {}) => {
    if (!isAsyncIterable(texts)) return (async () => extract(listOf(texts as string, isText, 'a string'), options))();
    return answerStream(texts as AsyncIterable<string>, options.signal, async (window) => {
      if (settle(options).pooling === 'none')
        throw new InputError("a stream of texts gives a vector each: expected a pooling other than 'none'");
      const { data } = await extract(listOf(window as string[], isText, 'a string'), options);
      return window.map((_, index) => data.slice(index * width, (index + 1) * width));
    });
  };
  const dispose = () => runner.dispose();
  const members = {
    task: 'feature-extraction',
    model,
    tokenizer,
    maxLength,
    pooling: modules?.pooling,
    dispose,
    [Symbol.dispose]: () => void dispose(),
  };
  return Object.assign(call, members) as FeatureExtractionPipeline;
}

const isText = (value: unknown) => typeof value === 'string';

/** Of length 1; what is all zeros stays so. */
function normalised(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return length > 0 ? vector.map((value) => value / length) : vector;
}

function features(data: Float32Array, dims: number[]): Features {
  const nest = (start: number, [extent, ...rest]: number[]): NestedNumbers => {
    if (rest.length === 0) return Array.from(data.subarray(start, start + extent));
    const size = rest.reduce((product, inner) => product * inner, 1);
    return Array.from({ length: extent }, (_, i) => nest(start + i * size, rest));
  };
  return { dims, data, tolist: () => nest(0, dims) as NestedNumbers[] };
}
