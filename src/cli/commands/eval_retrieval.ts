import type { Command } from 'commander';
import {
  addInferenceOptions,
  type InferenceOptions,
  notice,
  openDevice,
  openPipeline,
  print,
  printJson,
  sentenceModel,
} from '../common.ts';

interface Options extends InferenceOptions {
  data: string;
}

export function addRetrieval(command: Command): void {
  const retrieval = command
    .command('retrieval')
    .description("sentence embeddings: how well they find what is relevant to a query, on a task in BEIR's form")
    .requiredOption('--data <folder>', 'holds corpus.jsonl, queries.jsonl and qrels/test.tsv');
  addInferenceOptions(retrieval, sentenceModel).action(evaluate);
}

async function evaluate(options: Options): Promise<void> {
  const [{ evaluateRetrieval }, { retrievalPrompt }, { withProgress }] = await Promise.all([
    import('../../retrieval/evaluate.ts'),
    import('../../retrieval/prompt.ts'),
    import('../progress.ts'),
  ]);
  using device = await openDevice(options);
  using embed = await openPipeline('feature-extraction', device, options);
  const settings = { pooling: embed.pooling ?? ('mean' as const), normalize: true };
  const started = performance.now();
  const scores = await withProgress(options, (onProgress) =>
    evaluateRetrieval(options.data, {
      device,
      embed: (texts, side) => embed(texts, { ...settings, prompt_name: retrievalPrompt(embed.prompts, side) }),
      onProgress,
      onNotice: (line) => notice(line, options),
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  if (options.json) {
    printJson({ ...scores, seconds });
    return;
  }
  const { ndcgAt10, mrrAt10, recallAt100, queries, documents } = scores;
  print(`nDCG@10     ${ndcgAt10.toFixed(4)}`);
  print(`MRR@10      ${mrrAt10.toFixed(4)}`);
  print(`recall@100  ${recallAt100.toFixed(4)}`);
  print(`queries     ${queries}, among ${documents} documents; ${(documents / seconds).toFixed(0)} documents a second`);
}
