import { kinds } from '../arguments.ts';
import { InputError } from '../errors.ts';
import type { Encoding, Tokenizer } from '../tokenizer/tokenizer.ts';
import type { TruncationSide } from '../tokenizer/truncate.ts';

/** What becomes of texts that have more tokens than the model takes. */
export interface TruncationOptions {
  /** Cut them, with a notice: true by default. Otherwise they are refused. */
  truncation?: boolean;
  /** Which end is left out; by default what the model's tokenizer says. */
  truncation_side?: TruncationSide;
}

export const truncationOptionKinds = {
  truncation: kinds.flag,
  truncation_side: { expected: "'left' or 'right'", holds: (value: unknown) => value === 'left' || value === 'right' },
};

/**
 * A text, or a pair, as tokens, at most `maxLength`. `name`: the text's, for messages.
 * @throws InputError if it has more and is not to be cut
 */
export function encodeWithin(
  tokenizer: Tokenizer,
  text: string,
  { pair, maxLength }: { pair?: string; maxLength: number },
  { truncation = true, truncation_side: truncationSide }: TruncationOptions,
  name: string,
): Encoding {
  const encoding = tokenizer.encode(text, { pair, maxLength, truncationSide });
  if (truncation || encoding.truncated === 0) return encoding;
  throw tooLong(name, encoding.ids.length + encoding.truncated, maxLength);
}

export const tooLong = (name: string, tokens: number, maxLength: number) =>
  new InputError(`${name} has ${tokens} tokens, but the model takes at most ${maxLength}: shorten it, or let it be cut (truncation)`);
