/** What a training command shows and logs while it works. */
import { createWriteStream, type WriteStream } from 'node:fs';
import { SingleBar } from 'cli-progress';
import { InputError } from '../errors.ts';

/** A progress bar on stderr with loss, tokens/s and time left; nothing without a terminal or with `quiet`. */
export class TrainingBar {
  private readonly bar: SingleBar | undefined;

  constructor(options: { quiet?: boolean }) {
    if (options.quiet || !process.stderr.isTTY) return;
    this.bar = new SingleBar({
      format: '{bar} {percent} %  step {step}  loss {loss}  {rate} tokens/s  {left} left',
      stream: process.stderr,
      hideCursor: true,
      barsize: 24,
      fps: 4,
      etaBuffer: 2,
      gracefulExit: false,
    });
    this.bar.start(1, 0, { percent: '0.0', step: 0, loss: '-', rate: '-', left: '-' });
  }

  /** `progress` in [0, 1], `seconds` spent since the progress was 0. */
  update(report: { progress: number; step: number; loss: number; tokensPerSecond: number; seconds: number }): void {
    const { progress, seconds } = report;
    this.bar?.update(progress, {
      percent: (progress * 100).toFixed(1),
      step: report.step,
      loss: report.loss.toFixed(3),
      rate: report.tokensPerSecond > 0 ? Math.round(report.tokensPerSecond) : '-',
      left: progress > 0 ? duration((seconds / progress) * (1 - progress)) : '-',
    });
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
