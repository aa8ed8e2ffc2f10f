/** A model that is served: its pipeline, by what it is for. */
import type { Device } from '../backend/device.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import { InputError } from '../errors.ts';
import { readTask } from '../models/checkpoint.ts';
import type { ModelConfig } from '../models/config.ts';
import type { FeatureExtractionPipeline } from '../pipelines/feature_extraction.ts';
import type { FillMaskPipeline } from '../pipelines/fill_mask.ts';
import { type PipelineOptions, pipeline } from '../pipelines/pipeline.ts';
import type { Poolings } from '../pipelines/pooling.ts';
import { readSentenceModules } from '../pipelines/sentence_transformer.ts';
import type { TextClassificationPipeline } from '../pipelines/text_classification.ts';
import type { TextGenerationPipeline } from '../pipelines/text_generation.ts';
import { isNoticeOfCut } from '../pipelines/text_pipeline.ts';
import { TextRankingPipeline } from '../pipelines/text_ranking.ts';
import type { Log } from './log.ts';

/** What a model is asked for under. */
export interface ModelSettings {
  /** Its name in requests and answers. */
  name: string;
  /** What it was opened by: OWNER/NAME of the hub, or a folder. */
  id: string;
  folder: string;
  dtype: Precision;
  /** How token vectors become one; without it what the folder says. */
  pooling?: Poolings;
  prompt?: string;
  prompt_name?: string;
}

interface Embedding {
  kind: 'embedding';
  extract: FeatureExtractionPipeline;
  pooling: Poolings;
}
interface Classifier {
  kind: 'classifier';
  classify: TextClassificationPipeline;
}
/** Has one output, the score of a pair. */
interface Reranker {
  kind: 'reranker';
  classify: TextClassificationPipeline;
  rank: TextRankingPipeline;
}
interface FillMask {
  kind: 'fill_mask';
  fill: FillMaskPipeline;
}
interface Decoder {
  kind: 'decoder';
  generate: TextGenerationPipeline;
}
type Served = Embedding | Classifier | Reranker | FillMask | Decoder;
export type ModelKind = Served['kind'];

export type ServedModel = ModelSettings & Served & { config: ModelConfig; maxLength: number };
export type ModelOf<Kind extends ModelKind> = ModelSettings & { config: ModelConfig; maxLength: number } & Extract<Served, { kind: Kind }>;

/** Opens a model for what its folder says that it is for; with a `pooling` for vectors. @throws InputError as {@link pipeline} */
export async function openServed(
  settings: ModelSettings,
  { device, log, ...shared }: { device: Device; log: Log } & Pick<PipelineOptions, 'batching' | 'signal'>,
): Promise<ServedModel> {
  const { folder, dtype, prompt, prompt_name, name } = settings;
  const notice = (line: string) => {
    // Requests are what it would tell of: texts that were cut are counted by the metrics.
    if (!isNoticeOfCut(line) && !/ positions, before as many tokens/.test(line)) log('warn', line, { model: name });
  };
  const options = { ...shared, device, dtype, notice };
  const prompts = { prompt, prompt_name };
  const modules = await readSentenceModules(folder);
  const task = settings.pooling || modules ? 'encoder' : await readTask(folder);
  if (task === 'encoder') {
    const extract = await pipeline('feature-extraction', folder, { ...options, ...prompts });
    const pooling = settings.pooling ?? modules?.pooling ?? 'mean';
    return { ...settings, kind: 'embedding', extract, pooling, config: extract.model.config, maxLength: extract.maxLength };
  }
  if (task === 'sequence-classification') {
    const classify = await pipeline('text-classification', folder, { ...options, ...prompts });
    const { config } = classify.model;
    const opened = { ...settings, classify, config, maxLength: classify.maxLength };
    if (classify.model.labels !== 1 || config.problemType === 'regression') return { ...opened, kind: 'classifier' };
    return { ...opened, kind: 'reranker', rank: new TextRankingPipeline(classify, folder, notice) };
  }
  if (prompt !== undefined || prompt_name !== undefined)
    throw new InputError(
      `${settings.id}: neither embeds nor classifies, and no prompt is put before other texts, expected a model that embeds or classifies`,
    );
  if (task === 'causal-lm') {
    const { batching: _, ...own } = options;
    const generate = await pipeline('text-generation', folder, own);
    const { config } = generate.model;
    return { ...settings, kind: 'decoder', generate, config, maxLength: config.maxPositionEmbeddings };
  }
  const fill = await pipeline('fill-mask', folder, options);
  const { config } = fill.model;
  return { ...settings, kind: 'fill_mask', fill, config, maxLength: config.maxPositionEmbeddings };
}

/** What answers a model's texts. */
export function pipelineOf(model: ServedModel) {
  switch (model.kind) {
    case 'embedding':
      return model.extract;
    case 'fill_mask':
      return model.fill;
    case 'decoder':
      return model.generate;
    default:
      return model.classify;
  }
}

/**
 * Passes of every size that will come, so that no request is the first of its kind: a short text, a long one, and as many long ones as a batch holds.
 * Memory is at its height from then on.
 */
export async function warmUp(model: ServedModel, batchTokens: number): Promise<void> {
  if (model.kind === 'decoder') {
    await model.generate('a', { max_new_tokens: 2 });
    return;
  }
  const count = Math.max(Math.floor(batchTokens / model.maxLength), 1);
  const { tokenizer } = pipelineOf(model);
  const [special, ofWord] = [tokenizer.encode('').ids.length, Math.max(tokenizer.encodeIds('a').length, 1)];
  const words = Math.max(Math.floor((model.maxLength - special - 1) / ofWord), 1);
  const [short, long] = ['a', new Array(words).fill('a').join(' ')];
  for (const texts of [[short], [long], new Array<string>(count).fill(long)]) {
    if (model.kind === 'embedding') await model.extract(texts, { pooling: model.pooling });
    else if (model.kind === 'fill_mask') await model.fill(texts.map((text) => `${tokenizer.maskToken} ${text}`));
    else await model.classify(texts);
  }
}
