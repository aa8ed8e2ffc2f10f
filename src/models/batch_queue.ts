import type { Context } from '../nn/parameter.ts';
import type { Session } from './session.ts';
import { type BatchLimits, batchesByLength, batchOf, type EncodedText, type TextBatch } from './text_batches.ts';

/** What one pass of the model makes of a batch of texts: something for each of them, in the batch's order. */
export interface BatchPass<Text extends EncodedText, Output> {
  compute(context: Context, batch: TextBatch, texts: readonly Text[]): Promise<readonly Output[]>;
  /** Only texts of one length go together. */
  unpadded?: boolean;
}

/** What became of a text, in milliseconds. */
export interface TextTimes {
  /** From when it was asked for to the beginning of its pass. */
  queue: number;
  /** Of its pass, which it shared with the others of its batch. */
  inference: number;
}

/** How texts are merged. */
export interface Batching extends BatchLimits {
  /** Is told of each batch when its pass begins. `tokens`: padding included. */
  batch_callback?: (batch: { texts: number; tokens: number }) => void;
}

/** What a call of the queue may say beside. */
export interface AnswerOptions {
  signal?: AbortSignal;
  /** Is told of each text, the `index`-th of the call, when its pass has ended. */
  times?: (times: TextTimes, index: number) => void;
}

/** What is asked of the queue by one call. */
interface Request {
  signal?: AbortSignal;
  /** It was told of a failure: its other texts are left out. */
  failed: boolean;
  reject(error: unknown): void;
}

/** A text that waits for its pass. */
interface Waiting {
  text: EncodedText;
  pass: BatchPass<EncodedText, unknown>;
  request: Request;
  /** When it was asked for, by performance.now(). */
  since: number;
  /** Given what the pass made of the text. May throw, of this text alone. */
  done(output: unknown, times: TextTimes): void;
}

/**
 * Below all that answers texts: merges those that wait, of several callers, into batches by a budget of tokens. Texts that come while a
 * batch is computed are planned together; plans take turns, a batch each, so that a few texts do not wait for all of a long list.
 * What is made of a text does not depend on what it goes with, up to rounding.
 */
export class BatchQueue {
  private waiting: Waiting[] = [];
  private pumping: Promise<void> | undefined;
  /** Texts that were asked for, and whose pass has not begun. */
  private queued = 0;

  constructor(
    private readonly session: Session,
    private readonly batching: Batching = {},
  ) {}

  /** Texts that wait. */
  get size(): number {
    return this.queued;
  }

  /**
   * What `finish` makes of each text's output, in order of the texts. Texts asked for in one turn of the event loop go together, if it is with
   * the same `pass` object. Rejects with the first failure, of a pass or of `finish`, or with the signal's reason when it aborted; texts
   * that have not begun are then left out.
   */
  answer<Text extends EncodedText, Output, Answer>(
    texts: readonly Text[],
    pass: BatchPass<Text, Output>,
    finish: (output: Output, text: Text) => Answer,
    { signal, times }: AnswerOptions = {},
  ): Promise<Answer[]> {
    const answers: Answer[] = new Array(texts.length);
    let left = texts.length;
    return new Promise((resolve, reject) => {
      const request: Request = { signal, failed: false, reject };
      if (left === 0) resolve(answers);
      const since = performance.now();
      this.queued += left;
      for (const [index, text] of texts.entries()) {
        const done = (output: unknown, took: TextTimes) => {
          times?.(took, index);
          answers[index] = finish(output as Output, text);
          if (--left === 0) resolve(answers);
        };
        this.waiting.push({ text, pass: pass as BatchPass<EncodedText, unknown>, request, since, done });
      }
      // What else is asked for in this turn comes before the microtask.
      this.pumping ??= Promise.resolve().then(() => this.pump());
    });
  }

  /** Resolves when nothing waits and nothing is computed. */
  async idle(): Promise<void> {
    while (this.pumping) await this.pumping;
  }

  /** Whatever happens, every call is told: nothing is thrown. */
  private async pump(): Promise<void> {
    const plans: Waiting[][][] = [];
    for (;;) {
      const plan = plans.shift() ?? this.plan();
      const batch = plan.shift();
      if (!batch) break;
      this.queued -= batch.length;
      await this.compute(batch);
      if (this.waiting.length > 0) plans.push(this.plan());
      if (plan.length > 0) plans.push(plan);
    }
    this.pumping = undefined;
  }

  /** The batches of all texts that wait. */
  private plan(): Waiting[][] {
    const planned = this.waiting;
    this.waiting = [];
    return groupsBy(planned, ({ pass }) => pass).flatMap((group) => {
      const texts = group.map(({ text }) => text);
      const batches = [...batchesByLength(texts, { ...this.batching, unpadded: group[0].pass.unpadded })];
      return batches.map((members) => members.map((index) => group[index]));
    });
  }

  private async compute(batch: readonly Waiting[]): Promise<void> {
    const wanted = batch.filter(({ request }) => {
      if (request.signal?.aborted) fail(request, request.signal.reason);
      return !request.failed;
    });
    if (wanted.length === 0) return;
    const texts = wanted.map(({ text }) => text);
    try {
      const joined = batchOf(
        texts,
        texts.map((_, index) => index),
      );
      this.batching.batch_callback?.({ texts: joined.batch, tokens: joined.batch * joined.length });
      const begun = performance.now();
      const outputs = await this.session.pass((context) => wanted[0].pass.compute(context, joined, texts));
      const inference = performance.now() - begun;
      for (const [index, { done, request, since }] of wanted.entries()) {
        try {
          done(outputs[index], { queue: begun - since, inference });
        } catch (error) {
          fail(request, error);
        }
      }
    } catch (error) {
      const requests = groupsBy(wanted, ({ request }) => request);
      // Nobody's texts fail for those of others.
      if (requests.length > 1) for (const own of requests) await this.compute(own);
      else fail(wanted[0].request, error);
    }
  }
}

function fail(request: Request, error: unknown): void {
  request.failed = true;
  request.reject(error);
}

/** Items that have the same key, in the order in which keys come first. */
function groupsBy<Item>(items: readonly Item[], key: (item: Item) => unknown): Item[][] {
  const groups = new Map<unknown, Item[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return [...groups.values()];
}
