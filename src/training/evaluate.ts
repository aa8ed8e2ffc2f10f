/** How well a masked language model predicts a text, beside what guessing without context gets. */

import { joinPath } from '#platform';
import type { Device } from '../backend/device.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import { FailureError, InputError, overflow } from '../errors.ts';
import { checkVocabulary, loadMaskedLanguageModel } from '../models/checkpoint.ts';
import { familyOf } from '../models/families/families.ts';
import { ignoredLabel, type LabeledBatch } from '../models/language_model.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import { Session } from '../models/session.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import { evaluationBatches } from './batches.ts';
import { compareLeaves, LeafCounts, type LeafUse, watchLeaves } from './leaf_use.ts';
import { maskingCounts } from './masking.ts';
import { packText } from './sequences.ts';

export interface MaskedLanguageModelScores {
  /** Mean cross entropy of the predicted tokens, nats. */
  loss: number;
  /**
   * `loss` times the text's tokens per UTF-8 byte: what the whole text would cost at this loss, nats per byte. Comparable between
   * tokenizers, where the loss per token is not.
   */
  lossPerByte: number;
  /** Share of the predicted tokens that the model ranks first, and among the first five. */
  top1: number;
  top5: number;
  /** Tokens of the text that were evaluated: whole sequences, the rest of the text left out. */
  tokens: number;
  /** How many of them were predicted. */
  predicted: number;
  /** Mean cross entropy of the same predicted tokens under the token frequencies of this very text, nats: what is known without any context. */
  unigramLoss: number;
  /** Share of the predicted tokens that are this text's most frequent token: the best that one constant guess can do. */
  mostFrequentTop1: number;
  /** With a dtype other than f32: of all tokens x layers x trees, the share whose leaf is not the one that the same model in f32 reaches. */
  changedPaths?: number;
  /** How the tokens spread over the leaves of each layer's trees; none without trees. */
  layers: LeafUse[];
}

export interface EvaluationOptions {
  device: Device;
  /** Model folder: config.json, model.safetensors, tokenizer.json. */
  model: string;
  /** Text file, plain or gzipped. */
  text: string;
  /** Of the masking. */
  seed: number;
  /** Only so much of the text. */
  maxTokens?: number;
  /** Tokens of a sequence, [CLS] and [SEP] of a BERT included; as many as the model has positions by default. */
  length?: number;
  /** Positions of each sequence that are predicted, each of them [MASK]; masked as in the model's training by default. */
  blanks?: number;
  /** Of products with weights, 'f32' by default. */
  dtype?: Precision;
  onProgress?(done: number, total: number): void;
  /** Is told, in one line, of what the tokenizer makes of the text: that it loses much, say. */
  onNotice?(line: string): void;
}

/** Sequences computed together; results do not depend on it. */
const sequencesPerBatch = 8;

/**
 * Packs a text as in pretraining, masks it by the seed and scores the model's predictions.
 * @throws InputError if the model or the text cannot be used
 */
export async function evaluateMaskedLanguageModel(options: EvaluationOptions): Promise<MaskedLanguageModelScores> {
  const { device } = options;
  const tokenizer = await loadTokenizer(options.model, options.onNotice);
  const { maskId } = tokenizer;
  if (maskId === undefined)
    throw new InputError(`${joinPath(options.model, 'tokenizer.json')}: has no [MASK] token, which masked language modeling needs`);
  const { dtype = 'f32' } = options;
  const model = await loadMaskedLanguageModel(options.model, device, { dtype });
  let exact: MaskedLanguageModel | undefined;
  try {
    if (dtype !== 'f32' && model.config.feedforward.kind === 'fff')
      exact = await loadMaskedLanguageModel(options.model, device, { dtype: 'f32' });
    const { maxPositionEmbeddings: positions, vocabSize: vocabularySize, mlmProbability: predictedFraction } = model.config;
    const { length = positions, blanks } = options;
    if (length > positions) throw new InputError(`--length ${length} is more than the ${positions} positions that ${options.model} has`);
    checkVocabulary(options.model, tokenizer, model.config);
    // BERT reads texts between [CLS] and [SEP]; crammedBERT was trained without.
    const around = familyOf(model.config).specialTokens ? specialIds(tokenizer, options.model) : undefined;
    const packed = around ? length - 2 : length;
    if (packed < 1 || (blanks ?? maskingCounts(packed, predictedFraction).predicted) === 0)
      throw new InputError(
        `--length ${length} is too short: ${100 * predictedFraction} % of a sequence are predicted, and that is no token; pass a longer one, or --blanks`,
      );
    if (blanks !== undefined && blanks > packed) throw new InputError(`--blanks ${blanks} is more than the ${packed} tokens of a sequence`);
    const count = options.maxTokens === undefined ? undefined : Math.floor(options.maxTokens / packed);
    if (count === 0) throw new InputError(`--max-tokens ${options.maxTokens} is less than one sequence of ${packed} tokens`);
    const { sequences, tokens, bytes } = await packText({
      path: options.text,
      tokenizer,
      length: packed,
      count,
      onNotice: options.onNotice,
    });
    if (sequences.length === 0)
      throw new InputError(tooShort(options, tokens, { packed, added: length - packed, share: predictedFraction }));
    const batches = evaluationBatches(sequences, { batch: sequencesPerBatch, length: packed }, options.seed, {
      maskId,
      vocabularySize,
      share: predictedFraction,
      blanks,
    });
    const predicted = batches.flatMap(({ labels }) => Array.from(labels.filter((label) => label >= 0)));
    const texts = around ? batches.map((batch) => between(batch, around)) : batches;
    const { loss, top1, top5, changedPaths, layers } = await scoreModel(options, model, exact, texts);
    return {
      loss,
      lossPerByte: (loss * tokens) / bytes,
      top1,
      top5,
      tokens: sequences.length,
      predicted: predicted.length,
      ...unigramScores(sequences, predicted),
      changedPaths,
      layers,
    };
  } finally {
    exact?.dispose();
    model.dispose();
  }
}

/** Of a text with fewer tokens than a sequence, what to do about it. */
function tooShort(
  { text, blanks = 0 }: EvaluationOptions,
  tokens: number,
  { packed, added, share }: { packed: number; added: number; share: number },
): string {
  const found = `${text}: has ${tokens} tokens, expected at least one sequence of ${packed}`;
  if (tokens === 0 || tokens < blanks) return found;
  const few = blanks === 0 && maskingCounts(tokens, share).predicted === 0;
  return `${found}: pass --length ${tokens + added} or less${few ? ', and --blanks 1, for the share that is predicted of so few is no token' : ''}`;
}

function specialIds({ clsId, sepId }: Tokenizer, folder: string): [first: number, last: number] {
  if (clsId === undefined || sepId === undefined)
    throw new InputError(`${folder}: its tokenizer has no ${clsId === undefined ? '[CLS]' : '[SEP]'}, which a BERT's texts stand between`);
  return [clsId, sepId];
}

/** A batch with an id put before each sequence and one behind it, which are not predicted. */
function between({ batch, length, ids, labels }: LabeledBatch, [first, last]: readonly [number, number]): LabeledBatch {
  const longer = length + 2;
  const wider = { batch, length: longer, ids: new Int32Array(batch * longer), labels: new Int32Array(batch * longer).fill(ignoredLabel) };
  for (let row = 0; row < batch; row++) {
    wider.ids[row * longer] = first;
    wider.ids[(row + 1) * longer - 1] = last;
    wider.ids.set(ids.subarray(row * length, (row + 1) * length), row * longer + 1);
    wider.labels.set(labels.subarray(row * length, (row + 1) * length), row * longer + 1);
  }
  return wider;
}

async function scoreModel(
  { device, text, onProgress }: EvaluationOptions,
  model: MaskedLanguageModel,
  exact: MaskedLanguageModel | undefined,
  batches: readonly LabeledBatch[],
) {
  using session = new Session(device);
  let total = 0;
  let first = 0;
  let firstFive = 0;
  let count = 0;
  const paths = { changed: 0, walks: 0 };
  const counts = new LeafCounts(model.config.feedforward);
  for (const [index, batch] of batches.entries()) {
    const [{ losses, ranks }, leaves] = await session.pass((context) => watchLeaves(context, (watched) => model.losses(watched, batch)));
    counts.add(leaves);
    if (exact) {
      const [, expected] = await session.pass((context) => watchLeaves(context, (watched) => exact.encoder.forward(watched, batch)));
      const { changed, walks } = compareLeaves(leaves, expected);
      paths.changed += changed;
      paths.walks += walks;
    }
    for (const loss of losses) total += loss;
    if (!Number.isFinite(total))
      throw new FailureError(
        `${text}, sequences ${index * sequencesPerBatch + 1} to ${index * sequencesPerBatch + batch.batch}: the model's loss is not finite: ${overflow}`,
      );
    for (const rank of ranks) {
      if (rank < 1) first++;
      if (rank < 5) firstFive++;
    }
    count += losses.length;
    onProgress?.(index + 1, batches.length);
  }
  const changedPaths = exact && paths.changed / paths.walks;
  return { loss: total / count, top1: first / count, top5: firstFive / count, changedPaths, layers: counts.uses };
}

/** What the frequencies in `tokens` alone predict of the labels. */
export function unigramScores(tokens: Int32Array, labels: readonly number[]): { unigramLoss: number; mostFrequentTop1: number } {
  const counts = new Map<number, number>();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  const [mostFrequent] = [...counts].reduce((a, b) => (b[1] > a[1] ? b : a));
  let loss = 0;
  let hits = 0;
  for (const label of labels) {
    loss -= Math.log((counts.get(label) as number) / tokens.length);
    if (label === mostFrequent) hits++;
  }
  return { unigramLoss: loss / labels.length, mostFrequentTop1: hits / labels.length };
}
