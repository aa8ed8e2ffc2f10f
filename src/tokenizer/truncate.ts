import { InputError } from '../errors.ts';
import type { TemplateItem } from './tokenizer_json.ts';

/** Which end of a text is left out where it is too long. */
export type TruncationSide = 'left' | 'right';

/** A text's tokens, or a template's between them. */
export interface EncodedPart {
  ids: number[];
  tokens: string[];
  /** Tokens that were left out before the first. */
  skipped: number;
}

/**
 * Cuts the texts' parts, one token at a time off the longer, until all fit; returns the tokens cut. `maxLength`: tokens in all.
 * @throws InputError if the special tokens alone are more
 */
export function truncate(items: readonly TemplateItem[], parts: readonly EncodedPart[], maxLength: number, side: TruncationSide): number {
  const texts = parts.filter((_, i) => 'sequence' in items[i]).map((part) => ({ part, length: part.ids.length, left: part.ids.length }));
  const total = parts.reduce((sum, { ids }) => sum + ids.length, 0);
  const special = total - texts.reduce((sum, { left }) => sum + left, 0);
  if (!Number.isInteger(maxLength) || maxLength < special)
    throw new InputError(`maxLength: got ${maxLength}, expected a whole number from ${special}, for the special tokens alone are as many`);
  for (let over = total - maxLength; over > 0; over--) {
    // Of two of one length the one that was shorter to begin with, as the format's reference has it ('longest first').
    const longest = texts.reduce((best, text) => {
      const isLonger = text.left > best.left || (text.left === best.left && text.length < best.length);
      return isLonger ? text : best;
    });
    longest.left--;
  }
  for (const { part, length, left } of texts) {
    part.skipped = side === 'left' ? length - left : 0;
    part.ids = part.ids.slice(part.skipped, part.skipped + left);
    part.tokens = part.tokens.slice(part.skipped, part.skipped + left);
  }
  return Math.max(total - maxLength, 0);
}
