import type { Command } from 'commander';
import type { Precision } from '../../backend/prepared_weight.ts';
import { InputError, printable } from '../../errors.ts';
import {
  addBackendOptions,
  addCommonOptions,
  addModelOption,
  addPrecisionOption,
  type BackendOptions,
  type CommonOptions,
  fixed,
  type ModelOptions,
  notice,
  openBackend,
  openModelFolder,
  parseCount,
  print,
  printJson,
  textsOf,
} from '../common.ts';

interface Options extends CommonOptions, BackendOptions, ModelOptions {
  topK: number;
  dtype: Precision;
}

export function classifyCommand(program: Command): void {
  const command = program
    .command('classify')
    .description('the class of each text')
    .argument('<texts...>', "texts; '-' reads them from standard input, one a line, a pair with a tab between")
    .option('--top-k <count>', 'classes to show for each text', parseCount, 1);
  addPrecisionOption(addModelOption(addBackendOptions(addCommonOptions(command)), 'a classifier'))
    .addHelpText('after', '\nExample:\n  ufb classify --model my-classifier "What a fine day."')
    .action(async (texts: string[], options: Options) => {
      const { pipeline } = await import('../../pipelines/pipeline.ts');
      using backend = await openBackend(options);
      const { dtype, topK } = options;
      using classify = await pipeline('text-classification', await openModelFolder(options), {
        backend,
        dtype,
        notice: (line) => notice(line, options),
      });
      const answers: { text: string; classes: { label: string; score: number }[] }[] = [];
      const waiting: string[] = [];
      async function* inputs() {
        let count = 0;
        for await (const line of textsOf(texts)) {
          count++;
          const [text, pair, ...more] = line.split('\t');
          if (more.length > 0)
            throw new InputError(`text ${count} has ${more.length + 1} tabs, expected one at most, between the two of a pair`);
          waiting.push(line);
          yield { text, text_pair: pair };
        }
      }
      for await (const classes of classify(inputs(), { top_k: topK })) {
        const text = waiting.shift() as string;
        if (options.json) answers.push({ text, classes });
        else print(`${classes.map(({ label, score }) => `${printable(label)} ${fixed(score, 4)}`).join('  ')}\t${text}`);
      }
      if (options.json) printJson({ answers });
    });
}
