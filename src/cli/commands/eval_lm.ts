import type { Command } from 'commander';
import type { FrequencyScores } from '../../training/evaluate_causal.ts';
import {
  addInferenceOptions,
  fixed,
  type InferenceOptions,
  notice,
  openDevice,
  openModelFolder,
  parseCount,
  print,
  printJson,
} from '../common.ts';
import { table } from './bench_report.ts';

interface Options extends InferenceOptions {
  text: string;
  maxTokens?: number;
  length?: number;
  byFrequency?: boolean;
}

export function addLm(command: Command): void {
  const lm = command
    .command('lm')
    .description('predicting each next token: loss, bits a byte, accuracy and what guessing without context gets')
    .requiredOption('--text <file>', 'text that was not trained on, plain or gzipped: one paragraph a line, blank lines between documents')
    .option('--max-tokens <count>', 'only so much of the text', parseCount)
    .option('--length <tokens>', 'tokens a sequence (default: as many as the model has positions)', parseCount)
    .option('--by-frequency', 'also by how frequent tokens are in the text');
  addInferenceOptions(lm, 'a decoder, a GPT-2 say').action(async (options: Options) => {
    const [{ evaluateCausalLanguageModel }, { withProgress }] = await Promise.all([
      import('../../training/evaluate_causal.ts'),
      import('../progress.ts'),
    ]);
    const model = await openModelFolder(options);
    using device = await openDevice(options);
    const { byFrequency, ...scores } = await withProgress(options, (onProgress) =>
      evaluateCausalLanguageModel({ ...options, model, device, onProgress, onNotice: (line) => notice(line, options) }),
    );
    if (options.json) {
      printJson({ ...scores, ...(options.byFrequency && { byFrequency }) });
      return;
    }
    print(`loss                 ${scores.loss.toFixed(4)} nats a token, ${scores.bitsPerByte.toFixed(4)} bits a byte`);
    print(`top 1, top 5         ${percent(scores.top1)}, ${percent(scores.top5)}`);
    print(`unigram loss         ${scores.unigramLoss.toFixed(4)} nats (token frequencies of this text)`);
    print(`most frequent token  ${percent(scores.mostFrequentTop1)} top 1`);
    print(`tokens               ${scores.tokens}`);
    if (options.byFrequency) print(`\n${frequencyTable(byFrequency)}`);
    if (scores.layers.length > 0) print(`\n${(await import('../leaf_use_table.ts')).leafUseTable(scores.layers)}`);
  });
}

const percent = (share: number) => `${(share * 100).toFixed(1)} %`;

function frequencyTable(rows: readonly FrequencyScores[]): string {
  const all = rows.reduce((sum, { predicted }) => sum + predicted, 0);
  const oneIn = (share: number) => `1 in ${Math.round(1 / share)}`;
  const lines = rows.map(({ from, below, predicted, distinct, loss, top1 }) => {
    const range = from === 0 ? `rarer than ${oneIn(below)}` : `at least ${oneIn(from)}`;
    return [range, String(distinct), percent(predicted / all), fixed(loss, 4), percent(top1)];
  });
  return table([['frequency in the text', 'different', 'of all tokens', 'nats', 'top 1'], ...lines]);
}
