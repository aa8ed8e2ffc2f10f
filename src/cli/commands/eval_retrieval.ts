import type { Command } from 'commander';
import type { Precision } from '../../backend/prepared_weight.ts';
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
  printJson,
  sentenceModel,
} from '../common.ts';

interface Options extends BackendOptions, CommonOptions, ModelOptions {
  data: string;
  dtype: Precision;
}

export function addRetrieval(command: Command): void {
  const retrieval = command
    .command('retrieval')
    .description("sentence embeddings: how well they find what is relevant to a query, on a task in BEIR's form")
    .requiredOption('--data <folder>', 'holds corpus.jsonl, queries.jsonl and qrels/test.tsv');
  addPrecisionOption(addBackendOptions(addCommonOptions(addModelOption(retrieval, sentenceModel)))).action(evaluate);
}

async function evaluate(options: Options): Promise<void> {
  const [{ evaluateRetrieval }, { pipeline }, { withProgress }] = await Promise.all([
    import('../../retrieval/evaluate.ts'),
    import('../../pipelines/pipeline.ts'),
    import('../progress.ts'),
  ]);
  using backend = await openBackend(options);
  // Most long documents are cut; that is as it should be, and is told once, not for each batch.
  let told = false;
  using embed = await pipeline('feature-extraction', await openModelFolder(options), {
    backend,
    dtype: options.dtype,
    notice() {
      if (!told) notice(`texts of more than ${embed.maxLength} tokens are cut`, options);
      told = true;
    },
  });
  const settings = { pooling: embed.pooling ?? ('mean' as const), normalize: true };
  const started = performance.now();
  const scores = await withProgress(options, (onProgress) =>
    evaluateRetrieval(options.data, {
      backend,
      embed: (texts) => embed(texts, settings),
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
