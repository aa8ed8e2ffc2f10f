import { CallOptions, kinds } from '../arguments.ts';
import { InputError, quoted } from '../errors.ts';
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { Callable } from './callable.ts';
import { type ScoreFunction, scoreFunctionKind, type TextClassificationPipeline } from './text_classification.ts';
import { isAsyncIterable, type TimingCallback } from './text_pipeline.ts';
import { type TruncationOptions, truncationOptionKinds } from './truncation.ts';

/** A document with its score, as sentence-transformers' `CrossEncoder.rank` names them. */
export interface RankedDocument {
  /** Which of the documents, from 0. */
  corpus_id: number;
  /** How well the document answers the query: the model's one output, through the function that its folder names, sigmoid if none. */
  score: number;
  text: string;
}

export interface TextRankingOptions extends TruncationOptions {
  /** Documents to return, the best ones; all by default. */
  top_k?: number;
  /** What makes the score of the model's output; by default what the model's folder names, sigmoid if none. */
  function_to_apply?: ScoreFunction;
  /** Stops the call: it rejects with the signal's reason, within the time of one batch. */
  signal?: AbortSignal;
  /** Is told what a call, but not one with a stream, took: tokens and milliseconds of each document. */
  timing_callback?: TimingCallback;
}

/** Ranks documents by how well they answer a query, with a cross-encoder; see {@link pipeline}. Pairs of more tokens than the model takes are cut, with a notice. */
export interface TextRankingPipeline {
  /**
   * The documents, best first, of equals the earlier. Of a stream no more than `top_k` are kept at a time.
   * @throws InputError if the query or a document is no text
   */
  // biome-ignore lint/style/useShorthandFunctionType: the class adds to it
  (query: string, documents: readonly string[] | AsyncIterable<string>, options?: TextRankingOptions): Promise<RankedDocument[]>;
}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: a class cannot write its call signatures
export class TextRankingPipeline extends Callable {
  readonly task = 'text-ranking';
  readonly model: SequenceClassifier;
  readonly tokenizer: Tokenizer;
  private readonly checked: CallOptions<TextRankingOptions>;

  /**
   * A ranking by what `classify` scores pairs of query and document.
   * @throws InputError, naming the `folder`, if the model has more than one output
   */
  constructor(
    private readonly classify: TextClassificationPipeline,
    folder: string,
    notice: (message: string) => void,
  ) {
    super();
    const { model, tokenizer } = classify;
    if (model.labels !== 1)
      throw new InputError(
        `${folder}: its head has ${model.labels} outputs, expected one, the score of a pair: a cross-encoder; 'text-classification' takes pairs for other classifiers`,
      );
    this.model = model;
    this.tokenizer = tokenizer;
    this.checked = new CallOptions<TextRankingOptions>(
      'text-ranking',
      {
        top_k: kinds.any,
        function_to_apply: scoreFunctionKind,
        signal: kinds.signal,
        timing_callback: kinds.callback,
        ...truncationOptionKinds,
      },
      notice,
    );
  }

  protected override async _call(
    query: string,
    documents: readonly string[] | AsyncIterable<string>,
    options: TextRankingOptions = {},
  ): Promise<RankedDocument[]> {
    const { top_k: count = Number.POSITIVE_INFINITY, timing_callback, ...others } = this.checked.check(options);
    if (typeof query !== 'string') throw new InputError(`query: got ${quoted(query)}, expected a string`);
    if (count !== Number.POSITIVE_INFINITY && (!Number.isInteger(count) || count < 1))
      throw new InputError(`top_k: got ${quoted(count)}, expected a whole number from 1`);
    const { signal, function_to_apply, truncation, truncation_side } = others;
    const scoring = { signal, function_to_apply, truncation, truncation_side };
    const pairOf = (text: string) => ({ text: query, text_pair: checkedText(text) });
    const ranked: RankedDocument[] = [];
    if (isAsyncIterable(documents)) {
      const waiting: string[] = [];
      async function* pairs() {
        for await (const text of documents as AsyncIterable<string>) {
          waiting.push(text);
          yield pairOf(text);
        }
      }
      let corpus_id = 0;
      for await (const [{ score }] of this.classify(pairs(), scoring))
        insert(ranked, { corpus_id: corpus_id++, score, text: waiting.shift() as string }, count);
    } else {
      if (!Array.isArray(documents)) throw new InputError(`documents: got ${quoted(documents)}, expected an array or a stream of strings`);
      const answers = await this.classify(documents.map(pairOf), { ...scoring, timing_callback });
      for (const [corpus_id, { score }] of answers.entries()) ranked.push({ corpus_id, score, text: documents[corpus_id] });
      ranked.sort((a, b) => b.score - a.score);
      if (ranked.length > count) ranked.length = count;
    }
    return ranked;
  }

  /** Resolves when calls under way have ended and everything is freed: the model, and the device unless it was handed in. */
  dispose(): Promise<void> {
    return this.classify.dispose();
  }

  [Symbol.dispose](): void {
    void this.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

function checkedText(text: unknown): string {
  if (typeof text !== 'string') throw new InputError(`documents: found ${quoted(text)}, expected strings`);
  return text;
}

/** Puts a document behind those that are as good or better, and leaves out what is too much. */
function insert(ranked: RankedDocument[], document: RankedDocument, count: number): void {
  let [low, high] = [0, ranked.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranked[middle].score >= document.score) low = middle + 1;
    else high = middle;
  }
  if (low >= count) return;
  ranked.splice(low, 0, document);
  if (ranked.length > count) ranked.pop();
}
