/** What a long command shows and logs while it works. */
import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { SingleBar } from 'cli-progress';
import { kindOf, openFile } from '#platform';
import { fileError } from '../io/files.ts';

/** A progress bar on stderr, drawn from the first update on; nothing without a terminal or with `quiet`. */
export class ProgressBar {
  private bar: SingleBar | undefined;

  /** `format` names the values that updates give, as in '{loss}'; bar, percentage and time left are always shown. */
  constructor(
    private readonly options: { quiet?: boolean },
    private readonly format = '',
  ) {}

  /** `progress` in [0, 1]; `seconds` spent since the progress was 0. */
  update(progress: number, seconds: number, values: Record<string, string | number> = {}): void {
    if (this.options.quiet || !process.stderr.isTTY) return;
    const left = progress > 0 ? duration((seconds / progress) * (1 - progress)) : '-';
    const payload = { ...values, percent: (progress * 100).toFixed(1), left };
    if (this.bar) this.bar.update(progress, payload);
    else {
      this.bar = new SingleBar({
        format: `{bar} {percent} %  ${this.format}{left} left`,
        stream: process.stderr,
        barsize: 24,
        fps: 4,
        barCompleteChar: '█',
        barIncompleteChar: '░',
        clearOnComplete: true,
        gracefulExit: false,
      });
      this.bar.start(1, progress, payload);
    }
  }

  stop(): void {
    this.bar?.stop();
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
  ) {
    stream?.on('error', (error) => {
      this.error ??= error;
    });
  }

  /** @throws InputError if the file cannot be written */
  static async open(path: string | undefined): Promise<JsonLog> {
    if (path === undefined) return new JsonLog('', undefined);
    const stream = createWriteStream(path, { flags: 'a' });
    try {
      await once(stream, 'open');
    } catch (error) {
      throw fileError(error, path, 'write');
    }
    const log = new JsonLog(path, stream);
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
