/** vocab.txt, a tokenizer as the oldest BERT folders have it: a token a line, whose number is its id. */
import { InputError } from '../errors.ts';
import { readBytes } from '../io/files.ts';

const maxBytes = 2 ** 26;
const whitespace = /\p{White_Space}/u;

/**
 * The ids of a vocab.txt's tokens, by the rules of Hugging Face's `tokenizers`: blanks behind a token do not count, and of equal tokens the last
 * one does.
 * @throws InputError if it cannot be read, is larger than 64 MB or no UTF-8
 */
export async function readVocabulary(path: string): Promise<Record<string, number>> {
  const bytes = await readBytes(path, maxBytes);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new InputError(`${path}: holds bytes that are no UTF-8, expected a token a line`);
  }
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return Object.fromEntries(lines.map((line, id) => [trimEnd(line), id]));
}

function trimEnd(line: string): string {
  let end = line.length;
  while (end > 0 && whitespace.test(line[end - 1])) end--;
  return line.slice(0, end);
}
