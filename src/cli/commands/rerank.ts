import type { Command } from 'commander';
import { InputError } from '../../errors.ts';
import { addInferenceOptions, type InferenceOptions, notice, openDevice, openPipeline, parseCount } from '../common.ts';
import { linesIn, printFound } from '../sentences.ts';

interface Options extends InferenceOptions {
  in: string;
  topK: number;
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
    .option('-k, --top-k <count>', 'lines to show', parseCount, 5);
  addInferenceOptions(command, 'a cross-encoder, a classifier of pairs with one output')
    .addHelpText(
      'after',
      '\nExample:\n  ufb rerank --model cross-encoder/ms-marco-MiniLM-L6-v2 --in found.txt "how many people live in Berlin"',
    )
    .action(rerank);
}

async function rerank(query: string, options: Options): Promise<void> {
  if (query.trim() === '') throw new InputError('the query is empty, expected what to look for');
  using device = await openDevice(options);
  using rank = await openPipeline('text-ranking', device, options);
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
  printFound(
    query,
    ranked.map(({ corpus_id, score, text }) => ({ line: numbers[corpus_id], score, text })),
    options,
  );
}
