/** What a long command shows and logs while it works. */
import { createWriteStream, type WriteStream } from 'node:fs';
import { SingleBar } from 'cli-progress';
import { InputError } from '../errors.ts';

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

/** 3723 as 1 h 2 min. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A file of JSON lines, added to if it exists. */
export class JsonLog {
  private constructor(private readonly stream: WriteStream | undefined) {}

  /** @throws InputError if the file cannot be written */
  static async open(path: string | undefined): Promise<JsonLog> {
    if (path === undefined) return new JsonLog(undefined);
    const stream = createWriteStream(path, { flags: 'a' });
    await new Promise<void>((resolve, reject) => {
      stream.once('open', () => resolve());
      stream.once('error', (error: NodeJS.ErrnoException) =>
        reject(new InputError(`${path}: cannot write the log: ${error.code ?? error.message}`)),
      );
    });
    return new JsonLog(stream);
  }

  write(entry: object): void {
    this.stream?.write(`${JSON.stringify(entry)}\n`);
  }

  close(): Promise<void> {
    return new Promise((resolve) => (this.stream ? this.stream.end(resolve) : resolve()));
  }
}
