import { CallOptions, kinds } from '../arguments.ts';
import { InputError, quoted } from '../errors.ts';
import type { BatchPass } from '../models/batch_queue.ts';
import type { ModelConfig } from '../models/config.ts';
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import type { Encoding, Tokenizer } from '../tokenizer/tokenizer.ts';
import type { CrossEncoderSettings } from './cross_encoder.ts';
import { type PromptOptions, promptOf, textLength } from './sentence_transformer.ts';
import {
  callOptionKinds,
  isAsyncIterable,
  type RefusedCallback,
  TextPipeline,
  type TextPipelineParts,
  type TimingCallback,
} from './text_pipeline.ts';
import { encodeWithin, type TruncationOptions, truncationOptionKinds } from './truncation.ts';
import { type Activation, activate } from './vector_modules.ts';

/** A text, or two that are judged together; among several inputs a pair may be an array of two. */
export type ClassificationInput = string | { text: string; text_pair?: string } | readonly [string, string];

export interface TextClass {
  /** The class's name as the model has it, else LABEL_0 and so on. */
  label: string;
  /**
   * Probability: softmax over the classes, or of each by itself (sigmoid) if there is but one or several may hold (`problem_type` is
   * multi_label_classification); of a regression (`problem_type`) the output as it is. A CrossEncoder's folder may name another function.
   */
  score: number;
}

export interface TextClassificationOptions<Count extends number | null = number | null> extends PromptOptions, TruncationOptions {
  /** Classes for each text, the most probable first: 1 by default, null for all. */
  top_k?: Count;
  /** Stops the call: it rejects with the signal's reason, within the time of one batch. */
  signal?: AbortSignal;
  /** What makes scores of the model's outputs; by default what the model says. */
  function_to_apply?: ScoreFunction;
  /** Of a stream: is told of each text that cannot be taken, which is then left out. Without it the stream ends with the error. */
  refused_callback?: RefusedCallback;
  /** Is told what a call took: tokens and milliseconds of each text. */
  timing_callback?: TimingCallback;
}

/** 'none': scores are the outputs as they are. */
const scoreFunctions = { none: 'Identity', sigmoid: 'Sigmoid', softmax: 'Softmax' } as const satisfies Record<string, Activation>;
export type ScoreFunction = keyof typeof scoreFunctions;
export const scoreFunctionKind = {
  expected: `one of ${Object.keys(scoreFunctions).join(', ')}`,
  holds: (value: unknown) => Object.hasOwn(scoreFunctions, value as string),
};

/** What several texts are answered with: for each its class, or a list of them if `top_k` is other than 1. */
type ClassesOfEach<Count> = number extends Count ? TextClass[] | TextClass[][] : Count extends 1 ? TextClass[] : TextClass[][];

/** Classifies texts; see {@link pipeline}. Texts of more tokens than the model takes are cut, with a notice. */
export interface TextClassificationPipeline {
  /** The classes of one text, best first. @throws InputError if what is given is no text. */
  (text: ClassificationInput, options?: TextClassificationOptions): Promise<TextClass[]>;
  /** The class of each text, or its classes if `top_k` is other than 1. */
  <Count extends number | null = 1>(
    texts: readonly ClassificationInput[],
    options?: TextClassificationOptions<Count>,
  ): Promise<ClassesOfEach<Count>>;
  (texts: ClassificationInput | readonly ClassificationInput[], options?: TextClassificationOptions): Promise<TextClass[] | TextClass[][]>;
  /**
   * The classes of each text of a stream, in order: of all that it has ready, 256 at most, before more is read.
   * @throws InputError for what is no text, after the classes of those before it.
   */
  (texts: AsyncIterable<ClassificationInput>, options?: TextClassificationOptions): AsyncGenerator<TextClass[]>;
}

interface TextClassificationParts
  extends Pick<TextPipelineParts<ClassificationInput, Encoding>, 'device' | 'recover' | 'batching' | 'notice' | 'release'> {
  /** What the model's folder says of a cross-encoder. */
  settings: CrossEncoderSettings;
  /** What is put before texts unless a call says otherwise. */
  prompt: PromptOptions;
}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: a class cannot write its call signatures
export class TextClassificationPipeline extends TextPipeline<ClassificationInput, Encoding> {
  readonly task = 'text-classification';
  readonly tokenizer: Tokenizer;
  private readonly settings: CrossEncoderSettings;
  /** Tokens of a text, or of a pair, that are used, special ones included. */
  readonly maxLength: number;
  private readonly standardPrompt: string;
  private readonly checked: CallOptions<TextClassificationOptions>;
  private readonly pass: BatchPass<Encoding, Float32Array>;

  constructor(
    readonly model: SequenceClassifier,
    modelTokenizer: Tokenizer,
    { settings, prompt, ...parts }: TextClassificationParts,
  ) {
    const tokenizer = settings.lowerCase ? modelTokenizer.lowerCased() : modelTokenizer;
    const maxLength = textLength(settings, tokenizer, model.config);
    const standardPrompt = promptOf(prompt, settings.prompts);
    const encode = (input: ClassificationInput, name: string) => this.encodeBehind(standardPrompt, input, {}, name);
    super({
      ...parts,
      inputs: { expected: 'a string, { text, text_pair } or [text, text_pair]', accepts: isInput, encode },
      cut: { maxLength, side: tokenizer.truncationSide },
    });
    this.tokenizer = tokenizer;
    this.settings = settings;
    this.maxLength = maxLength;
    this.standardPrompt = standardPrompt;
    this.checked = new CallOptions<TextClassificationOptions>(
      'text-classification',
      {
        top_k: kinds.any,
        function_to_apply: scoreFunctionKind,
        prompt: kinds.text,
        prompt_name: kinds.text,
        ...truncationOptionKinds,
        ...callOptionKinds,
      },
      parts.notice,
    );
    const { labels } = model;
    this.pass = {
      // crammedBERT's other ways of pooling count every position, padding too: a text would be judged by what it is batched with.
      unpadded: model.config.pooler.kind !== 'first',
      async compute(context, batch, texts) {
        const logits = await context.device.read(model.logits(context, batch));
        return texts.map((_, row) => logits.subarray(row * labels, (row + 1) * labels));
      },
    };
  }

  protected override _call(
    texts: ClassificationInput | readonly ClassificationInput[] | AsyncIterable<ClassificationInput>,
    options: TextClassificationOptions = {},
  ) {
    if (isAsyncIterable(texts)) return this.classifyStream(texts as AsyncIterable<ClassificationInput>, options);
    return this.classify(texts, options);
  }

  private async classify(texts: ClassificationInput | readonly ClassificationInput[], options: TextClassificationOptions) {
    const answers = await this.answer(texts, this.asked(this.checked.check(options)));
    if (!Array.isArray(texts)) return answers[0];
    const { top_k = 1 } = options;
    return top_k === 1 ? answers.map(([best]) => best) : answers;
  }

  private async *classifyStream(
    texts: AsyncIterable<ClassificationInput>,
    options: TextClassificationOptions,
  ): AsyncGenerator<TextClass[]> {
    yield* this.answerStream(texts, this.asked(this.checked.check(options)), options.refused_callback);
  }

  /** What is to be made of texts, by the options. */
  private asked(options: TextClassificationOptions) {
    const { model, settings } = this;
    const { top_k = 1, function_to_apply, truncation_side: cutSide, signal, timing_callback } = options;
    const isPrompted = options.prompt !== undefined || options.prompt_name !== undefined;
    const before = isPrompted ? promptOf(options, settings.prompts) : this.standardPrompt;
    const count = top_k ?? model.labels;
    if (!Number.isInteger(count) || count < 1)
      throw new InputError(`top_k: got ${quoted(count)}, expected a whole number from 1, or null for all`);
    const finish = (logits: Float32Array, encoded: Encoding): TextClass[] => {
      this.checkFinite(encoded, logits);
      const own = activationFor(logits.length, model.config.problemType, settings.activation);
      return classes(logits, model.config, function_to_apply ? scoreFunctions[function_to_apply] : own).slice(0, count);
    };
    const encode = (input: ClassificationInput, name: string) => this.encodeBehind(before, input, options, name);
    return { pass: this.pass, finish, signal, timing_callback, cutSide, encode };
  }

  private encodeBehind(before: string, input: ClassificationInput, options: TruncationOptions, name: string): Encoding {
    const [text, pair] = textsOf(input);
    return encodeWithin(this.tokenizer, before + text, { pair, maxLength: this.maxLength }, options, name);
  }
}

function textsOf(input: ClassificationInput): readonly [string, string?] {
  if (typeof input === 'string') return [input];
  return 'text' in input ? [input.text, input.text_pair] : input;
}

function isInput(value: unknown): boolean {
  if (typeof value === 'string') return true;
  if (Array.isArray(value)) return value.length === 2 && value.every((text) => typeof text === 'string');
  if (typeof value !== 'object' || value === null) return false;
  const { text, text_pair: pair } = value as { text?: unknown; text_pair?: unknown };
  return typeof text === 'string' && (pair === undefined || typeof pair === 'string');
}

/** All classes with their scores, best first. */
function classes(logits: Float32Array, { labelNames }: ModelConfig, activation: Activation): TextClass[] {
  const label = (index: number) => labelNames?.[index] ?? `LABEL_${index}`;
  const scores = activate(activation, logits);
  return Array.from(scores, (score, index) => ({ label: label(index), score })).sort((a, b) => b.score - a.score);
}

/** A cross-encoder's own, if it has one; else transformers'. Of several classes sentence-transformers leaves the logits, which says nothing. */
function activationFor(labels: number, problemType: ModelConfig['problemType'], own: Activation | undefined): Activation {
  if (own && (labels === 1 || own !== 'Identity')) return own;
  if (problemType === 'regression') return 'Identity';
  return labels === 1 || problemType === 'multi_label_classification' ? 'Sigmoid' : 'Softmax';
}
