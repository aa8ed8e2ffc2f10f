/** What a long command shows and logs while it works. */
import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { stat, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MultiBar, type SingleBar } from 'cli-progress';
import { makeFolder, openFile, type RandomAccessFile, removeEmptyFolders, removeFile } from '#platform';
import { printable } from '../errors.ts';
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
    const filled = (format: string) => format.replace(/\{(\w+)\}/g, (_, name) => printable(`${values[name] ?? ''}`));
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
    /** It was not there before, nor the first of these folders if there is one. */
    private readonly isNew: boolean,
    private readonly made?: string,
    /** A crash in the midst of a line would make the next one unreadable too. */
    private breaksLine = false,
  ) {
    stream?.on('error', (error) => {
      this.error ??= error;
    });
  }

  /**
   * `read`: files that the command reads, `folder`: the one that it makes. Folders above the file that are missing are made.
   * @throws InputError if the file cannot be written, or must not be: see {@link checkOutput}
   */
  static async open(path: string | undefined, { read = [], folder }: { read?: readonly (string | undefined)[]; folder?: string } = {}) {
    if (path === undefined) return new JsonLog('', undefined, false);
    await checkOutput('--log', path, { read, folder });
    const isNew = (await kindOf(path)) === 'missing';
    try {
      const made = await makeFolder(dirname(path));
      const stream = createWriteStream(path, { flags: 'a' });
      await once(stream, 'open');
      return new JsonLog(path, stream, isNew, made, !(await endsWithLine(path)));
    } catch (error) {
      throw fileError(error, path, 'write');
    }
  }

  write(entry: object): void {
    this.stream?.write(`${this.breaksLine ? '\n' : ''}${JSON.stringify(entry)}\n`);
    this.breaksLine = false;
  }

  /**
   * Before anything is written: notes that a run starts, or goes on. Of one that goes on, what it had logged after its last save is taken away
   * first, for it comes again: lines at the end that `isRepeated`, as far as nothing else stands between them. Returns false if something does,
   * another run's say: then all is left as it is.
   */
  async start(run: { id: string; step: number }, isRepeated: (entry: LogEntry) => boolean): Promise<boolean> {
    if (!this.stream) return true;
    const { start, isOwn } = await repeatedLines(this.path, run.id, isRepeated);
    if (isOwn) {
      try {
        await truncate(this.path, start);
      } catch (error) {
        // A pipe, say, keeps nothing.
        if (!['EINVAL', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) throw fileError(error, this.path, 'write');
      }
      this.breaksLine = false;
    }
    this.write({ event: 'start', ...run });
    return isOwn;
  }

  /** @throws InputError if not all could be written */
  async close(): Promise<void> {
    const { stream } = this;
    if (!stream) return;
    if (!this.error) await new Promise<void>((resolve) => stream.once('close', resolve).end());
    if (this.error) throw fileError(this.error, this.path, 'write');
    // Another run may have written to it meanwhile.
    if (!this.isNew || stream.bytesWritten > 0 || (await stat(this.path)).size > 0) return;
    await removeFile(this.path);
    if (this.made) await removeEmptyFolders(dirname(this.path), this.made);
  }
}

/** A line of a log. */
export type LogEntry = Readonly<Record<string, unknown>>;

/**
 * Where the lines begin with which a log ends and that a run of this `id` repeats. They are not its own if another run's start is the last one
 * before them, or between them, or if their steps do not follow each other. Logs of older versions have no starts.
 */
async function repeatedLines(
  path: string,
  id: string,
  isRepeated: (entry: LogEntry) => boolean,
): Promise<{ start: number; isOwn: boolean }> {
  if ((await kindOf(path)) !== 'file') return { start: 0, isOwn: false };
  const file = await openFile(path);
  try {
    let start = file.size;
    let last = Number.POSITIVE_INFINITY;
    let isTail = true;
    for await (const { text, at } of linesBackwards(file)) {
      const entry: LogEntry | undefined = isTail || text.startsWith('{"event":"start"') ? entryOf(text) : undefined;
      const isStart: boolean = entry?.event === 'start';
      if (isStart && entry?.id !== id) return { start: file.size, isOwn: start === file.size };
      if (isStart && !isTail) break;
      if (isStart) last = Number.POSITIVE_INFINITY;
      // The last line may have been broken off.
      isTail &&= entry ? isStart || isRepeated(entry) : at + Buffer.byteLength(text) === file.size && !text.endsWith('\n');
      if (!isTail) continue;
      if (entry?.event === 'step' && typeof entry.step === 'number') {
        if (entry.step >= last) return { start: file.size, isOwn: false };
        last = entry.step;
      }
      start = at;
    }
    return { start, isOwn: true };
  } finally {
    await file.close();
  }
}

function entryOf(text: string): LogEntry | undefined {
  try {
    const entry: unknown = JSON.parse(text);
    return typeof entry === 'object' && entry !== null ? (entry as LogEntry) : undefined;
  } catch {
    return undefined;
  }
}

/** The lines of a file from its end on, and where they begin. */
async function* linesBackwards(file: RandomAccessFile): AsyncGenerator<{ text: string; at: number }> {
  let rest = Buffer.alloc(0);
  for (let at = file.size; at > 0; ) {
    const length = Math.min(at, 2 ** 16);
    at -= length;
    rest = Buffer.concat([await file.read(at, length), rest]);
    for (let end = rest.lastIndexOf(10, -2); end >= 0; end = rest.lastIndexOf(10, -2)) {
      yield { text: rest.toString('utf8', end + 1), at: at + end + 1 };
      rest = rest.subarray(0, end + 1);
    }
  }
  if (rest.length > 0) yield { text: rest.toString('utf8'), at: 0 };
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
