import type { Backend } from '../backend/backend.ts';
import { InputError } from '../errors.ts';
import type { Encoder } from '../models/encoder.ts';
import type { Encoding, Tokenizer } from '../tokenizer/tokenizer.ts';
import type { SentenceModules } from './sentence_transformer.ts';
import { isAsyncIterable, noticeCut, plainText, type RefusedCallback, TextRunner } from './text_runner.ts';

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
  /** Scale vectors to length 1, each token's if they are not pooled. By default what the model's folder says of pooled ones, else false. */
  normalize?: boolean;
  /** Stops the call: it rejects with the signal's reason, within the time of one batch. */
  signal?: AbortSignal;
  /** Of a stream: is told of each text that cannot be taken, which is then left out. Without it the stream ends with the error. */
  refused_callback?: RefusedCallback;
}

/** Embeds texts; see {@link pipeline}. Texts of more tokens than the model takes are cut, with a notice. */
export interface FeatureExtractionPipeline extends Disposable {
  /** One text gives the first dimension 1. @throws InputError if what is given is no text. */
  (texts: string | readonly string[], options?: FeatureExtractionOptions): Promise<Features>;
  /**
   * The pooled vector of each text of a stream, in order: of all that it has ready, 256 at most, before more is read.
   * @throws InputError with pooling 'none'; for what is no text, after the vectors of those before it.
   */
  (texts: AsyncIterable<string>, options?: FeatureExtractionOptions): AsyncGenerator<Float32Array>;
  readonly task: 'feature-extraction';
  readonly model: Encoder;
  readonly tokenizer: Tokenizer;
  /** Tokens of a text that are used, special ones included. */
  readonly maxLength: number;
  /** How texts become vectors, if the model's folder says so (modules.json). */
  readonly pooling: SentenceModules['pooling'] | undefined;
  /** Whether texts are lower-cased before the tokenizer has them: sentence_bert_config.json. */
  readonly lowerCase: boolean;
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
  const width = model.config.hiddenSize;
  const maxLength = Math.min(modules?.maxLength ?? Number.POSITIVE_INFINITY, model.config.positions);
  const lowerCase = modules?.lowerCase ?? false;
  const encode = (text: string) => tokenizer.encode(text, { maxLength, lowerCase });
  const runner = new TextRunner('feature-extraction', backend, { ...plainText, encode }, notice, release);

  /** What is to be made of texts, by the options. */
  const extractor = ({ pooling = modules?.pooling ?? 'none', normalize, signal }: FeatureExtractionOptions) => {
    if (pooling !== 'none' && !Object.hasOwn(poolKinds, pooling)) {
      throw new InputError(`pooling: got ${JSON.stringify(pooling)}, expected one of none, ${Object.keys(poolKinds).join(', ')}`);
    }
    const scaled = normalize ?? (pooling !== 'none' && modules?.normalize === true);
    const finished = (vector: Float32Array) => (scaled ? normalised(vector) : vector);
    const extract = async (encoded: readonly Encoding[]): Promise<Features> => {
      noticeCut(encoded, maxLength, notice);
      const longest = encoded.reduce((most, { ids }) => Math.max(most, ids.length), 0);
      const perText = pooling === 'none' ? longest * width : width;
      const data = new Float32Array(encoded.length * perText);
      await runner.run(encoded, { signal }, async (run, batch) => {
        const { output } = model.forward(run, batch);
        if (pooling === 'none') {
          const values = await run.backend.read(output);
          batch.members.forEach((index, row) => {
            for (let token = 0; token < encoded[index].ids.length; token++) {
              const start = (row * batch.length + token) * width;
              data.set(finished(values.subarray(start, start + width)), index * perText + token * width);
            }
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
          data.set(finished(values.subarray(row * width, (row + 1) * width)), index * width);
        });
      });
      return features(data, pooling === 'none' ? [encoded.length, longest, width] : [encoded.length, width]);
    };
    return { pooling, extract };
  };

  const call = (texts: string | readonly string[] | AsyncIterable<string>, options: FeatureExtractionOptions = {}) => {
    if (isAsyncIterable(texts)) return stream(texts as AsyncIterable<string>, options);
    return (async () => runner.call(texts, options.signal, extractor(options).extract))();
  };
  async function* stream(texts: AsyncIterable<string>, options: FeatureExtractionOptions) {
    const { pooling, extract } = extractor(options);
    if (pooling === 'none') throw new InputError("a stream of texts gives a vector each: expected a pooling other than 'none'");
    const answer = async (encoded: readonly Encoding[]) => {
      const { data } = await extract(encoded);
      return encoded.map((_, index) => data.slice(index * width, (index + 1) * width));
    };
    yield* runner.stream(texts, options.signal, answer, options.refused_callback);
  }
  const dispose = () => runner.dispose();
  const members = {
    task: 'feature-extraction',
    model,
    tokenizer,
    maxLength,
    pooling: modules?.pooling,
    lowerCase,
    dispose,
    [Symbol.dispose]: () => void dispose(),
  };
  return Object.assign(call, members) as FeatureExtractionPipeline;
}

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
