import type { Command } from 'commander';
import { InputError } from '../../errors.ts';
import {
  addInferenceOptions,
  dimensionsHelp,
  type InferenceOptions,
  notice,
  openDevice,
  openPipeline,
  parseCount,
  sentenceModel,
} from '../common.ts';
import { type Found, linesIn, printFound } from '../sentences.ts';

interface Options extends InferenceOptions {
  in: string;
  vectors?: string;
  topK: number;
  dimensions?: number;
}

export function similarCommand(program: Command): void {
  const command = program
    .command('similar')
    .description('the lines of a file that are nearest to a query, by the cosine of their embeddings')
    .argument('<query>', 'what to look for')
    .requiredOption(
      '--in <file>',
      "text, plain or gzipped, one passage a line, '-' is standard input; blank lines count but are never found",
    )
    .option('--vectors <file>', "the lines' vectors, made by 'ufb embed --out FILE.npy' with the same model; otherwise they are made now")
    .option('--dimensions <count>', dimensionsHelp, parseCount)
    .option('-k, --top-k <count>', 'lines to show', parseCount, 5);
  addInferenceOptions(command, sentenceModel)
    .addHelpText('after', '\nExample:\n  ufb similar --model sentence-transformers/all-MiniLM-L6-v2 --in notes.txt "what to cook tonight"')
    .action(async (query: string, options: Options) => {
      if (query.trim() === '') throw new InputError('the query is empty, expected what to look for');
      const { retrievalPrompt } = await import('../../retrieval/prompt.ts');
      using device = await openDevice(options);
      const { topK } = options;
      using embed = await openPipeline('feature-extraction', device, options);
      const settings = { pooling: embed.pooling ?? ('mean' as const), normalize: true, dimensions: options.dimensions };
      const of = (side: 'query' | 'document') => ({ ...settings, prompt_name: retrievalPrompt(embed.prompts, side) });
      const { data: wanted } = await embed(query, of('query'));

      const best: Found[] = [];
      let line = 0;
      const consider = (text: string, vector: Float32Array) => {
        line++;
        if (text.trim() === '') return;
        const length = Math.hypot(...vector) || 1;
        const found = { line, score: vector.reduce((sum, value, i) => sum + value * wanted[i], 0) / length, text };
        if (!Number.isFinite(found.score))
          throw new InputError(`${options.vectors ?? options.in}: the vector of line ${line} is not of finite numbers, expected such`);
        const place = best.findIndex(({ score }) => score < found.score);
        best.splice(place < 0 ? best.length : place, 0, found);
        if (best.length > topK) best.pop();
      };
      if (options.vectors === undefined) {
        const texts: string[] = [];
        async function* lines() {
          for await (const text of linesIn(options.in, (line) => notice(line, options))) {
            texts.push(text);
            yield text;
          }
        }
        for await (const vector of embed(lines(), of('document'))) consider(texts.shift() as string, vector);
      } else {
        const vectors = await readVectors(options.vectors, wanted.length);
        for await (const text of linesIn(options.in, (line) => notice(line, options))) {
          if (line === vectors.count)
            throw new InputError(`${options.vectors}: has ${vectors.count} vectors, but ${options.in} has more lines`);
          consider(text, vectors.vector(line));
        }
        if (line < vectors.count)
          throw new InputError(`${options.vectors}: has ${vectors.count} vectors, but ${options.in} has ${line} lines`);
      }
      printFound(query, best, options);
    });
}

/** A file's vectors, of f32, or of what `ufb embed --embedding-dtype` makes of it. */
async function readVectors(path: string, width: number): Promise<{ count: number; vector(row: number): Float32Array }> {
  const [{ readBytes }, { parseNpy }, { readRanges }, quantization] = await Promise.all([
    import('../../io/files.ts'),
    import('../../io/npy.ts'),
    import('../quantized_file.ts'),
    import('../../pipelines/quantization.ts'),
  ]);
  const { rows: count, columns, values } = parseNpy(await readBytes(path, 2 ** 32), path);
  const isFloat = values instanceof Float32Array;
  if (!isFloat && columns === quantization.quantizedWidth(width, 'binary'))
    return { count, vector: (row) => quantization.fromBinary(values.subarray(row * columns, (row + 1) * columns), width) };
  if (columns !== width) {
    const expected = isFloat ? `${width}` : `${width}, or of ${quantization.quantizedWidth(width, 'binary')} with signs alone`;
    throw new InputError(`${path}: has vectors of ${columns} numbers, but the model gives such of ${expected}`);
  }
  if (isFloat) return { count, vector: (row) => values.subarray(row * width, (row + 1) * width) };
  const restore = quantization.fromI8(await readRanges(path, width));
  return { count, vector: (row) => restore(values.subarray(row * width, (row + 1) * width)) };
}
