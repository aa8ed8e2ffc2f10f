import type { Context } from '../nn/parameter.ts';
import type { Session } from './session.ts';
import { batchesByLength, batchOf, type EncodedText, type TextBatch } from './text_batches.ts';

/** What one pass of the model makes of a batch of texts: something for each of them, in the batch's order. */
export interface BatchPass<Text extends EncodedText, Output> {
  compute(context: Context, batch: TextBatch, texts: readonly Text[]): Promise<readonly Output[]>;
  /** Only texts of one length go together. */
  unpadded?: boolean;
}

/** What is asked of the queue by one call. */
interface Request {
  signal?: AbortSignal;
}

/** A text that waits for its pass. */
interface Waiting {
  text: EncodedText;
  pass: BatchPass<EncodedText, unknown>;
  request: Request;
  /** Given what the pass made of the text. May throw, of this text alone. */
  done(output: unknown): void;
  failed(error: unknown): void;
}

/**
 * Below all that answers texts: merges those that wait, of several callers, into batches by a budget of tokens. Texts that come while a
 * batch is computed go with the next ones. What is made of a text does not depend on what it goes with, up to rounding.
 */
export class BatchQueue {
  private waiting: Waiting[] = [];
  private pumping: Promise<void> | undefined;

  constructor(private readonly session: Session) {}

  /**
   * What `finish` makes of each text's output, in order of the texts. Texts asked for in one turn of the event loop go together, if it is with
   * the same `pass` object. Rejects with the first failure, of a pass or of `finish`; with the signal's reason as soon as it aborts, and
   * then texts that have not begun are left out.
   */
  answer<Text extends EncodedText, Output, Answer>(
    texts: readonly Text[],
    pass: BatchPass<Text, Output>,
    finish: (output: Output, text: Text) => Answer,
    signal?: AbortSignal,
  ): Promise<Answer[]> {
    const request: Request = { signal };
    const answers: Answer[] = new Array(texts.length);
    let left = texts.length;
    return new Promise((resolve, reject) => {
      if (left === 0) resolve(answers);
      for (const [index, text] of texts.entries()) {
        const done = (output: unknown) => {
          answers[index] = finish(output as Output, text);
          if (--left === 0) resolve(answers);
        };
        this.waiting.push({ text, pass: pass as BatchPass<EncodedText, unknown>, request, done, failed: reject });
      }
      // What else is asked for in this turn comes before the microtask.
      this.pumping ??= Promise.resolve().then(() => this.pump());
    });
  }

  /** Resolves when nothing waits and nothing is computed. */
  async idle(): Promise<void> {
    while (this.pumping) await this.pumping;
  }

  /** Whatever happens, every text is told: nothing is thrown. */
  private async pump(): Promise<void> {
    while (this.waiting.length > 0) {
      const planned = this.waiting;
      this.waiting = [];
      for (const group of groupsBy(planned, ({ pass }) => pass)) {
        const { unpadded } = group[0].pass;
        const texts = group.map(({ text }) => text);
        for (const members of batchesByLength(texts, { unpadded })) await this.compute(members.map((index) => group[index]));
      }
    }
    this.pumping = undefined;
  }

  private async compute(batch: readonly Waiting[]): Promise<void> {
    const wanted = batch.filter(({ request: { signal }, failed }) => {
      if (signal?.aborted) failed(signal.reason);
      return !signal?.aborted;
    });
    if (wanted.length === 0) return;
    const texts = wanted.map(({ text }) => text);
    try {
      const members = texts.map((_, index) => index);
      const outputs = await this.session.pass((context) => wanted[0].pass.compute(context, batchOf(texts, members), texts));
      for (const [index, { done, failed }] of wanted.entries()) {
        try {
          done(outputs[index]);
        } catch (error) {
          failed(error);
        }
      }
    } catch (error) {
      const requests = groupsBy(wanted, ({ request }) => request);
      // Nobody's texts fail for those of others.
      if (requests.length > 1) for (const own of requests) await this.compute(own);
      else for (const { failed } of wanted) failed(error);
    }
  }
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
