import { existsSync } from 'node:fs';
import { type FileHandle, open, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Command, Option } from 'commander';
import { makeFolder } from '#platform';
import type { Precision } from '../../backend/prepared_weight.ts';
import { FailureError, InputError } from '../../errors.ts';
import { kindOf } from '../../io/files.ts';
import { weightsIndex } from '../../io/model_files.ts';
import { type EmbeddingDtype, embeddingDtypes, noRangesError, quantizedWidth, toBinary } from '../../pipelines/quantization.ts';
import {
  addBackendOptions,
  addModelOption,
  addPrecisionOption,
  type BackendOptions,
  type CommonOptions,
  dimensionsHelp,
  type ModelOptions,
  notice,
  openBackend,
  openModelFolder,
  parseCount,
  print,
  sentenceModel,
} from '../common.ts';
import { checkOutput } from '../outputs.ts';
import { quantizeRows, rangesPath } from '../quantized_file.ts';
import { linesIn, Refusals } from '../sentences.ts';

interface Options extends CommonOptions, BackendOptions, ModelOptions {
  in: string;
  out?: string;
  resume?: boolean;
  prompt?: string;
  promptName?: string;
  dtype: Precision;
  embeddingDtype: EmbeddingDtype;
  dimensions?: number;
}

export function embedCommand(program: Command): void {
  const command = program
    .command('embed')
    .description('the vector of each line of a text')
    .requiredOption('--in <file>', "text, plain or gzipped, one passage a line; '-' is standard input")
    .option('--out <file>', 'a matrix if it ends in .npy, else JSON lines; standard output, as JSON lines, if not given')
    .option('--resume', 'go on with an --out that was stopped')
    .option('--dimensions <count>', dimensionsHelp, parseCount)
    .option('--prompt-name <name>', "put the model's prompt of this name before each line: 'query', 'document' and others")
    .option('--prompt <text>', 'put this text before each line')
    .addOption(
      new Option(
        '--embedding-dtype <type>',
        "of the vectors' numbers, as sentence-transformers quantizes them; i8: the range of each dimension, which goes into FILE.ranges.npy, in 256 steps; binary: signs, eight a number",
      )
        .choices(embeddingDtypes)
        .default('f32'),
    );
  addPrecisionOption(addModelOption(addBackendOptions(command), sentenceModel))
    .option('--quiet', 'print results only: no progress, no notices')
    .addHelpText('after', '\nExample:\n  ufb embed --model sentence-transformers/all-MiniLM-L6-v2 --in notes.txt --out notes.npy')
    .action(embed);
}

async function embed(options: Options): Promise<void> {
  const [{ pipeline }, { checkWritable, fileError, readLines }, { ProgressBar }] = await Promise.all([
    import('../../pipelines/pipeline.ts'),
    import('../../io/files.ts'),
    import('../progress.ts'),
  ]);
  if (options.resume && options.out === undefined) throw new InputError('--resume goes on with a file: name it by --out');
  if (options.embeddingDtype === 'i8' && !options.out?.endsWith('.npy'))
    throw new InputError('--embedding-dtype i8 needs all vectors before it can write one: name a file by --out that ends in .npy');
  const outputs =
    options.out === undefined
      ? []
      : [
          options.out,
          ...partEndings.map((ending) => `${options.out}${ending}`),
          ...(options.embeddingDtype === 'i8' ? [rangesPath(options.out)] : []),
        ];
  if (options.out !== undefined) await checkWritable(options.out);
  for (const path of outputs) await checkOutput('--out', path, { read: [options.in] });
  using backend = await openBackend(options);
  const { dtype } = options;
  const folder = await openModelFolder(options);
  using extract = await pipeline('feature-extraction', folder, {
    backend,
    dtype,
    prompt: options.prompt,
    prompt_name: options.promptName,
    notice: (line) => notice(line, options),
  });

  const stop = new AbortController();
  const onSignal = () => {
    stop.abort();
    // Else the line that is waited for, which may never come, would be waited for.
    if (options.in === '-') process.stdin.destroy();
  };
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const bar = new ProgressBar(options, '{rate} lines/s  ');
  const source = await sourceOf(options.in).catch((error) => Promise.reject(fileError(error, options.in, 'read')));
  // Read once more for the bar's sake alone.
  const isCounted = source !== '-' && process.stderr.isTTY && !options.quiet;
  const total = isCounted ? await countLines(readLines(options.in, 'cut'), stop.signal) : undefined;
  const { dimensions } = options;
  const width = dimensions ?? extract.width;
  const output =
    options.out === undefined ? undefined : await Output.open(options.out, width, await madeBy(options, source, folder, width), options);
  const skipped = output?.rows ?? 0;
  const started = performance.now();
  let done = 0;
  const refusals = new Refusals();
  const refused = new Set<number>();
  async function* rest() {
    let line = 0;
    for await (const text of linesIn(options.in, (message) => notice(message, options))) if (line++ >= skipped) yield text;
    if (line < skipped) throw new InputError(`${options.in}: has ${line} lines, but ${options.out} already holds ${skipped}`);
  }
  try {
    const add = async (vector: Float32Array) => {
      if (output) await output.add(vector);
      else print(JSON.stringify(Array.from(options.embeddingDtype === 'binary' ? toBinary(vector) : vector)));
      done++;
    };
    /** Each line has its row: that of one that cannot be taken is of zeros. */
    const fillUp = async () => {
      while (refused.delete(done)) await add(new Float32Array(width));
    };
    const refused_callback = (error: InputError, index: number) => {
      refused.add(index);
      refusals.add(`${options.in === '-' ? 'standard input' : options.in}, line ${skipped + index + 1}, whose vector is zeros`, error);
    };
    const settings = { pooling: extract.pooling ?? ('mean' as const), dimensions, signal: stop.signal, refused_callback };
    for await (const vector of extract(rest(), settings)) {
      await fillUp();
      await add(vector);
      const seconds = (performance.now() - started) / 1000;
      if (total) bar.update((skipped + done) / total, seconds, { rate: Math.round(done / seconds) });
    }
    await fillUp();
    await output?.finish();
  } catch (error) {
    await output?.close();
    if (!stop.signal.aborted) throw error;
    throw new FailureError(`stopped after ${skipped + done} lines${output && output.rows > 0 ? '; go on with --resume' : ''}`);
  } finally {
    bar.stop();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
  const seconds = (performance.now() - started) / 1000;
  if (output) notice(`${skipped + done} vectors of ${width} in ${options.out}, ${(done / seconds).toFixed(0)} lines/s`, options);
  refusals.finish(done - refusals.list.length, options);
}

async function countLines(lines: AsyncIterable<string>, signal: AbortSignal): Promise<number> {
  let count = 0;
  for await (const _ of lines) {
    if (signal.aborted) break;
    count++;
  }
  return count;
}

const partEndings = ['.part', '.part.json'];

/** Vectors in FILE.part, which becomes FILE when all are there. FILE.part.json says what they were made by, so that nothing else is added. */
class Output {
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly width: number,
    private readonly dtype: EmbeddingDtype,
    /** Vectors there. */
    public rows: number,
    private position: number,
    private readonly encode: typeof import('../../io/npy.ts'),
  ) {}

  /** `now`: by what the vectors are made. */
  static async open(path: string, width: number, now: string, options: Options): Promise<Output> {
    const [encode, { fileError }] = await Promise.all([import('../../io/npy.ts'), import('../../io/files.ts')]);
    const [part, madeBy] = partEndings.map((ending) => `${path}${ending}`);
    const started = existsSync(part) && existsSync(madeBy);
    for (const name of started ? [] : [part, madeBy].filter((each) => existsSync(each))) {
      // What a crash leaves before anything was written, or after all was.
      const isOwn =
        name === part ? (await stat(name)).size === 0 : ['', now].includes(await readFile(name, 'utf8').catch(() => 'a folder, say'));
      if (!isOwn) throw new InputError(`${name} exists, and is not what was left of vectors here: remove it, or name another --out`);
      await rm(name);
    }
    if (started && !options.resume) throw new InputError(`${part} exists: go on with --resume, or remove it to begin anew`);
    const goesOn = started && options.resume === true;
    if (goesOn && (await readFile(madeBy, 'utf8')) !== now)
      throw new InputError(`${madeBy}: ${await readFile(madeBy, 'utf8')} is not what is asked for now, ${now}: remove it to begin anew`);
    if (options.resume && !started && existsSync(path)) throw new InputError(`${path}: is finished; leave out --resume to make it anew`);
    try {
      await makeFolder(dirname(path));
      const file = await open(part, goesOn ? 'r+' : 'wx+');
      if (!goesOn) await writeFile(madeBy, now, { flag: 'wx' });
      const isMatrix = path.endsWith('.npy');
      const [rows, position] = !goesOn
        ? [0, isMatrix ? encode.npyHeaderBytes : 0]
        : isMatrix
          ? await wholeRows(file, options.embeddingDtype === 'binary' ? quantizedWidth(width, 'binary') : 4 * width, encode.npyHeaderBytes)
          : await wholeLines(file);
      await file.truncate(position);
      return new Output(path, file, width, options.embeddingDtype, rows, position, encode);
    } catch (error) {
      throw fileError(error, part, 'write');
    }
  }

  async add(vector: Float32Array): Promise<void> {
    // i8 waits for the ranges, which the last vector may widen.
    const values = this.dtype === 'binary' ? toBinary(vector) : Float32Array.from(vector);
    const bytes = this.path.endsWith('.npy')
      ? new Uint8Array(values.buffer)
      : new TextEncoder().encode(`${JSON.stringify(Array.from(values))}\n`);
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
    this.rows++;
    if (this.pendingBytes >= 2 ** 20) await this.flush();
  }

  async finish(): Promise<void> {
    if (this.dtype === 'i8' && this.rows === 1) {
      this.rows = 0; // it is not kept for another time
      throw noRangesError();
    }
    await this.flush();
    const { npyHeader, npyHeaderBytes } = this.encode;
    const [columns, type] = this.dtype === 'binary' ? [quantizedWidth(this.width, 'binary'), '|i1' as const] : [this.width, '<f4' as const];
    try {
      if (this.path.endsWith('.npy')) await this.file.write(npyHeader(this.rows, columns, type), 0, npyHeaderBytes, 0);
      await this.file.sync();
    } catch (error) {
      throw await this.inWords(error);
    }
    if (this.dtype === 'i8') {
      // The part stays until what is made of it is whole.
      await quantizeRows(this.file, { rows: this.rows, width: this.width }, this.path);
      await this.file.close();
      await rm(`${this.path}.part`);
    } else {
      await this.file.close();
      await rename(`${this.path}.part`, this.path);
    }
    await rm(`${this.path}.part.json`, { force: true });
  }

  /** Keeps what is there for another time; nothing, if there is nothing. */
  async close(): Promise<void> {
    await this.flush();
    await this.file.close();
    if (this.rows > 0) return;
    for (const ending of partEndings) await rm(`${this.path}${ending}`, { force: true });
  }

  private async flush(): Promise<void> {
    const bytes = Buffer.concat(this.pending);
    this.pending = [];
    this.pendingBytes = 0;
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await this.file.write(bytes, done, bytes.length - done, this.position);
        done += bytesWritten;
        this.position += bytesWritten;
      }
    } catch (error) {
      throw await this.inWords(error);
    }
  }

  /** An error of the system, which does not name the file of a handle. */
  private async inWords(error: unknown): Promise<unknown> {
    return (await import('../../io/files.ts')).fileError(error, `${this.path}.part`, 'write');
  }
}

/** Rows of a matrix that are complete, and where they end. */
async function wholeRows(file: FileHandle, rowBytes: number, start: number): Promise<[number, number]> {
  const { size } = await file.stat();
  const rows = Math.max(Math.floor((size - start) / rowBytes), 0);
  return [rows, start + rows * rowBytes];
}

/** The same of lines. */
async function wholeLines(file: FileHandle): Promise<[number, number]> {
  const block = new Uint8Array(2 ** 20);
  let [rows, end] = [0, 0];
  for (let start = 0; ; ) {
    const { bytesRead } = await file.read(block, 0, block.length, start);
    if (bytesRead === 0) return [rows, end];
    for (let at = block.indexOf(10); at >= 0 && at < bytesRead; at = block.indexOf(10, at + 1)) {
      rows++;
      end = start + at + 1;
    }
    start += bytesRead;
  }
}

async function stateOf(path: string) {
  const { size, mtimeMs } = await stat(path);
  return { path: await realpath(path), size, mtimeMs };
}

/** Which file a text is; '-': a stream, which can be read but once, be it standard input or what a shell makes of <(...). */
async function sourceOf(path: string) {
  return path === '-' || (await kindOf(path)) === 'other' ? '-' : await stateOf(path);
}

/** What vectors are made by and of: none made otherwise are added to them. */
async function madeBy(
  { dtype, embeddingDtype, prompt, promptName }: Options,
  text: Awaited<ReturnType<typeof sourceOf>>,
  folder: string,
  width: number,
): Promise<string> {
  const weights = join(folder, 'model.safetensors');
  const model = await stateOf(existsSync(weights) ? weights : join(folder, weightsIndex));
  return JSON.stringify({ model, in: text, dtype, width, prompt, promptName, ...(embeddingDtype !== 'f32' && { embeddingDtype }) });
}
