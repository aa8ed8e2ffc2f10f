import { unlessAborted } from '../abort.ts';
import { kinds } from '../arguments.ts';
import type { Device } from '../backend/device.ts';
import { type DeviceLostError, FailureError, InputError, overflow, quoted } from '../errors.ts';
import { type Batching, type BatchPass, BatchQueue, type TextTimes } from '../models/batch_queue.ts';
import { Session } from '../models/session.ts';
import type { EncodedText } from '../models/text_batches.ts';
import { type CharacterLoss, LossNotice } from '../tokenizer/character_loss.ts';
import type { TruncationSide } from '../tokenizer/truncate.ts';
import { Callable } from './callable.ts';

/** Texts of a stream that are answered together at most, so that they can be sorted by length. */
const textsPerWindow = 256;

/** Inputs, or their characters, that are encoded before timers may fire. */
const encodedAtOnce = 256;
const charactersAtOnce = 2 ** 18;

/** A text ready for a model, and what of it the tokenizer made nothing of. */
export interface TokenizedText extends EncodedText {
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

/** What a call took. */
export interface CallTiming {
  /** Milliseconds until all texts were tokens. */
  tokenization: number;
  /** For each text, in order, its tokens, special ones included, those that were cut off, and its milliseconds. */
  texts: readonly (TextTimes & { tokens: number; truncated: number })[];
}

/** Is told of a call, but not of a stream, when its answers are there. */
export type TimingCallback = (timing: CallTiming) => void;

/** Options that calls of all pipelines have. */
export const callOptionKinds = { signal: kinds.signal, refused_callback: kinds.callback, timing_callback: kinds.callback };

/** What a pipeline takes, and what becomes of it. */
export interface InputKind<Input, Encoded extends TokenizedText> {
  /** What one input is, for messages. */
  expected: string;
  accepts(value: unknown): boolean;
  /** `name`: the input's, for messages. @throws InputError if the model cannot take it */
  encode(input: Input, name: string): Encoded;
}

/** What {@link InputKind} says of inputs that are a text each. */
export const plainText = { expected: 'a string', accepts: (value: unknown) => typeof value === 'string' };

/** What a pipeline of texts is made of, beside its model. */
export interface TextPipelineParts<Input, Encoded extends TokenizedText> {
  device: Device;
  /** Gives another device, with the model on it, when this one was lost. */
  recover?: (error: DeviceLostError) => Promise<Device>;
  /** How texts of several calls are merged. */
  batching?: Batching;
  inputs: InputKind<Input, Encoded>;
  /** Absent where texts that are too long are refused. */
  cut?: Cut;
  /** Is told, once, of texts that lose much in the tokenizer; and of each call or stream how many of its texts were cut. */
  notice: (message: string) => void;
  /** Called once, when the pipeline is disposed. */
  release: () => void;
}

/** What a call asks for: a pass of the model over all its texts, and what is made of each text's output. */
export interface Asked<Input, Encoded extends TokenizedText, Output, Answer> {
  /** Calls with the same one share batches. */
  pass: BatchPass<Encoded, Output>;
  finish: (output: Output, encoded: Encoded) => Answer;
  /** Of this call, where it is another one than the pipeline's. */
  encode?: InputKind<Input, Encoded>['encode'];
  /** Of this call, where it is another one than the pipeline's. */
  cutSide?: TruncationSide;
  signal?: AbortSignal;
  timing_callback?: TimingCallback;
}

/** What all pipelines of texts share: inputs checked and encoded, one queue of batches below all calls, streams, and an end. */
export abstract class TextPipeline<Input, Encoded extends TokenizedText> extends Callable {
  abstract readonly task: string;
  private readonly inputs: InputKind<Input, Encoded>;
  private readonly cut: Cut | undefined;
  protected readonly notice: (message: string) => void;
  private readonly release: () => void;
  protected readonly session: Session;
  private readonly queue: BatchQueue;
  private readonly losses: LossNotice;
  private readonly pause = new Pause();
  private readonly names = new WeakMap<Encoded, string>();
  private readonly underWay = new Set<Promise<unknown>>();
  private ended: Promise<void> | undefined;

  constructor({ device, recover, batching, inputs, cut, notice, release }: TextPipelineParts<Input, Encoded>) {
    super();
    this.inputs = inputs;
    this.cut = cut;
    this.notice = notice;
    this.release = release;
    this.session = new Session(device, undefined, recover);
    this.queue = new BatchQueue(this.session, batching);
    this.losses = new LossNotice(notice);
  }

  /** Texts, of all calls, that wait for their pass. */
  get queued(): number {
    return this.queue.size;
  }

  /**
   * The answers to one input or to several, in their order. Timers fire while many are encoded.
   * @throws InputError, naming it, of the first input that is none or that the model cannot take; the signal's reason as soon as it aborts;
   *   an Error if the pipeline was disposed.
   */
  protected answer<Output, Answer>(inputs: Input | readonly Input[], asked: Asked<Input, Encoded, Output, Answer>): Promise<Answer[]> {
    return this.untilDone(async () => {
      const { signal, encode = this.inputs.encode, timing_callback } = asked;
      signal?.throwIfAborted();
      const began = performance.now();
      const encoded: Encoded[] = [];
      if (!Array.isArray(inputs)) encoded.push(this.encode(inputs as Input, encode));
      else
        for (const [index, input] of (inputs as readonly Input[]).entries()) {
          signal?.throwIfAborted();
          encoded.push(this.encode(input, encode, index));
          if (this.pause.isDueAfter(encoded[index])) await this.pause.now();
        }
      this.losses.of(encoded);
      this.tellCut(countCut(encoded), encoded.length, asked.cutSide);
      const tokenization = performance.now() - began;
      const times: TextTimes[] = [];
      const answers = await this.answerEncoded(encoded, asked, times);
      const texts = () => encoded.map(({ ids, truncated = 0 }, index) => ({ tokens: ids.length, truncated, ...times[index] }));
      timing_callback?.({ tokenization, texts: texts() });
      return answers;
    });
  }

  /**
   * The answers to a stream's inputs, in order: to as many at a time as the stream has ready, 256 at most. While it is asked for
   * nothing, it has read ahead those, and asked for one more. Where an input is refused or the stream fails, those before are answered first;
   * with `refused`, that is told of the input, and the stream goes on without it. Of texts that were cut the first are told of at once,
   * and all when it ends.
   * @throws as {@link answer}; the signal's reason also while the stream keeps it waiting
   */
  protected async *answerStream<Output, Answer>(
    inputs: AsyncIterable<Input>,
    asked: Asked<Input, Encoded, Output, Answer>,
    refused?: RefusedCallback,
  ): AsyncGenerator<Answer> {
    const { signal, encode = this.inputs.encode } = asked;
    let [cut, texts, told] = [0, 0, 0];
    const tell = () => {
      this.tellCut(cut, texts, asked.cutSide);
      told = cut;
    };
    try {
      for await (const window of this.windows(inputs, signal, encode, refused)) {
        this.losses.of(window);
        cut += countCut(window);
        texts += window.length;
        if (told === 0) tell();
        yield* await this.untilDone(() => this.answerEncoded(window, asked));
      }
    } finally {
      if (cut > told) tell();
    }
  }

  private async answerEncoded<Output, Answer>(
    encoded: readonly Encoded[],
    { pass, finish, signal }: Asked<Input, Encoded, Output, Answer>,
    times?: TextTimes[],
  ): Promise<Answer[]> {
    const keep = times && ((took: TextTimes, index: number) => void (times[index] = took));
    return await unlessAborted(this.queue.answer(encoded, pass, finish, { signal, times: keep }), signal);
  }

  /** What the model says of one of the inputs. @throws FailureError, naming it, if a value is not finite */
  protected checkFinite(encoded: Encoded, values: Float32Array): void {
    if (values.every(Number.isFinite)) return;
    throw new FailureError(`${this.names.get(encoded) ?? 'a text'}: the model's answer is not finite: ${overflow}`);
  }

  /** Resolves when calls under way have ended and everything is freed: the model, and the device unless it was handed in. */
  dispose(): Promise<void> {
    this.ended ??= (async () => {
      await Promise.allSettled(this.underWay);
      await this.queue.idle();
      this.session.dispose();
      this.release();
    })();
    return this.ended;
  }

  [Symbol.dispose](): void {
    void this.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** Begins at once, so that what is asked for in one turn of the event loop goes together; the end waits for it. */
  protected async untilDone<T>(work: () => Promise<T>): Promise<T> {
    if (this.ended) throw new Error(`this ${this.task} pipeline was disposed`);
    const result = work();
    const settled = result.then(nothing, nothing);
    this.underWay.add(settled);
    settled.then(() => this.underWay.delete(settled));
    return await result;
  }

  private tellCut(count: number, texts: number, side = this.cut?.side): void {
    if (count === 0 || !this.cut) return;
    const { maxLength } = this.cut;
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
        if (this.pause.isDueAfter(window[window.length - 1])) await this.pause.now();
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

  isDueAfter({ loss }: TokenizedText): boolean {
    this.texts++;
    this.characters += loss.given;
    return this.texts >= encodedAtOnce || this.characters >= charactersAtOnce;
  }

  async now(): Promise<void> {
    [this.texts, this.characters] = [0, 0];
    await new Promise((resolve) => setTimeout(resolve));
  }
}

const countCut = (encoded: readonly TokenizedText[]) => encoded.filter(({ truncated = 0 }) => truncated > 0).length;

/** Whether a notice tells of texts that were cut: for those who cut texts on purpose. */
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
