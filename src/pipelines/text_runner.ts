import { Arena } from '../backend/arena.ts';
import type { Backend } from '../backend/backend.ts';
import { InputError } from '../errors.ts';
import { batchesByLength, batchOf, type EncodedText, type TextBatch } from '../models/text_batches.ts';
import type { Run } from '../nn/parameter.ts';

/** Texts of a stream that are answered together, so that they can be sorted by length. */
const textsPerWindow = 256;

/** What all pipelines share: texts in batches of like length, calls that take turns, and an end. */
export class TextRunner {
  private readonly arena: Arena;
  private disposed = false;
  // Calls share the arena.
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly task: string,
    private readonly backend: Backend,
    private readonly release: () => void,
  ) {
    this.arena = new Arena(backend);
  }

  /** Does a call's work when those before it have ended: calls share the scratch memory. Throws if the pipeline was disposed. */
  async call<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.disposed) throw new Error(`this ${this.task} pipeline was disposed`);
    return await this.inTurn(work);
  }

  /**
   * Within a call: `work` for each batch; what it computes lies in the run's arena until it resolves. Throws the signal's reason between
   * batches. `unpadded`: only texts of one length go together.
   */
  async run(
    encoded: readonly EncodedText[],
    options: { signal?: AbortSignal; unpadded?: boolean },
    work: (run: Run, batch: TextBatch) => Promise<void>,
  ): Promise<void> {
    for (const members of batchesByLength(encoded, { unpadded: options.unpadded })) {
      options.signal?.throwIfAborted();
      this.arena.reset();
      await work({ backend: this.backend, arena: this.arena, training: false }, batchOf(encoded, members));
    }
  }

  /** Resolves when calls under way have ended and everything is freed. */
  async dispose(): Promise<void> {
    if (this.disposed) return void (await this.last);
    this.disposed = true;
    await this.inTurn(async () => {
      this.arena.dispose();
      this.release();
    });
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }
}

/**
 * Answers a stream of inputs, some at a time, in order. What was asked last decides how far the stream is read ahead: one window. Rejects
 * with the signal's reason, also while the stream keeps it waiting.
 */
export async function* answerStream<Input, Answer>(
  inputs: AsyncIterable<Input>,
  signal: AbortSignal | undefined,
  answer: (window: readonly Input[]) => Promise<readonly Answer[]>,
): AsyncGenerator<Answer> {
  let window: Input[] = [];
  for await (const input of untilAborted(inputs, signal)) {
    if (window.push(input) < textsPerWindow) continue;
    yield* await answer(window);
    window = [];
  }
  if (window.length > 0) yield* await answer(window);
}

async function* untilAborted<Input>(inputs: AsyncIterable<Input>, signal: AbortSignal | undefined): AsyncGenerator<Input> {
  const iterator = inputs[Symbol.asyncIterator]();
  let stop = () => {};
  const aborted = new Promise<undefined>((resolve) => {
    stop = () => resolve(undefined);
  });
  signal?.addEventListener('abort', stop);
  let waiting = false;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const next = iterator.next();
      waiting = true;
      const result = await Promise.race([next, aborted]);
      waiting = result === undefined;
      if (result === undefined) {
        next.catch(() => {}); // Nobody waits for it any more.
        signal?.throwIfAborted();
      } else if (result.done) return;
      else yield result.value;
    }
  } finally {
    signal?.removeEventListener('abort', stop);
    // What is asked for the next input cannot be ended before it has come.
    const ended = iterator.return?.();
    if (waiting) ended?.then(undefined, () => {});
    else await ended;
  }
}

/** Inputs that are encoded before timers may fire, and the signal is looked at. */
const encodedAtOnce = 256;

/** What `encode` makes of each input, with pauses for whatever else the thread has to do. @throws the signal's reason */
export async function encodeAll<Input, Encoded>(
  inputs: readonly Input[],
  signal: AbortSignal | undefined,
  encode: (input: Input, index: number) => Encoded,
): Promise<Encoded[]> {
  const encoded: Encoded[] = [];
  for (const [index, input] of inputs.entries()) {
    encoded.push(encode(input, index));
    if (index % encodedAtOnce !== encodedAtOnce - 1) continue;
    await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
  }
  return encoded;
}

export function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

/** One input or several, as a list. Throws InputError if it is neither; `expected` says what one input is. */
export function listOf<Input>(inputs: Input | readonly Input[], isInput: (value: unknown) => boolean, expected: string): readonly Input[] {
  const list = Array.isArray(inputs) ? (inputs as readonly Input[]) : [inputs as Input];
  const wrong = list.findIndex((input) => !isInput(input));
  if (wrong < 0) return list;
  const found = list[wrong] === null ? 'null' : typeof list[wrong];
  throw new InputError(
    Array.isArray(inputs)
      ? `text ${wrong + 1}: got ${found}, expected ${expected}`
      : `got ${found}, expected ${expected} or an array of such`,
  );
}
