/** Texts that a command answers one by one, as its arguments or as lines, and what becomes of those that it cannot answer. */
import { FailureError, InputError, printable } from '../errors.ts';
import { type CommonOptions, fixed, notice, print, printJson } from './common.ts';

/** `name`: what messages call it. */
export interface Sentence {
  text: string;
  name: string;
}

/** The sentences, with '-' standing for the lines of standard input that are not blank. */
export async function* sentencesOf(texts: readonly string[]): AsyncGenerator<Sentence> {
  for (const [index, text] of texts.entries()) {
    if (text === '-') yield* standardInput();
    else yield { text, name: texts.length === 1 ? 'the text' : `text ${index + 1}` };
  }
}

async function* standardInput(): AsyncGenerator<Sentence> {
  let line = 0;
  let empty = true;
  for await (const text of linesIn('-')) {
    line++;
    if (text.trim() === '') continue;
    empty = false;
    yield { text, name: `standard input, line ${line}` };
  }
  if (empty) throw new InputError('standard input is empty, expected sentences, one a line');
}

/** The lines of a file, or with '-' of standard input; of endless ones the beginning, of which `onNotice` is told. */
export async function* linesIn(path: string, onNotice?: (line: string) => void): AsyncGenerator<string> {
  const { linesOf, readLines } = await import('../io/files.ts');
  yield* path === '-' ? linesOf(process.stdin, 'standard input', 'cut', onNotice) : readLines(path, 'cut', onNotice);
}

/** A line of a file that was found by a query. */
export interface Found {
  /** Its number, from 1. */
  line: number;
  score: number;
  text: string;
}

/** Prints what was found of a file's lines, best first. @throws InputError if there is nothing: the file had no lines */
export function printFound(query: string, found: readonly Found[], options: CommonOptions & { in: string }): void {
  if (found.length === 0)
    throw new InputError(`${options.in === '-' ? 'standard input' : options.in}: is empty, expected passages, one a line`);
  if (options.json) printJson({ query, found });
  else for (const { line, score, text } of found) print(`${fixed(score, 4)}  ${String(line).padStart(6)}  ${printable(text)}`);
}

/** Whether several texts are one word each: most likely those of one sentence that is not in quotes. */
export const areWords = (texts: readonly string[]) => texts.length > 1 && texts.every((text) => text !== '-' && !/\s/.test(text));

/** The texts that could not be answered, which are reported while the others are. */
export class Refusals {
  readonly list: { name: string; reason: string }[] = [];
  /** Something else than the texts was at fault. */
  private failed = false;

  /** Reports one on stderr. An error that is not about a text is thrown on. */
  add(name: string, error: unknown): void {
    const about = /^(the text|text \d+):? (.*)$/s.exec(error instanceof InputError || error instanceof FailureError ? error.message : '');
    if (!about) throw error;
    const reason = about[2];
    this.list.push({ name, reason });
    this.failed ||= error instanceof FailureError;
    notice(`ufb: ${name === 'the text' ? (error as Error).message : `${name}: ${reason}`}`, {});
  }

  /** What JSON of the answers says of them beside: nothing, if there are none. */
  get json(): { refused?: Refusals['list'] } {
    return this.list.length > 0 ? { refused: this.list } : {};
  }

  /** Sets the exit code: 1 if some were answered and some were not, or the work failed; 2 if no text can be answered. */
  finish(answered: number, options: CommonOptions): void {
    const { length } = this.list;
    if (length === 0) return;
    if (answered > 0) notice(`${answered} of ${answered + length} texts answered`, options);
    process.exitCode = answered > 0 || this.failed ? 1 : 2;
  }
}
