import { existsSync } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Precision } from '../../backend/prepared_weight.ts';
import { FailureError, InputError } from '../../errors.ts';
import {
  addBackendOptions,
  addCommonOptions,
  addModelOption,
  addPrecisionOption,
  type BackendOptions,
  type CommonOptions,
  type ModelOptions,
  notice,
  openBackend,
  openModelFolder,
  print,
  sentenceModel,
} from '../common.ts';

interface Options extends CommonOptions, BackendOptions, ModelOptions {
  in: string;
  out?: string;
  resume?: boolean;
  dtype: Precision;
}

export function embedCommand(program: Command): void {
  const command = program
    .command('embed')
    .description('the vector of each line of a text')
    .requiredOption('--in <file>', "text, plain or gzipped, one passage a line; '-' is standard input")
    .option('--out <file>', 'a matrix if it ends in .npy, else JSON lines; standard output, as JSON lines, if not given')
    .option('--resume', 'go on with an --out that was stopped');
  addPrecisionOption(addModelOption(addBackendOptions(addCommonOptions(command)), sentenceModel))
    .addHelpText('after', '\nExample:\n  ufb embed --model all-MiniLM-L6-v2 --in notes.txt --out notes.npy')
    .action(embed);
}

async function embed(options: Options): Promise<void> {
  const [{ pipeline }, { linesOf, readLines }, { ProgressBar }] = await Promise.all([
    import('../../pipelines/pipeline.ts'),
    import('../../io/files.ts'),
    import('../progress.ts'),
  ]);
  if (options.resume && options.out === undefined) throw new InputError('--resume goes on with a file: name it by --out');
  using backend = await openBackend(options);
  const { dtype } = options;
  using extract = await pipeline('feature-extraction', await openModelFolder(options), {
    backend,
    dtype,
    notice: (line) => notice(line, options),
  });
  const output = options.out === undefined ? undefined : await Output.open(options.out, extract.model.config.hiddenSize, options);
  const skipped = output?.rows ?? 0;

  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const bar = new ProgressBar(options, '{rate} lines/s  ');
  const total = options.in === '-' ? undefined : await countLines(readLines(options.in));
  const started = performance.now();
  let done = 0;
  async function* rest() {
    let line = 0;
    for await (const text of options.in === '-' ? linesOf(process.stdin, 'standard input') : readLines(options.in))
      if (line++ >= skipped) yield text;
    if (line < skipped) throw new InputError(`${options.in}: has ${line} lines, but ${options.out} already holds ${skipped}`);
  }
  try {
    const settings = { pooling: extract.pooling ?? ('mean' as const), signal: stop.signal };
    for await (const vector of extract(rest(), settings)) {
      if (output) await output.add(vector);
      else print(JSON.stringify(Array.from(vector)));
      done++;
      const seconds = (performance.now() - started) / 1000;
      if (total) bar.update((skipped + done) / total, seconds, { rate: Math.round(done / seconds) });
    }
    await output?.finish();
  } catch (error) {
    await output?.close();
    if (!stop.signal.aborted) throw error;
    throw new FailureError(`stopped after ${skipped + done} lines${output ? '; go on with --resume' : ''}`);
  } finally {
    bar.stop();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
  const seconds = (performance.now() - started) / 1000;
  if (output)
    notice(
      `${skipped + done} vectors of ${extract.model.config.hiddenSize} in ${options.out}, ${(done / seconds).toFixed(0)} lines/s`,
      options,
    );
}

async function countLines(lines: AsyncIterable<string>): Promise<number> {
  let count = 0;
  for await (const _ of lines) count++;
  return count;
}

/** Vectors in FILE.part, which becomes FILE when all are there. FILE.part.json says what they were made by, so that nothing else is added. */
class Output {
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly width: number,
    /** Vectors there. */
    public rows: number,
    private position: number,
    private readonly encode: typeof import('../../io/npy.ts'),
  ) {}

  static async open(path: string, width: number, options: Options): Promise<Output> {
    const encode = await import('../../io/npy.ts');
    const [part, madeBy] = [`${path}.part`, `${path}.part.json`];
    const now = JSON.stringify({ model: options.model, revision: options.revision, in: options.in, dtype: options.dtype, width });
    const started = existsSync(part) && existsSync(madeBy);
    if (started && !options.resume) throw new InputError(`${part} exists: go on with --resume, or remove it to begin anew`);
    const goesOn = started && options.resume === true;
    if (goesOn && (await readFile(madeBy, 'utf8')) !== now)
      throw new InputError(`${madeBy}: ${await readFile(madeBy, 'utf8')} is not what is asked for now, ${now}: remove it to begin anew`);
    try {
      if (!goesOn) await writeFile(madeBy, now);
      const file = await open(part, goesOn ? 'r+' : 'w');
      const isMatrix = path.endsWith('.npy');
      const [rows, position] = !goesOn
        ? [0, isMatrix ? encode.npyHeaderBytes : 0]
        : isMatrix
          ? await wholeRows(file, 4 * width, encode.npyHeaderBytes)
          : await wholeLines(part);
      await file.truncate(position);
      return new Output(path, file, width, rows, position, encode);
    } catch (error) {
      throw new InputError(`${part}: cannot write: ${(error as Error).message}`, { cause: error });
    }
  }

  async add(vector: Float32Array): Promise<void> {
    const bytes = this.path.endsWith('.npy')
      ? new Uint8Array(Float32Array.from(vector).buffer)
      : new TextEncoder().encode(`${JSON.stringify(Array.from(vector))}\n`);
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
    this.rows++;
    if (this.pendingBytes >= 2 ** 20) await this.flush();
  }

  async finish(): Promise<void> {
    await this.flush();
    if (this.path.endsWith('.npy')) await this.file.write(this.encode.npyHeader(this.rows, this.width), 0, this.encode.npyHeaderBytes, 0);
    await this.file.sync();
    await this.file.close();
    await rename(`${this.path}.part`, this.path);
    await rm(`${this.path}.part.json`, { force: true });
  }

  /** Keeps what is there for another time. */
  async close(): Promise<void> {
    await this.flush();
    await this.file.close();
  }

  private async flush(): Promise<void> {
    const bytes = Buffer.concat(this.pending);
    this.pending = [];
    this.pendingBytes = 0;
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.file.write(bytes, done, bytes.length - done, this.position);
      done += bytesWritten;
      this.position += bytesWritten;
    }
  }
}

/** Rows of a matrix that are complete, and where they end. */
async function wholeRows(file: FileHandle, rowBytes: number, start: number): Promise<[number, number]> {
  const { size } = await file.stat();
  const rows = Math.max(Math.floor((size - start) / rowBytes), 0);
  return [rows, start + rows * rowBytes];
}

/** The same of lines. */
async function wholeLines(path: string): Promise<[number, number]> {
  const bytes = await readFile(path);
  let [rows, end] = [0, 0];
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, end)) {
    rows++;
    end = at + 1;
  }
  return [rows, end];
}
