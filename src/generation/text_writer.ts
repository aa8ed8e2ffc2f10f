import { FailureError } from '../errors.ts';
import type { TextStream } from '../tokenizer/text_stream.ts';
import type { Writing } from './generate.ts';
import type { Sampler } from './sampling.ts';
import type { StopTexts } from './stop_texts.ts';

/** Why a text has ended: by itself or at a stop text, or because it has as many tokens as were asked for. */
export type FinishReason = 'stop' | 'length';

export interface TextWriterParts {
  /** What messages call it. */
  name: string;
  prompt: readonly number[];
  maxNewTokens: number;
  sampler: Sampler;
  /** New; it is given the prompt first, for what a token looks like may depend on those before. */
  stream: TextStream;
  stops: StopTexts;
  /** Tokens that end a text. */
  ends: ReadonlySet<number>;
  /** Ids from here on have no text: models may have more than their tokenizer. */
  vocabularySize: number;
}

/** A text that is written token by token, as characters that are certain. */
export class TextWriter implements Writing {
  readonly prompt: readonly number[];
  readonly maxNewTokens: number;
  /** Absent while it is written. */
  finishReason: FinishReason | undefined;
  /** What was written, all of it. */
  text = '';
  /** Of it, what {@link take} gave already. */
  private taken = 0;
  private readonly ids: number[];

  constructor(private readonly parts: TextWriterParts) {
    this.prompt = parts.prompt;
    this.maxNewTokens = parts.maxNewTokens;
    this.ids = [...parts.prompt];
    for (const id of parts.prompt) parts.stream.push(id);
  }

  /** Tokens that were written, one that ended the text not counted. */
  get tokens(): number {
    return this.ids.length - this.prompt.length;
  }

  next(logits: Float32Array): number | undefined {
    const { stream, stops, ends } = this.parts;
    const id = this.choose(logits);
    if (ends.has(id)) return this.finish('stop');
    this.ids.push(id);
    this.text += stops.push(stream.push(id));
    if (stops.isFound) return this.finish('stop');
    return this.tokens >= this.maxNewTokens ? this.finish('length') : id;
  }

  private choose(logits: Float32Array): number {
    const { name, sampler, vocabularySize } = this.parts;
    try {
      return sampler.next(logits.subarray(0, vocabularySize), this.ids);
    } catch (error) {
      throw error instanceof FailureError ? new FailureError(`${name}: ${error.message}`) : error;
    }
  }

  /** What was written since it was asked for last. */
  take(): string {
    const piece = this.text.slice(this.taken);
    this.taken = this.text.length;
    return piece;
  }

  private finish(reason: FinishReason): undefined {
    const { stream, stops } = this.parts;
    this.text += stops.push(stream.end());
    if (!stops.isFound) this.text += stops.end();
    // It may have been found in what was left.
    this.finishReason = stops.isFound ? 'stop' : reason;
  }
}
