import type { Backend } from '../backend/backend.ts';
import { InputError } from '../errors.ts';
import type { ModelConfig } from '../models/config.ts';
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import type { Encoding, Tokenizer } from '../tokenizer/tokenizer.ts';
import { isAsyncIterable, noticeCut, type RefusedCallback, TextRunner } from './text_runner.ts';

/** A text, or two that are judged together. */
export type ClassificationInput = string | { text: string; text_pair?: string };

export interface TextClass {
  /** The class's name as the model has it, else LABEL_0 and so on. */
  label: string;
  /** Probability: softmax over the classes, or of each by itself (sigmoid) if several may hold (`problem_type` is multi_label_classification); of a model with one output (regression) that output. */
  score: number;
}

export interface TextClassificationOptions<Count extends number | null = number | null> {
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

/** `notice` is told of texts that were cut; `release` is called once, when the pipeline is disposed. */
export function createTextClassification(
  model: SequenceClassifier,
  tokenizer: Tokenizer,
  backend: Backend,
  notice: (message: string) => void,
  release: () => void,
): TextClassificationPipeline {
  const { labels, config } = model;
  const maxLength = config.positions;
  // crammedBERT's other ways of pooling count every position, padding too: a text would be judged by what it is batched with.
  const unpadded = config.pooler.kind !== 'first';
  const encode = (input: ClassificationInput) => {
    const { text, text_pair: pair } = typeof input === 'string' ? { text: input, text_pair: undefined } : input;
    return tokenizer.encode(text, { pair, maxLength });
  };
  const inputs = { expected: 'a string or { text, text_pair }', accepts: isInput, encode };
  const runner = new TextRunner('text-classification', backend, inputs, notice, release);

  /** What is to be made of texts, by the options. */
  const classifier = ({ top_k = 1, signal }: TextClassificationOptions) => {
    const count = top_k ?? labels;
    if (!Number.isInteger(count) || count < 1) throw new InputError(`top_k: got ${count}, expected a whole number from 1, or null for all`);
    return async (encoded: readonly Encoding[]): Promise<TextClass[][]> => {
      noticeCut(encoded, maxLength, notice);
      const answers: TextClass[][] = new Array(encoded.length);
      await runner.run(encoded, { signal, unpadded }, async (run, batch) => {
        const logits = await run.backend.read(model.logits(run, batch));
        batch.members.forEach((index, row) => {
          answers[index] = classes(logits.subarray(row * labels, (row + 1) * labels), config).slice(0, count);
        });
      });
      return answers;
    };
  };

  const call = (
    texts: ClassificationInput | readonly ClassificationInput[] | AsyncIterable<ClassificationInput>,
    options: TextClassificationOptions = {},
  ) => {
    if (isAsyncIterable(texts)) return stream(texts as AsyncIterable<ClassificationInput>, options);
    return (async () => {
      const answers = await runner.call(texts, options.signal, classifier(options));
      if (!Array.isArray(texts)) return answers[0];
      const { top_k = 1 } = options;
      return top_k === 1 ? answers.map(([best]) => best) : answers;
    })();
  };
  async function* stream(texts: AsyncIterable<ClassificationInput>, options: TextClassificationOptions) {
    yield* runner.stream(texts, options.signal, classifier(options), options.refused_callback);
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
function classes(logits: Float32Array, { labelNames, problemType }: ModelConfig): TextClass[] {
  const label = (index: number) => labelNames?.[index] ?? `LABEL_${index}`;
  return Array.from(scoresOf(logits, problemType), (score, index) => ({ label: label(index), score })).sort((a, b) => b.score - a.score);
}

function scoresOf(logits: Float32Array, problemType: ModelConfig['problemType']): ArrayLike<number> {
  if (problemType === 'multi_label_classification') return Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)));
  if (problemType === 'regression' || logits.length === 1) return logits;
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
