import { CallOptions, kinds } from '../arguments.ts';
import type { Device } from '../backend/device.ts';
import { InputError, quoted } from '../errors.ts';
import type { Encoder } from '../models/encoder.ts';
import type { Encoding, Tokenizer } from '../tokenizer/tokenizer.ts';
import { checkPooling, type Poolings, pool } from './pooling.ts';
import { type PromptOptions, promptOf, type SentenceModules, textLength } from './sentence_transformer.ts';
import { isAsyncIterable, plainText, type RefusedCallback, streamOptionKinds, TextRunner } from './text_runner.ts';
import { normalized, openVectorModule, type VectorStep } from './vector_modules.ts';

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

export interface FeatureExtractionOptions extends PromptOptions {
  /**
   * How a text's token vectors become one; see {@link Pooling}; several give their vectors side by side, 'none' leaves them as they are. By
   * default what the model's folder says (modules.json of sentence-transformers), else 'none'.
   */
  pooling?: 'none' | Poolings;
  /** Scale vectors to length 1, each token's if they are not pooled. By default what the model's folder says of pooled ones, else false. */
  normalize?: boolean;
  /**
   * Numbers of a text's vector that are kept, the first ones: for models that were trained so (Matryoshka). Where the model scales its vectors, what
   * is kept is scaled again. By default what the model's folder says (`truncate_dim`), else all.
   */
  dimensions?: number;
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
  readonly pooling: Poolings | undefined;
  /** Numbers of a text's vector, pooled as the folder says, or else in one way. */
  readonly width: number;
  /** The model's prompts by their names, what is put before texts: {@link PromptOptions.prompt_name}. */
  readonly prompts: Readonly<Record<string, string>>;
  /** Frees the model, and the backend unless it was handed in. Resolves when calls under way have ended. */
  dispose(): Promise<void>;
}

/**
 * `modules`: what the model's folder says. `prompt`: what is put before texts unless a call says otherwise. `notice` is told of texts that were
 * cut; `release` is called once, when the pipeline is disposed.
 * @throws InputError if a module's weights are missing or damaged, or the prompt is none of the model's
 */
export async function createFeatureExtraction(
  model: Encoder,
  modelTokenizer: Tokenizer,
  device: Device,
  modules: SentenceModules | undefined,
  prompt: PromptOptions,
  notice: (message: string) => void,
  release: () => void,
): Promise<FeatureExtractionPipeline> {
  const { hiddenSize } = model.config;
  const tokenizer = modules?.lowerCase ? modelTokenizer.lowerCased() : modelTokenizer;
  const maxLength = textLength(modules, tokenizer, model.config);
  const runner = new TextRunner(
    'feature-extraction',
    device,
    { ...plainText, encode: (text: string) => encodeBehind('', text) },
    notice,
    release,
    { maxLength, side: tokenizer.truncationSide },
  );
  const checked = new CallOptions<FeatureExtractionOptions>(
    'feature-extraction',
    { pooling: kinds.any, normalize: kinds.flag, dimensions: kinds.any, prompt: kinds.text, prompt_name: kinds.text, ...streamOptionKinds },
    notice,
  );
  const vectors = await openVectors(modules, hiddenSize);
  const standardPrompt = promptOf(prompt, modules?.prompts);

  function encodeBehind(before: string, text: string): Encoding {
    return tokenizer.encode(before + text, { maxLength });
  }

  /** Tokens of a prompt, without the special one that ends a text. */
  function tokensOf(before: string): number {
    const { ids } = encodeBehind('', before);
    return tokenizer.specialIds.has(ids[ids.length - 1]) ? ids.length - 1 : ids.length;
  }

  /** What is to be made of texts, by the options. */
  const extractor = (options: FeatureExtractionOptions) => {
    const { pooling = modules?.pooling ?? 'none', normalize, dimensions, signal } = options;
    checkPooling(pooling);
    if (dimensions !== undefined && pooling === 'none')
      throw new InputError("dimensions: the vectors of tokens are not cut, expected a pooling other than 'none'");
    const isPrompted = options.prompt !== undefined || options.prompt_name !== undefined;
    const before = isPrompted ? promptOf(options, modules?.prompts) : standardPrompt;
    const skipped = before && modules?.skipPrompt ? tokensOf(before) : 0;
    const width = pooling === 'none' ? hiddenSize : vectors.widthOf(pooling, dimensions);
    const ofToken = (vector: Float32Array) => (normalize ? normalized(vector) : vector);
    const extract = async (encoded: readonly Encoding[]): Promise<Features> => {
      const longest = encoded.reduce((most, { ids }) => Math.max(most, ids.length), 0);
      const perText = pooling === 'none' ? longest * width : width;
      const data = new Float32Array(encoded.length * perText);
      await runner.run(encoded, { signal }, async (context, batch) => {
        const { output } = model.forward(context, batch);
        if (pooling === 'none') {
          const values = await context.device.read(output);
          batch.members.forEach((index, row) => {
            for (let token = 0; token < encoded[index].ids.length; token++) {
              const start = (row * batch.length + token) * width;
              const vector = values.subarray(start, start + width);
              runner.checkFinite(encoded[index], vector);
              data.set(ofToken(vector), index * perText + token * width);
            }
          });
          return;
        }
        const pooled = await pool(context, output, batch, pooling, skipped);
        batch.members.forEach((index, row) => {
          runner.checkFinite(encoded[index], pooled[row]);
          const vector = vectors.finish(pooled[row], normalize, dimensions);
          runner.checkFinite(encoded[index], vector);
          data.set(vector, index * width);
        });
      });
      return features(data, pooling === 'none' ? [encoded.length, longest, width] : [encoded.length, width]);
    };
    return { pooling, width, extract, encode: (text: string) => encodeBehind(before, text) };
  };

  const call = (texts: string | readonly string[] | AsyncIterable<string>, options: FeatureExtractionOptions = {}) => {
    if (isAsyncIterable(texts)) return stream(texts as AsyncIterable<string>, options);
    return (async () => {
      const { extract, encode } = extractor(checked.check(options));
      return await runner.call(texts, options.signal, extract, encode);
    })();
  };
  async function* stream(texts: AsyncIterable<string>, options: FeatureExtractionOptions) {
    const { pooling, width, extract, encode } = extractor(checked.check(options));
    if (pooling === 'none') throw new InputError("a stream of texts gives a vector each: expected a pooling other than 'none'");
    const vectorsOf = async (encoded: readonly Encoding[]) => {
      const { data } = await extract(encoded);
      return encoded.map((_, index) => data.slice(index * width, (index + 1) * width));
    };
    yield* runner.stream(texts, options.signal, vectorsOf, options.refused_callback, encode);
  }
  const dispose = () => runner.dispose();
  const members = {
    task: 'feature-extraction',
    model,
    tokenizer,
    maxLength,
    pooling: modules?.pooling,
    width: vectors.widthOf(modules?.pooling ?? 'mean'),
    prompts: modules?.prompts.named ?? {},
    dispose,
    [Symbol.dispose]: () => void dispose(),
  };
  return Object.assign(call, members) as FeatureExtractionPipeline;
}

/** What is done to pooled vectors: the folder's modules, then the numbers that are kept. */
async function openVectors(modules: SentenceModules | undefined, hiddenSize: number) {
  const steps: { step: VectorStep; scales: boolean }[] = [];
  const inputs = [modules?.pooling ?? 'mean'].flat().length * hiddenSize;
  let width = inputs;
  for (const module of modules?.modules ?? []) {
    steps.push({ step: await openVectorModule(module, width), scales: module.kind === 'normalize' });
    if (module.kind === 'dense') width = module.outputs;
  }
  const isFixed = modules?.modules.some(({ kind }) => kind !== 'normalize') ?? false;
  const isScaled = steps.some(({ scales }) => scales);
  const kept = modules?.dimensions ?? Number.POSITIVE_INFINITY;
  return {
    /** `dimensions`: how many are asked for. @throws InputError if there are not as many, or the folder's modules take vectors of another width */
    widthOf(pooling: Poolings, dimensions?: number): number {
      const given = [pooling].flat().length * hiddenSize;
      if (isFixed && given !== inputs)
        throw new InputError(
          `pooling: ${[pooling].flat().join(' and ')} gives ${given} numbers, expected the ${inputs} that the model's modules take`,
        );
      const all = isFixed ? width : given;
      if (dimensions === undefined) return Math.min(all, kept);
      if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > all)
        throw new InputError(
          `dimensions: got ${quoted(dimensions)}, expected a whole number from 1 to ${all}, as many as the vectors have`,
        );
      return dimensions;
    },
    /** `normalize`: scale to length 1 at the end; false: nowhere. `dimensions`: how many are asked for; behind that cut the model's own scaling is done again. */
    finish(vector: Float32Array, normalize: boolean | undefined, dimensions: number | undefined): Float32Array {
      const made = steps.reduce((before, { step, scales }) => (scales && normalize === false ? before : step(before)), vector);
      const cut = made.subarray(0, dimensions ?? kept);
      return (normalize ?? (dimensions !== undefined && isScaled)) ? normalized(cut) : cut;
    },
  };
}

function features(data: Float32Array, dims: number[]): Features {
  const nest = (start: number, [extent, ...rest]: number[]): NestedNumbers => {
    if (rest.length === 0) return Array.from(data.subarray(start, start + extent));
    const size = rest.reduce((product, inner) => product * inner, 1);
    return Array.from({ length: extent }, (_, i) => nest(start + i * size, rest));
  };
  return { dims, data, tolist: () => nest(0, dims) as NestedNumbers[] };
}
