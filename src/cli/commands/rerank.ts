import type { Command } from 'commander';
import type { Precision } from '../../backend/prepared_weight.ts';
import { InputError } from '../../errors.ts';
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
  parseCount,
  print,
  printJson,
} from '../common.ts';
import { linesIn } from '../sentences.ts';

interface Options extends CommonOptions, BackendOptions, ModelOptions {
  in: string;
  topK: number;
  dtype: Precision;
}

export function rerankCommand(program: Command): void {
  const command = program
    .command('rerank')
    .description('the lines of a file that best answer a query, by a model that reads each together with it')
    .argument('<query>', 'what to look for')
    .requiredOption(
      '--in <file>',
      "text, plain or gzipped, one passage a line; '-' is standard input; blank lines count but are never found",
    )
    .option('--top-k <count>', 'lines to show', parseCount, 5);
  addPrecisionOption(addModelOption(addBackendOptions(addCommonOptions(command)), 'a cross-encoder, a classifier of pairs with one output'))
    .addHelpText(
      'after',
      '\nExample:\n  ufb rerank --model cross-encoder/ms-marco-MiniLM-L6-v2 --in found.txt "how many people live in Berlin"',
    )
    .action(rerank);
}

async function rerank(query: string, options: Options): Promise<void> {
  if (query.trim() === '') throw new InputError('the query is empty, expected what to look for');
  const { pipeline } = await import('../../pipelines/pipeline.ts');
  using backend = await openBackend(options);
  using rank = await pipeline('text-ranking', await openModelFolder(options), {
    backend,
    dtype: options.dtype,
    notice: (line) => notice(line, options),
  });
  /** The number of each line that is not blank. */
  const numbers: number[] = [];
  async function* passages() {
    let line = 0;
    for await (const text of linesIn(options.in, (line) => notice(line, options))) {
      line++;
      if (text.trim() === '') continue;
      numbers.push(line);
      yield text;
    }
  }
  const ranked = await rank(query, passages(), { top_k: options.topK });
  const source = options.in === '-' ? 'standard input' : options.in;
  if (ranked.length === 0) throw new InputError(`${source}: is empty, expected passages, one a line`);
  const found = ranked.map(({ corpus_id, score, text }) => ({ line: numbers[corpus_id], score, text }));
  if (options.json) printJson({ query, found });
  else for (const { line, score, text } of found) print(`${score.toFixed(4)}  ${String(line).padStart(6)}  ${text}`);
}
