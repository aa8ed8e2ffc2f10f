import type { Command } from 'commander';
import { addBackendOptions, addCommonOptions, addModelOption, parseCount } from '../common.ts';

export function fillMaskCommand(program: Command): void {
  const command = program
    .command('fill-mask')
    .description('fill the blanks, [MASK], in sentences')
    .argument('[sentences...]', "sentences with [MASK] in them; '-' reads lines from standard input")
    .option('--top-k <count>', 'words to show for each blank', parseCount, 5);
  addModelOption(addBackendOptions(addCommonOptions(command))).action(async () => {
    throw new Error('not written yet');
  });
}
