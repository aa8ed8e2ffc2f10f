import { CallOptions, kinds } from '../arguments.ts';
import type { Device } from '../backend/device.ts';
import { InputError, quoted } from '../errors.ts';
import type { ModelConfig } from '../models/config.ts';
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import type { Encoding, Tokenizer } from '../tokenizer/tokenizer.ts';
import type { CrossEncoderSettings } from './cross_encoder.ts';
import { type PromptOptions, promptOf, textLength } from './sentence_transformer.ts';
import { isAsyncIterable, type RefusedCallback, streamOptionKinds, TextRunner } from './text_runner.ts';
import { type Activation, activate } from './vector_modules.ts';

/** A text, or two that are judged together. */
export type ClassificationInput = string | { text: string; text_pair?: string };

export interface TextClass {
  /** The class's name as the model has it, else LABEL_0 and so on. */
  label: string;
  /**
   * Probability: softmax over the classes, or of each by itself (sigmoid) if there is but one or several may hold (`problem_type` is
   * multi_label_classification); of a regression (`problem_type`) the output as it is. A CrossEncoder's folder may name another function.
   */
  score: number;
}

export interface TextClassificationOptions<Count extends number | null = number | null> extends PromptOptions {
  /** Classes for each text, the most probable first: 1 by default, null for all. */
  top_k?: Count;
  /** Stops the call: it rejects with the signal's reason, within the time of one batch. */
  signal?: AbortSignal;
  /** Of a stream: is told of each text that cannot be taken, which is then left out. Without it the stream ends with the error. */
  refused_callback?: RefusedCallback;
}

/** What several texts are answered with: for each its class, or a list of them if `top_k` is other than 1. */
type ClassesOfEach<Count> = number extends Count ? TextClass[] | TextClass[][] : Count extends 1 ? TextClass[] : TextClass[][];

/** Classifies texts; see {@link pipeline}. Texts of more tokens than the model takes are cut, with a notice. */
export interface TextClassificationPipeline extends Disposable {
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
  readonly task: 'text-classification';
  readonly model: SequenceClassifier;
  readonly tokenizer: Tokenizer;
  /** Frees the model, and the backend unless it was handed in. Resolves when calls under way have ended. */
  dispose(): Promise<void>;
}

/**
 * `settings`: what the model's folder says of a cross-encoder. `prompt`: what is put before texts unless a call says otherwise. `notice` is told of
 * texts that were cut; `release` is called once, when the pipeline is disposed.
 */
export function createTextClassification(
  model: SequenceClassifier,
  modelTokenizer: Tokenizer,
  device: Device,
  settings: CrossEncoderSettings,
  prompt: PromptOptions,
  notice: (message: string) => void,
  release: () => void,
): TextClassificationPipeline {
  const { labels, config } = model;
  const tokenizer = settings.lowerCase ? modelTokenizer.lowerCased() : modelTokenizer;
  const maxLength = textLength(settings, tokenizer, config);
  const standardPrompt = promptOf(prompt, settings.prompts);
  // crammedBERT's other ways of pooling count every position, padding too: a text would be judged by what it is batched with.
  const unpadded = config.pooler.kind !== 'first';
  const encodeBehind = (before: string) => (input: ClassificationInput) => {
    const { text, text_pair: pair } = typeof input === 'string' ? { text: input, text_pair: undefined } : input;
    return tokenizer.encode(before + text, { pair, maxLength });
  };
  const inputs = { expected: 'a string or { text, text_pair }', accepts: isInput, encode: encodeBehind(standardPrompt) };
  const runner = new TextRunner('text-classification', device, inputs, notice, release, { maxLength, side: tokenizer.truncationSide });
  const checked = new CallOptions<TextClassificationOptions>(
    'text-classification',
    { top_k: kinds.any, prompt: kinds.text, prompt_name: kinds.text, ...streamOptionKinds },
    notice,
  );

  /** What is to be made of texts, by the options. */
  const classifier = (options: TextClassificationOptions) => {
    const { top_k = 1, signal } = options;
    const isPrompted = options.prompt !== undefined || options.prompt_name !== undefined;
    const encode = encodeBehind(isPrompted ? promptOf(options, settings.prompts) : standardPrompt);
    const count = top_k ?? labels;
    if (!Number.isInteger(count) || count < 1)
      throw new InputError(`top_k: got ${quoted(count)}, expected a whole number from 1, or null for all`);
    const classify = async (encoded: readonly Encoding[]): Promise<TextClass[][]> => {
      const answers: TextClass[][] = new Array(encoded.length);
      await runner.run(encoded, { signal, unpadded }, async (context, batch) => {
        const logits = await context.device.read(model.logits(context, batch));
        batch.members.forEach((index, row) => {
          const own = logits.subarray(row * labels, (row + 1) * labels);
          runner.checkFinite(encoded[index], own);
          answers[index] = classes(own, config, settings.activation).slice(0, count);
        });
      });
      return answers;
    };
    return { classify, encode };
  };

  const call = (
    texts: ClassificationInput | readonly ClassificationInput[] | AsyncIterable<ClassificationInput>,
    options: TextClassificationOptions = {},
  ) => {
    if (isAsyncIterable(texts)) return stream(texts as AsyncIterable<ClassificationInput>, options);
    return (async () => {
      const { classify, encode } = classifier(checked.check(options));
      const answers = await runner.call(texts, options.signal, classify, encode);
      if (!Array.isArray(texts)) return answers[0];
      const { top_k = 1 } = options;
      return top_k === 1 ? answers.map(([best]) => best) : answers;
    })();
  };
  async function* stream(texts: AsyncIterable<ClassificationInput>, options: TextClassificationOptions) {
    const { classify, encode } = classifier(checked.check(options));
    yield* runner.stream(texts, options.signal, classify, options.refused_callback, encode);
  }
  const dispose = () => runner.dispose();
  const members = { task: 'text-classification', model, tokenizer, dispose, [Symbol.dispose]: () => void dispose() };
  return Object.assign(call, members) as TextClassificationPipeline;
}

function isInput(value: unknown): boolean {
  if (typeof value === 'string') return true;
  if (typeof value !== 'object' || value === null) return false;
  const { text, text_pair: pair } = value as { text?: unknown; text_pair?: unknown };
  return typeof text === 'string' && (pair === undefined || typeof pair === 'string');
}

/** All classes with their scores, best first. */
function classes(logits: Float32Array, { labelNames, problemType }: ModelConfig, activation: Activation | undefined): TextClass[] {
  const label = (index: number) => labelNames?.[index] ?? `LABEL_${index}`;
  const scores = activate(activationFor(logits.length, problemType, activation), logits);
  return Array.from(scores, (score, index) => ({ label: label(index), score })).sort((a, b) => b.score - a.score);
}

/** A cross-encoder's own, if it has one; else transformers'. Of several classes sentence-transformers leaves the logits, which says nothing. */
function activationFor(labels: number, problemType: ModelConfig['problemType'], own: Activation | undefined): Activation {
  if (own && (labels === 1 || own !== 'Identity')) return own;
  if (problemType === 'regression') return 'Identity';
  return labels === 1 || problemType === 'multi_label_classification' ? 'Sigmoid' : 'Softmax';
}
