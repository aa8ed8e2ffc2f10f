/** What is told of a served model. */
import type { ServedModel } from './served_model.ts';
import type { ServerSettings } from './settings.ts';

/** As text-embeddings-inference tells it, and whether the feedforward layers are trees. */
export function infoOf(model: ServedModel, settings: ServerSettings) {
  const { config, folder, dtype, id, name, maxLength } = model;
  return {
    model_id: id,
    // A folder of the hub's cache is named by the commit.
    model_sha: /snapshots[\\/]([\da-f]{40})(?:[\\/]|$)/.exec(folder)?.[1] ?? null,
    model_dtype: { f32: 'float32', bf16: 'bfloat16', i8: 'int8' }[dtype],
    served_model_name: name,
    model_type: typeOf(model),
    max_concurrent_requests: settings.maxConcurrentRequests,
    max_input_length: maxLength,
    max_batch_tokens: settings.maxBatchTokens,
    max_batch_requests: settings.maxBatchRequests ?? null,
    max_client_batch_size: settings.maxClientBatchSize,
    auto_truncate: settings.autoTruncate,
    tokenization_workers: 1,
    version: settings.version,
    server: { trees: config.feedforward.kind === 'fff' ? 'on' : 'off' },
  };
}

function typeOf(model: ServedModel) {
  if (model.kind === 'embedding') return { embedding: { pooling: model.pooling } };
  if (model.kind === 'fill_mask') return { fill_mask: { mask_token: model.fill.tokenizer.maskToken } };
  if (model.kind === 'decoder') return { decoder: {} };
  const { labels, config } = model.classify.model;
  const names = Array.from({ length: labels }, (_, index) => config.labelNames?.[index] ?? `LABEL_${index}`);
  return {
    [model.kind]: {
      id2label: Object.fromEntries(names.map((name, index) => [`${index}`, name])),
      label2id: Object.fromEntries(names.map((name, index) => [name, index])),
    },
  };
}
