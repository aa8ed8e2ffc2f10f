import { onAbort } from '../abort.ts';
import { kinds } from '../arguments.ts';
import { Arena } from '../backend/arena.ts';
import type { Device } from '../backend/device.ts';
import { FailureError, InputError, overflow, quoted } from '../errors.ts';
import { batchesByLength, batchOf, type EncodedText, type TextBatch } from '../models/text_batches.ts';
import type { Context } from '../nn/parameter.ts';
import { type CharacterLoss, LossNotice } from '../tokenizer/character_loss.ts';
import type { TruncationSide } from '../tokenizer/truncate.ts';

/** Texts of a stream that are answered together at most, so that they can be sorted by length. */
const textsPerWindow = 256;

/** Inputs, or their characters, that are encoded before timers may fire. */
const encodedAtOnce = 256;
const charactersAtOnce = 2 ** 18;

/** A text ready for a model, and what of it the tokenizer made nothing of. */
export interface RunText extends EncodedText {
  loss: CharacterLoss;
  /** Tokens that were cut off, if any may be. */
  truncated?: number;
}

/** Where texts are cut that are too long. */
export interface Cut {
  /** Tokens of a text, at most. */
  maxLength: number;
  side: TruncationSide;
}

/** Is told of an input of a stream, the `index`-th from 0, that cannot be taken and is left out. */
export type RefusedCallback = (error: InputError, index: number) => void;

/** Options that calls of all pipelines have. */
export const streamOptionKinds = { signal: kinds.signal, refused_callback: kinds.callback };

/** What a pipeline takes, and what becomes of it. */
export interface InputKind<Input, Encoded extends RunText> {
  /** What one input is, for messages. */
  expected: string;
  accepts(value: unknown): boolean;
  /** `name`: the input's, for messages. @throws InputError if the model cannot take it */
  encode(input: Input, name: string): Encoded;
}

/** What {@link InputKind} says of inputs that are a text each. */
export const plainText = { expected: 'a string', accepts: (value: unknown) => typeof value === 'string' };

/** What all pipelines share: inputs checked and encoded, texts in batches of like length, calls that take turns, streams, and an end. */
export class TextRunner<Input, Encoded extends RunText> {
  private readonly arena: Arena;
  private readonly losses: LossNotice;
  private readonly pause = new Pause();
  private readonly names = new WeakMap<Encoded, string>();
  private disposed = false;
  // Calls share the arena.
  private last: Promise<void> = Promise.resolve();

  constructor(
    private readonly task: string,
    private readonly device: Device,
    private readonly inputs: InputKind<Input, Encoded>,
    /** Is told, once, of texts that lose much in the tokenizer; and of each call or stream how many of its texts were cut. */
    private readonly notice: (message: string) => void,
    private readonly release: () => void,
    /** Absent where texts that are too long are refused. */
    private readonly cut?: Cut,
  ) {
    this.arena = new Arena(device);
    this.losses = new LossNotice(notice);
  }

  /**
   * What `answer` makes of one input or of several, when the calls before have ended. Timers fire while many are encoded. `encode`: of this
   * call, where it is another one than the runner's.
   * @throws InputError, naming it, of the first input that is none or that the model cannot take; the signal's reason when it aborts: at
   *   once while other calls have their turn, then between inputs; an Error if the pipeline was disposed.
   */
  async call<Result>(
    inputs: Input | readonly Input[],
    signal: AbortSignal | undefined,
    answer: (encoded: readonly Encoded[]) => Promise<Result>,
    encode = this.inputs.encode,
  ): Promise<Result> {
    return await this.takeTurn(signal, async () => {
      const encoded: Encoded[] = [];
      if (!Array.isArray(inputs)) encoded.push(this.encode(inputs as Input, encode));
      else
        for (const [index, input] of (inputs as readonly Input[]).entries()) {
          signal?.throwIfAborted();
          encoded.push(this.encode(input, encode, index));
          await this.pause.after(encoded[index]);
        }
      this.losses.of(encoded);
      this.tellCut(countCut(encoded), encoded.length);
      return await answer(encoded);
    });
  }

  /**
   * What `answer` makes of a stream's inputs, in order: of as many at a time as the stream has ready, 256 at most. While it is asked for
   * nothing, it has read ahead those, and asked for one more. Where an input is refused or the stream fails, those before are answered first;
   * with `refused`, that is told of the input, and the stream goes on without it. Of texts that were cut the first are told of at once,
   * and all when it ends.
   * @throws as {@link call}; the signal's reason also while the stream keeps it waiting
   */
  async *stream<Answer>(
    inputs: AsyncIterable<Input>,
    signal: AbortSignal | undefined,
    answer: (encoded: readonly Encoded[]) => Promise<readonly Answer[]>,
    refused?: RefusedCallback,
    encode = this.inputs.encode,
  ): AsyncGenerator<Answer> {
    let [cut, texts, told] = [0, 0, 0];
    const tell = () => {
      this.tellCut(cut, texts);
      told = cut;
    };
    try {
      for await (const window of this.windows(inputs, signal, encode, refused)) {
        this.losses.of(window);
        cut += countCut(window);
        texts += window.length;
        if (told === 0) tell();
        yield* await this.takeTurn(signal, () => answer(window));
      }
    } finally {
      if (cut > told) tell();
    }
  }

  /**
   * Within `answer`: `work` for each batch; what it computes lies in the run's arena until it resolves. Throws the signal's reason between
   * batches and behind the last. `unpadded`: only texts of one length go together.
   */
  async run(
    encoded: readonly Encoded[],
    options: { signal?: AbortSignal; unpadded?: boolean },
    work: (context: Context, batch: TextBatch) => Promise<void>,
  ): Promise<void> {
    for (const members of batchesByLength(encoded, { unpadded: options.unpadded })) {
      options.signal?.throwIfAborted();
      this.arena.reset();
      try {
        await work({ device: this.device, arena: this.arena, training: false }, batchOf(encoded, members));
      } catch (error) {
        // A tensor that found no memory has none for a smaller batch either.
        this.arena.dispose();
        throw error;
      }
    }
    options.signal?.throwIfAborted();
  }

  /** What the model says of one of the inputs. @throws FailureError, naming it, if a value is not finite */
  checkFinite(encoded: Encoded, values: Float32Array): void {
    if (values.every(Number.isFinite)) return;
    throw new FailureError(`${this.names.get(encoded) ?? 'a text'}: the model's answer is not finite: ${overflow}`);
  }

  /** Resolves when calls under way have ended and everything is freed. */
  async dispose(): Promise<void> {
    if (this.disposed) return await this.last;
    const ended = this.takeTurn(undefined, async () => {
      this.arena.dispose();
      this.release();
    });
    this.disposed = true;
    await ended;
  }

  /** Does the work when what came before has ended. Who gives up waiting does not let others in before that. */
  private async takeTurn<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (this.disposed) throw new Error(`this ${this.task} pipeline was disposed`);
    const before = this.last;
    const result = unlessAborted(before, signal).then(work);
    // Holds no answer.
    this.last = result.then(nothing, nothing).then(() => before);
    return await result;
  }

  private tellCut(count: number, texts: number): void {
    if (count === 0 || !this.cut) return;
    const { maxLength, side } = this.cut;
    const part = side === 'left' ? 'beginning' : 'end';
    this.notice(`${count} of ${texts} texts ${count === 1 ? 'has' : 'have'} more than ${maxLength} tokens: the ${part} was left out`);
  }

  /** `index` of the input among several. */
  private encode(input: Input, encode: InputKind<Input, Encoded>['encode'], index?: number): Encoded {
    const name = index === undefined ? 'the text' : `text ${index + 1}`;
    const { accepts, expected } = this.inputs;
    if (accepts(input)) {
      const encoded = encode(input, name);
      if (encoded.ids.length === 0) throw new InputError(`${name}: the tokenizer makes no token of it, expected some text`);
      this.names.set(encoded, `${name} (${textsOf(input)})`);
      return encoded;
    }
    const found = input === null ? 'null' : typeof input;
    throw new InputError(`${name}: got ${found}, expected ${expected}${index === undefined ? ' or an array of such' : ''}`);
  }

  private async *windows(
    inputs: AsyncIterable<Input>,
    signal: AbortSignal | undefined,
    encode: InputKind<Input, Encoded>['encode'],
    refused: RefusedCallback | undefined,
  ): AsyncGenerator<readonly Encoded[]> {
    const iterator = inputs[Symbol.asyncIterator]();
    /** What was asked for and has not come. */
    let next: Promise<IteratorResult<Input>> | undefined;
    let window: Encoded[] = [];
    try {
      for (let index = 0; ; index++) {
        signal?.throwIfAborted();
        next = iterator.next();
        if (window.length > 0 && !(await isReady(next))) {
          yield window;
          window = [];
        }
        const result = await unlessAborted(next, signal);
        next = undefined;
        if (result.done) break;
        try {
          window.push(this.encode(result.value, encode, index));
        } catch (error) {
          if (!refused || !(error instanceof InputError)) throw error;
          refused(error, index);
          continue;
        }
        await this.pause.after(window[window.length - 1]);
        if (window.length < textsPerWindow) continue;
        yield window;
        window = [];
      }
      if (window.length > 0) yield window;
    } catch (error) {
      if (window.length > 0 && !signal?.aborted) yield window;
      throw error;
    } finally {
      // What is asked for the next input cannot be ended before it has come.
      const ended = iterator.return?.();
      if (next) ended?.then(nothing, nothing);
      else await ended;
    }
  }
}

/** Lets timers fire, and with them whoever stops the work, while many texts or long ones are encoded. */
class Pause {
  private texts = 0;
  private characters = 0;

  async after({ loss }: RunText): Promise<void> {
    this.texts++;
    this.characters += loss.given;
    if (this.texts < encodedAtOnce && this.characters < charactersAtOnce) return;
    [this.texts, this.characters] = [0, 0];
    await new Promise((resolve) => setTimeout(resolve));
  }
}

const countCut = (encoded: readonly RunText[]) => encoded.filter(({ truncated = 0 }) => truncated > 0).length;

/** Whether a notice is `noticeCut`'s: for those who cut texts on purpose. */
export const isNoticeOfCut = (line: string) => /\btexts ha(s|ve) more than \d+ tokens\b/.test(line);

export function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

/** A text, or those of a pair, short. */
function textsOf(input: unknown): string {
  const { text = input, text_pair } = input as { text?: unknown; text_pair?: unknown };
  return [text, ...(text_pair === undefined ? [] : [text_pair])].map(quoted).join(' and ');
}

const nothing = () => {};

/** What comes of the promise, or the signal's reason as soon as it aborts. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  // Not a race with one promise that lives as long as the signal: that would hold whatever came of each.
  return new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    const settled = onAbort(signal, () => reject(signal.reason));
    promise.then(resolve, reject).finally(settled);
  });
}

/** Whether the promise is settled before a timer fires that is set now. */
function isReady(promise: Promise<unknown>): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false));
    const settled = () => {
      clearTimeout(timer);
      resolve(true);
    };
    promise.then(settled, settled);
  });
}
