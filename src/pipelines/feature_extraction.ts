import { CallOptions, kinds } from '../arguments.ts';
import type { Tensor } from '../backend/tensor.ts';
import { InputError, quoted } from '../errors.ts';
import type { BatchPass } from '../models/batch_queue.ts';
import type { Encoder } from '../models/encoder.ts';
import type { Context } from '../nn/parameter.ts';
import { CharacterLoss } from '../tokenizer/character_loss.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type PoolingName, type Poolings, pool, poolingOf } from './pooling.ts';
import { type PromptOptions, promptOf, type SentenceModules, textLength } from './sentence_transformer.ts';
import {
  callOptionKinds,
  isAsyncIterable,
  type RefusedCallback,
  TextPipeline,
  type TextPipelineParts,
  type TimingCallback,
  type TokenizedText,
} from './text_pipeline.ts';
import { encodeWithin, type TruncationOptions, tooLong, truncationOptionKinds } from './truncation.ts';
import { normalized, openVectorModule, type VectorModule, type VectorStep } from './vector_modules.ts';

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

export interface FeatureExtractionOptions extends PromptOptions, TruncationOptions {
  /**
   * How a text's token vectors become one; see {@link Pooling}; several give their vectors side by side, 'none' leaves them as they are; transformers.js's names are taken. By
   * default what the model's folder says (modules.json of sentence-transformers), else 'none'.
   */
  pooling?: 'none' | Poolings | PoolingName;
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
  /** Is told what a call took: tokens and milliseconds of each text. */
  timing_callback?: TimingCallback;
}

/** A text, or its tokens by their ids, special ones included, which are taken as they are. */
export type FeatureInput = string | readonly number[];

/** Embeds texts; see {@link pipeline}. Texts of more tokens than the model takes are cut, with a notice. */
export interface FeatureExtractionPipeline {
  /** One text gives the first dimension 1. @throws InputError if what is given is no text. */
  (texts: string | readonly FeatureInput[], options?: FeatureExtractionOptions): Promise<Features>;
  /**
   * The pooled vector of each text of a stream, in order: of all that it has ready, 256 at most, before more is read.
   * @throws InputError with pooling 'none'; for what is no text, after the vectors of those before it.
   */
  (texts: AsyncIterable<FeatureInput>, options?: FeatureExtractionOptions): AsyncGenerator<Float32Array>;
}

interface FeatureExtractionParts
  extends Pick<TextPipelineParts<FeatureInput, TokenizedText>, 'device' | 'recover' | 'batching' | 'notice' | 'release'> {
  /** What the model's folder says. */
  modules?: SentenceModules;
  /** What is put before texts unless a call says otherwise. */
  prompt: PromptOptions;
}

/** For pooling 'none' the vectors of a text's tokens, one after the other; else the pooled one. */
type Extracted = Float32Array;

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: a class cannot write its call signatures
export class FeatureExtractionPipeline extends TextPipeline<FeatureInput, TokenizedText> {
  readonly task = 'feature-extraction';
  readonly tokenizer: Tokenizer;
  /** Tokens of a text that are used, special ones included. */
  readonly maxLength: number;
  /** How texts become vectors, if the model's folder says so (modules.json). */
  readonly pooling: Poolings | undefined;
  /** Numbers of a text's vector, pooled as the folder says, or else in one way. */
  readonly width: number;
  /** The model's prompts by their names, what is put before texts: {@link PromptOptions.prompt_name}. */
  readonly prompts: Readonly<Record<string, string>>;
  private readonly modules: SentenceModules | undefined;
  private readonly standardPrompt: string;
  private readonly checked: CallOptions<FeatureExtractionOptions>;
  private readonly passes = new Map<string, BatchPass<TokenizedText, Extracted>>();

  /** @throws InputError if a module's weights are missing or damaged, or the prompt is none of the model's */
  static async open(model: Encoder, tokenizer: Tokenizer, parts: FeatureExtractionParts): Promise<FeatureExtractionPipeline> {
    return new FeatureExtractionPipeline(model, tokenizer, await openVectors(parts.modules, model.config.hiddenSize), parts);
  }

  private constructor(
    readonly model: Encoder,
    modelTokenizer: Tokenizer,
    private readonly vectors: Vectors,
    { modules, prompt, ...parts }: FeatureExtractionParts,
  ) {
    const tokenizer = modules?.lowerCase ? modelTokenizer.lowerCased() : modelTokenizer;
    const maxLength = textLength(modules, tokenizer, model.config);
    super({
      ...parts,
      inputs: {
        expected: 'a string, token ids',
        accepts: isInput,
        encode: (text: FeatureInput, name: string) => this.encodeBehind('', text, {}, name),
      },
      cut: { maxLength, side: tokenizer.truncationSide },
    });
    this.tokenizer = tokenizer;
    this.maxLength = maxLength;
    this.modules = modules;
    this.pooling = modules?.pooling;
    this.width = vectors.widthOf(modules?.pooling ?? 'mean');
    this.prompts = modules?.prompts.named ?? {};
    this.standardPrompt = promptOf(prompt, modules?.prompts);
    this.checked = new CallOptions<FeatureExtractionOptions>(
      'feature-extraction',
      {
        pooling: kinds.any,
        normalize: kinds.flag,
        dimensions: kinds.any,
        prompt: kinds.text,
        prompt_name: kinds.text,
        ...truncationOptionKinds,
        ...callOptionKinds,
      },
      parts.notice,
    );
  }

  protected override _call(texts: string | readonly FeatureInput[] | AsyncIterable<FeatureInput>, options: FeatureExtractionOptions = {}) {
    return isAsyncIterable(texts) ? this.extractStream(texts as AsyncIterable<FeatureInput>, options) : this.extract(texts, options);
  }

  private async extract(texts: string | readonly FeatureInput[], options: FeatureExtractionOptions): Promise<Features> {
    const asked = this.asked(this.checked.check(options));
    const answers = await this.answer(texts, asked);
    const { pooling, width } = asked;
    const longest = answers.reduce((most, { length }) => Math.max(most, length), 0);
    const data = new Float32Array(answers.length * longest);
    for (const [index, values] of answers.entries()) data.set(values, index * longest);
    return features(data, pooling === 'none' ? [answers.length, longest / width, width] : [answers.length, width]);
  }

  private async *extractStream(texts: AsyncIterable<FeatureInput>, options: FeatureExtractionOptions): AsyncGenerator<Float32Array> {
    const asked = this.asked(this.checked.check(options));
    if (asked.pooling === 'none') throw new InputError("a stream of texts gives a vector each: expected a pooling other than 'none'");
    yield* this.answerStream(texts, asked, options.refused_callback);
  }

  /** What is to be made of texts, by the options. */
  private asked(options: FeatureExtractionOptions) {
    const { modules, vectors } = this;
    const { hiddenSize } = this.model.config;
    const {
      normalize,
      dimensions,
      signal,
      timing_callback,
      truncation_side: cutSide,
      pooling: named = modules?.pooling ?? 'none',
    } = options;
    const pooling = poolingOf(named);
    if (dimensions !== undefined && pooling === 'none')
      throw new InputError("dimensions: the vectors of tokens are not cut, expected a pooling other than 'none'");
    const isPrompted = options.prompt !== undefined || options.prompt_name !== undefined;
    const before = isPrompted ? promptOf(options, modules?.prompts) : this.standardPrompt;
    const skipped = before && modules?.skipPrompt ? this.tokensOf(before) : 0;
    const width = pooling === 'none' ? hiddenSize : vectors.widthOf(pooling, dimensions);
    const finish = (extracted: Extracted, encoded: TokenizedText): Float32Array => {
      this.checkFinite(encoded, extracted);
      if (pooling !== 'none') {
        const vector = vectors.finish(extracted, normalize, dimensions);
        this.checkFinite(encoded, vector);
        return vector.slice();
      }
      if (!normalize) return extracted;
      const scaled = new Float32Array(extracted.length);
      for (let at = 0; at < extracted.length; at += width) scaled.set(normalized(extracted.subarray(at, at + width)), at);
      return scaled;
    };
    const encode = (text: FeatureInput, name: string) => this.encodeBehind(before, text, options, name);
    return { pooling, width, pass: this.pass(pooling, skipped), finish, signal, timing_callback, cutSide, encode };
  }

  /** The pass of all calls that pool in this way. */
  private pass(pooling: 'none' | Poolings, skipped: number): BatchPass<TokenizedText, Extracted> {
    const { model, vectors } = this;
    const { hiddenSize: width } = model.config;
    const key = JSON.stringify([pooling, skipped]);
    const known = this.passes.get(key);
    if (known) return known;
    const pass: BatchPass<TokenizedText, Extracted> = {
      async compute(context, batch, texts) {
        const { output } = model.forward(context, batch);
        if (pooling !== 'none') return await pool(context, await vectors.ofTokens(context, output), batch, pooling, skipped);
        const values = await context.device.read(output);
        return texts.map(({ ids }, row) => values.slice(row * batch.length * width, (row * batch.length + ids.length) * width));
      },
    };
    this.passes.set(key, pass);
    return pass;
  }

  private encodeBehind(before: string, text: FeatureInput, options: TruncationOptions, name: string): TokenizedText {
    const { tokenizer, maxLength } = this;
    if (typeof text === 'string') return encodeWithin(tokenizer, before + text, { maxLength }, options, name);
    if (before !== '')
      throw new InputError(`${name} is given as token ids, before which no prompt can be put: give it as a string, or '' as the prompt`);
    return tokensFrom(text, tokenizer, maxLength, options, name);
  }

  /** Tokens of a prompt, without the special one that ends a text. */
  private tokensOf(before: string): number {
    const { ids } = this.encodeBehind('', before, {}, 'the prompt');
    return this.tokenizer.specialIds.has(ids[ids.length - 1]) ? ids.length - 1 : ids.length;
  }
}

const isInput = (value: unknown) => typeof value === 'string' || (Array.isArray(value) && value.every((id) => typeof id === 'number'));

/** @throws InputError if an id is none of the tokenizer's, or there are more than the model takes and they are not to be cut */
function tokensFrom(
  ids: readonly number[],
  tokenizer: Tokenizer,
  maxLength: number,
  { truncation = true, truncation_side = tokenizer.truncationSide }: TruncationOptions,
  name: string,
): TokenizedText {
  const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < tokenizer.vocabularySize));
  if (wrong !== undefined)
    throw new InputError(`${name}: token id ${quoted(wrong)}: expected a whole number from 0 to ${tokenizer.vocabularySize - 1}`);
  const truncated = Math.max(ids.length - maxLength, 0);
  if (truncated > 0 && !truncation) throw tooLong(name, ids.length, maxLength);
  const kept = truncation_side === 'left' ? ids.slice(truncated) : ids.slice(0, maxLength);
  return { ids: kept, typeIds: new Array(kept.length).fill(0), truncated, loss: new CharacterLoss() };
}

type Vectors = Awaited<ReturnType<typeof openVectors>>;

interface Step {
  step: VectorStep;
  scales: boolean;
}

/** The steps of modules, for vectors of `inputs` numbers, and how many numbers they give. */
async function openSteps(modules: readonly VectorModule[] = [], inputs: number): Promise<{ steps: Step[]; width: number }> {
  const steps: Step[] = [];
  let width = inputs;
  for (const module of modules) {
    steps.push({ step: await openVectorModule(module, width), scales: module.kind === 'normalize' });
    if (module.kind === 'dense') width = module.outputs;
  }
  return { steps, width };
}

/** What is done to vectors: by the folder's modules to the tokens' and to the pooled one, of which then the first numbers are kept. */
async function openVectors(modules: SentenceModules | undefined, hiddenSize: number) {
  const { steps: tokenSteps, width: tokenWidth } = await openSteps(modules?.tokenModules, hiddenSize);
  const inputs = [modules?.pooling ?? 'mean'].flat().length * tokenWidth;
  const { steps, width } = await openSteps(modules?.modules, inputs);
  const isFixed = modules?.modules.some(({ kind }) => kind !== 'normalize') ?? false;
  const isScaled = steps.some(({ scales }) => scales);
  const kept = modules?.dimensions ?? Number.POSITIVE_INFINITY;
  return {
    /** [tokens, hidden] to [tokens, width], before they are pooled. */
    async ofTokens(context: Context, hidden: Tensor): Promise<Tensor> {
      if (tokenSteps.length === 0) return hidden;
      const values = await context.device.read(hidden);
      const tokens = values.length / hiddenSize;
      const made = new Float32Array(tokens * tokenWidth);
      for (let token = 0; token < tokens; token++) {
        const vector = values.subarray(token * hiddenSize, (token + 1) * hiddenSize);
        made.set(
          tokenSteps.reduce<Float32Array>((before, { step }) => step(before), vector),
          token * tokenWidth,
        );
      }
      const output = context.arena.tensor('vectors of tokens', [tokens, tokenWidth]);
      context.device.write(output, made);
      return output;
    },
    /** `dimensions`: how many are asked for. @throws InputError if there are not as many, or the folder's modules take vectors of another width */
    widthOf(pooling: Poolings, dimensions?: number): number {
      const given = [pooling].flat().length * tokenWidth;
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
