/** What a long command shows and logs while it works. */
import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { MultiBar, type SingleBar } from 'cli-progress';
import { openFile, removeFile } from '#platform';
import { fileError, kindOf } from '../io/files.ts';
import { checkOutput } from './outputs.ts';
import { terminal } from './terminal.ts';

/** Between two drawings of a bar. */
const millisecondsPerDrawing = 250;

/** Columns of the bar itself where there is room, and fewer than which say nothing. */
const [widestBar, narrowestBar] = [24, 6];

/**
 * One line for a terminal of so many columns: the bar, the percentage, `parts` (each with blanks behind it) and the time left. What does
 * not fit goes: parts from the last one on, and the bar where what stays leaves it no room; the percentage and the time left always stay.
 */
export function progressLine(progress: number, parts: readonly string[], left: string, columns: number): string {
  // A line as wide as the terminal wraps in some.
  const room = columns - 1;
  const [start, end] = [`${(progress * 100).toFixed(1)} %  `, left && `${left} left`];
  const shown = [...parts];
  const text = () => `${start}${shown.join('')}${end}`.trimEnd();
  while (shown.length > 0 && text().length > room) shown.pop();
  const bar = Math.min(widestBar, room - text().length - 1);
  if (bar < narrowestBar) return text().slice(0, room);
  const full = Math.round(bar * Math.min(Math.max(progress, 0), 1));
  return `${'█'.repeat(full)}${'░'.repeat(bar - full)} ${text()}`;
}

/** A progress bar on stderr, drawn from the first update on; nothing without a terminal or with `quiet`. */
export class ProgressBar {
  /** One bar alone, for that of a kind draws over what was printed meanwhile. */
  private bars: MultiBar | undefined;
  private bar: SingleBar | undefined;
  private drawn = Number.NEGATIVE_INFINITY;

  /**
   * `format` names the values that updates give, as in 'loss {loss}  {rate} tokens/s  ': parts with two blanks behind each, the
   * most telling first. `alone`: all that is shown, where nobody knows how much there is to do.
   */
  constructor(
    private readonly options: { quiet?: boolean },
    private readonly format = '',
    private readonly alone?: string,
  ) {}

  /** `progress` in [0, 1]; `seconds` spent since the progress was 0. */
  update(progress: number, seconds: number, values: Record<string, string | number> = {}): void {
    if (this.options.quiet || !process.stderr.isTTY) return;
    const left = progress > 0 ? duration((seconds / progress) * (1 - progress)) : '-';
    const filled = (format: string) => format.replace(/\{(\w+)\}/g, (_, name) => `${values[name] ?? ''}`);
    const columns = process.stderr.columns ?? 80;
    const line = this.alone
      ? filled(this.alone).slice(0, columns - 1)
      : progressLine(progress, this.format.split(/(?<= {2})(?=\S)/).map(filled), left, columns);
    this.bars ??= new MultiBar({
      format: (_, __, { line }) => line,
      stream: process.stderr,
      clearOnComplete: true,
      gracefulExit: false,
      // A process that is killed leaves the terminal as it was: lines are cut here, not there.
      linewrap: true,
      fps: 1000 / millisecondsPerDrawing,
    });
    if (this.bar) this.bar.update(progress, { line });
    else this.bar = this.bars.create(1, progress, { line });
    terminal.showsBar = true;
    // Not by a timer, whose turn may not come while the program computes.
    if (performance.now() - this.drawn < millisecondsPerDrawing) return;
    this.drawn = performance.now();
    this.bars.update();
  }

  /** Removes it; another update draws it again. */
  stop(): void {
    this.bars?.stop();
    this.bars = this.bar = undefined;
    this.drawn = Number.NEGATIVE_INFINITY;
    terminal.showsBar = false;
  }
}

/** Does work that says how far it is, with a bar that is gone when it ends, however it ends. */
export async function withProgress<Result>(
  options: { quiet?: boolean },
  work: (onProgress: (done: number, total: number) => void) => Promise<Result>,
): Promise<Result> {
  const bar = new ProgressBar(options);
  const started = performance.now();
  try {
    return await work((done, total) => bar.update(done / total, (performance.now() - started) / 1000));
  } finally {
    bar.stop();
  }
}

/** 3723 as 1 h 2 min. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A file of JSON lines, added to if it exists. */
export class JsonLog {
  private error: unknown;

  private constructor(
    private readonly path: string,
    private readonly stream: WriteStream | undefined,
    /** It was not there before. */
    private readonly isNew: boolean,
  ) {
    stream?.on('error', (error) => {
      this.error ??= error;
    });
  }

  /**
   * `read`: files that the command reads, `folder`: the one that it makes.
   * @throws InputError if the file cannot be written, or must not be: see {@link checkOutput}
   */
  static async open(path: string | undefined, { read = [], folder }: { read?: readonly (string | undefined)[]; folder?: string } = {}) {
    if (path === undefined) return new JsonLog('', undefined, false);
    await checkOutput('--log', path, { read, folder });
    const isNew = (await kindOf(path)) === 'missing';
    const stream = createWriteStream(path, { flags: 'a' });
    try {
      await once(stream, 'open');
    } catch (error) {
      throw fileError(error, path, 'write');
    }
    const log = new JsonLog(path, stream, isNew);
    // A crash in the midst of a line would make the next one unreadable too.
    if (!(await endsWithLine(path))) stream.write('\n');
    return log;
  }

  write(entry: object): void {
    this.stream?.write(`${JSON.stringify(entry)}\n`);
  }

  /** @throws InputError if not all could be written */
  async close(): Promise<void> {
    const { stream } = this;
    if (!stream) return;
    if (!this.error) await new Promise<void>((resolve) => stream.once('close', resolve).end());
    if (this.error) throw fileError(this.error, this.path, 'write');
    // Another run may have written to it meanwhile.
    if (this.isNew && stream.bytesWritten === 0 && (await stat(this.path)).size === 0) await removeFile(this.path);
  }
}

async function endsWithLine(path: string): Promise<boolean> {
  if ((await kindOf(path)) !== 'file') return true;
  const file = await openFile(path);
  try {
    return file.size === 0 || (await file.read(file.size - 1, 1))[0] === 10;
  } finally {
    await file.close();
  }
}
