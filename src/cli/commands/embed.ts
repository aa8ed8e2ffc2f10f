import { existsSync } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { type Command, Option } from 'commander';
import type { Precision } from '../../backend/prepared_weight.ts';
import { FailureError, InputError } from '../../errors.ts';
import { filesAmong, kindOf } from '../../io/files.ts';
import { modelFiles, textSettingsFiles, tokenizerFiles, vocabularyFile, weightsIndex } from '../../io/model_files.ts';
import { sentenceFilesOf, transformerFolder } from '../../io/sentence_folder.ts';
import { type EmbeddingDtype, embeddingDtypes, toBinary } from '../../pipelines/quantization.ts';
import {
  addDeviceOptions,
  addModelOption,
  addPrecisionOption,
  type CommonOptions,
  type DeviceOptions,
  dimensionsHelp,
  type ModelOptions,
  notice,
  openDevice,
  openModelFolder,
  parseCount,
  print,
  sentenceModel,
} from '../common.ts';
import { checkOutput } from '../outputs.ts';
import { rangesPath } from '../quantized_file.ts';
import { linesIn, Refusals } from '../sentences.ts';
import { partEndings, VectorFile } from '../vector_file.ts';

interface Options extends CommonOptions, DeviceOptions, ModelOptions {
  in: string;
  column?: string;
  shard?: string;
  merge?: boolean;
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
    .option('--in <file>', "text, plain or gzipped, one passage a line; '-' is standard input; or a column of a file that ends in .parquet")
    .option('--column <name>', "of a Parquet --in (default: 'text', or its only column of texts)")
    .option(
      '-o, --out <file>',
      "a matrix if it ends in .npy, a column 'embedding' if in .parquet, else JSON lines; standard output, as JSON lines, if not given",
    )
    .option(
      '--shard <part>',
      'embed part I/N of the lines, I from 0, into a file of its own beside --out, and go on if it was stopped; N alone: I is JOB_COMPLETION_INDEX (Kubernetes) or SLURM_ARRAY_TASK_ID',
    )
    .option('--merge', 'put the parts of --out together, and embed nothing')
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
  addPrecisionOption(addModelOption(addDeviceOptions(command), sentenceModel, { mandatory: false }))
    .option('-q, --quiet', 'print results only: no progress, no notices')
    .addHelpText('after', '\nExample:\n  ufb embed --model sentence-transformers/all-MiniLM-L6-v2 --in notes.txt --out notes.npy')
    .action((options: Options) => (options.merge ? merge(options) : embed(options)));
}

async function merge(options: Options): Promise<void> {
  if (options.out === undefined) throw new InputError('--merge puts the parts of a file together: name it by --out');
  for (const name of ['in', 'model', 'shard', 'resume'] as const)
    if (options[name] !== undefined) throw new InputError(`--${name} is given with --merge, which embeds nothing`);
  const { mergeShards } = await import('../shards.ts');
  const rows = await mergeShards(options.out);
  notice(`${rows} vectors in ${options.out}`, options);
}

async function embed(given: Options): Promise<void> {
  for (const name of ['in', 'model'] as const)
    if (given[name] === undefined) throw new InputError(`required option '--${name} <${name === 'in' ? 'file' : 'model'}>' not specified`);
  const { shard, ...options } = await ofShard(given);
  if (shard && options.out !== undefined && !options.resume && existsSync(options.out)) {
    notice(`${options.out} is finished: remove it to make it anew`, options);
    return;
  }
  const [{ pipeline }, { checkWritable, fileError }, { ProgressBar }] = await Promise.all([
    import('../../pipelines/pipeline.ts'),
    import('../../io/files.ts'),
    import('../progress.ts'),
  ]);
  if (options.resume && options.out === undefined) throw new InputError('--resume goes on with a file: name it by --out');
  if (options.out?.endsWith('.parquet') && options.embeddingDtype !== 'f32')
    throw new InputError(
      `--embedding-dtype ${options.embeddingDtype}: Parquet holds vectors of f32 here, expected an --out that ends in .npy`,
    );
  if (options.column !== undefined && !options.in.endsWith('.parquet'))
    throw new InputError(`--column ${options.column}: ${options.in} is no Parquet file, which has columns`);
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
  using device = await openDevice(options);
  const { dtype } = options;
  const folder = await openModelFolder(options, true);
  using extract = await pipeline('feature-extraction', folder, {
    device,
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
  const lines = (told?: (message: string) => void) => linesOfInput(options, told);
  const all = isCounted ? await countLines(lines(), stop.signal) : undefined;
  const total = all && Math.ceil((all - (shard?.index ?? 0)) / (shard?.count ?? 1));
  const { dimensions } = options;
  const width = dimensions ?? extract.width;
  const output =
    options.out === undefined
      ? undefined
      : await VectorFile.open(options.out, {
          width,
          dtype: options.embeddingDtype,
          resume: options.resume,
          madeBy: await madeBy(options, source, folder, width),
        });
  const skipped = output?.rows ?? 0;
  const started = performance.now();
  let done = 0;
  /** Which line a row is of, from 0. */
  const lineOf = (row: number) => (shard ? row * shard.count + shard.index : row);
  const refusals = new Refusals();
  const refused = new Set<number>();
  async function* rest() {
    let [line, own] = [0, 0];
    for await (const text of lines((message) => notice(message, options))) {
      const isOwn = !shard || line % shard.count === shard.index;
      line++;
      if (isOwn && own++ >= skipped) yield text;
    }
    if (own < skipped) throw new InputError(`${options.in}: has ${own} lines, but ${options.out} already holds ${skipped}`);
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
      refusals.add(
        `${options.in === '-' ? 'standard input' : options.in}, line ${lineOf(skipped + index) + 1}, whose vector is zeros`,
        error,
      );
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

/** With --shard, the file of the part, and whether it is to be gone on with. */
async function ofShard(options: Options): Promise<Omit<Options, 'shard'> & { shard?: import('../shards.ts').Shard }> {
  const { shard: part, ...others } = options;
  if (part === undefined) return others;
  const { parseShard, shardPath } = await import('../shards.ts');
  const shard = parseShard(part, process.env);
  if (options.out === undefined) throw new InputError('--shard makes a file of each part: name the whole by --out');
  if (options.embeddingDtype !== 'f32')
    throw new InputError(`--embedding-dtype ${options.embeddingDtype} with --shard: parts are of f32, expected no such option`);
  if (options.in === '-') throw new InputError('--shard reads the text once for each part: name a file by --in');
  const out = shardPath(options.out, shard);
  return { ...others, shard, out, resume: options.resume || existsSync(`${out}.part.json`) || undefined };
}

async function* linesOfInput(
  { in: path, column }: Pick<Options, 'in' | 'column'>,
  told?: (message: string) => void,
): AsyncGenerator<string> {
  if (!path.endsWith('.parquet')) yield* linesIn(path, told);
  else yield* (await import('../parquet.ts')).parquetTexts(path, column);
}

async function countLines(lines: AsyncIterable<string>, signal: AbortSignal): Promise<number> {
  let count = 0;
  for await (const _ of lines) {
    if (signal.aborted) break;
    count++;
  }
  return count;
}

async function stateOf(path: string) {
  const { size, mtimeMs } = await stat(path);
  return { path: await realpath(path), size, mtimeMs };
}

/** Which file a text is; '-': a stream, which can be read but once, be it standard input or what a shell makes of <(...). */
async function sourceOf(path: string) {
  return path === '-' || (await kindOf(path)) === 'other' ? '-' : await stateOf(path);
}

/** What vectors are made by and of, by the options' names. */
async function madeBy(
  { column, dtype, embeddingDtype, prompt, promptName, dimensions }: Omit<Options, 'shard'>,
  text: Awaited<ReturnType<typeof sourceOf>>,
  folder: string,
  width: number,
): Promise<Record<string, unknown>> {
  const names = [...modelFiles, weightsIndex, vocabularyFile, ...tokenizerFiles];
  // By their paths below the model's folder.
  const own = relative(folder, await transformerFolder(folder));
  const ofModel = [...names, ...textSettingsFiles].map((name) => join(own, name));
  const files = new Set([...(await filesAmong(folder, ofModel)), ...(await sentenceFilesOf(folder))]);
  const states = await Promise.all([...files].map(async (name) => [name, await stateOf(join(folder, name))] as const));
  return {
    '--model': Object.fromEntries(states),
    '--in': text,
    '--column': column,
    '--dtype': dtype,
    width,
    '--dimensions': dimensions,
    '--prompt': prompt,
    '--prompt-name': promptName,
    '--embedding-dtype': embeddingDtype,
  };
}
