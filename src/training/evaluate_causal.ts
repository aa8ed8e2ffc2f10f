/** How well a model that writes predicts a text, token by token, beside what guessing without context gets. */
import { joinPath } from '#platform';
import type { Device } from '../backend/device.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import { FailureError, InputError, overflow } from '../errors.ts';
import type { CausalLanguageModel } from '../models/causal_language_model.ts';
import { checkVocabulary, loadCausalLanguageModel } from '../models/checkpoint.ts';
import { Session } from '../models/session.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import { packingOf } from './causal_objective.ts';
import { unigramScores } from './evaluate.ts';
import { LeafCounts, type LeafUse, watchLeaves } from './leaf_use.ts';
import { packText } from './sequences.ts';

export interface FrequencyScores {
  /** Of the text's tokens, the share that such a token has at least, and at most (excluded); the rarest have 0 at least. */
  from: number;
  below: number;
  /** Predicted tokens that are so frequent, and how many different ones. */
  predicted: number;
  distinct: number;
  /** Mean over these, nats; share of them that is ranked first. */
  loss: number;
  top1: number;
}

export interface CausalLanguageModelScores {
  /** Mean cross entropy, nats a token. */
  loss: number;
  /** Of the text in bits per UTF-8 byte: comparable between tokenizers, where the loss per token is not. */
  bitsPerByte: number;
  /** Share of the tokens that the model ranks first, and among the first five. */
  top1: number;
  top5: number;
  /** Tokens of the text that were predicted: whole sequences, the rest of the text left out. */
  tokens: number;
  /** As in {@link MaskedLanguageModelScores}. */
  unigramLoss: number;
  mostFrequentTop1: number;
  /** Frequent tokens first. */
  byFrequency: FrequencyScores[];
  /** How the tokens spread over the leaves of each layer's trees; none without trees. */
  layers: LeafUse[];
}

export interface CausalEvaluationOptions {
  device: Device;
  /** Model folder: config.json, model.safetensors, tokenizer.json. */
  model: string;
  /** Text file, plain or gzipped. */
  text: string;
  /** Only so much of the text. */
  maxTokens?: number;
  /** Tokens of a sequence: before its first tokens the model sees little. As many as the model has positions by default. */
  length?: number;
  /** Of products with weights, 'f32' by default. */
  dtype?: Precision;
  onProgress?(done: number, total: number): void;
  /** Is told, in one line, of what the tokenizer makes of the text: that it loses much, say. */
  onNotice?(line: string): void;
}

/** Tokens computed together at most; results do not depend on it. */
const tokensPerBatch = 2048;

/** Frequencies at which tokens are told apart. */
const borders = [1 / 100, 1 / 1000, 1 / 10_000, 0];

/**
 * Packs a text as in pretraining and predicts each token of those before it in its sequence, the first of the last one of the sequence before.
 * @throws InputError if the model or the text cannot be used
 */
export async function evaluateCausalLanguageModel(options: CausalEvaluationOptions): Promise<CausalLanguageModelScores> {
  const { device, dtype = 'f32', onNotice } = options;
  const tokenizer = await loadTokenizer(options.model, onNotice);
  const { eosId } = tokenizer;
  if (eosId === undefined)
    throw new InputError(
      `${joinPath(options.model, 'tokenizer.json')}: has no token that ends a text, <|endoftext|> say, with which texts are packed`,
    );
  using model = await loadCausalLanguageModel(options.model, device, { dtype });
  const { maxPositionEmbeddings: positions } = model.config;
  const { length = positions } = options;
  if (length > positions) throw new InputError(`--length ${length} is more than the ${positions} positions that ${options.model} has`);
  checkVocabulary(options.model, tokenizer, model.config);
  const count = options.maxTokens === undefined ? undefined : Math.floor(options.maxTokens / length);
  if (count === 0) throw new InputError(`--max-tokens ${options.maxTokens} is less than one sequence of ${length} tokens`);
  const { sequences, tokens, bytes } = await packText({ path: options.text, tokenizer: packingOf(tokenizer), length, count, onNotice });
  if (sequences.length === 0)
    throw new InputError(
      `${options.text}: has ${tokens} tokens, expected at least one sequence of ${length}: pass --length ${tokens} or less`,
    );
  const { losses, ranks, layers } = await predict(options, model, { sequences, length, begin: eosId });
  const loss = mean(losses);
  const share = (below: number) => ranks.reduce((sum, rank) => sum + (rank < below ? 1 : 0), 0) / ranks.length;
  return {
    loss,
    bitsPerByte: (loss * tokens) / bytes / Math.LN2,
    top1: share(1),
    top5: share(5),
    tokens: sequences.length,
    ...unigramScores(sequences, Array.from(sequences)),
    byFrequency: scoresByFrequency(sequences, losses, ranks),
    layers,
  };
}

/** Of each token of the sequences its loss, nats, and how many tokens were rated above it. */
async function predict(
  { device, text, onProgress }: CausalEvaluationOptions,
  model: CausalLanguageModel,
  { sequences, length, begin }: { sequences: Int32Array; length: number; begin: number },
): Promise<{ losses: Float32Array; ranks: Int32Array; layers: LeafUse[] }> {
  using session = new Session(device);
  const [losses, ranks] = [new Float32Array(sequences.length), new Int32Array(sequences.length)];
  // What each token is predicted from: the text, moved by one.
  const before = new Int32Array(sequences.length);
  before[0] = begin;
  before.set(sequences.subarray(0, -1), 1);
  const counts = new LeafCounts(model.config.feedforward);
  const size = length * Math.max(1, Math.floor(tokensPerBatch / length));
  for (let first = 0; first < sequences.length; first += size) {
    const end = Math.min(first + size, sequences.length);
    const batch = { batch: (end - first) / length, length, ids: before.slice(first, end), labels: sequences.slice(first, end) };
    const [found, leaves] = await session.pass((context) => watchLeaves(context, (watched) => model.losses(watched, batch)));
    if (!found.losses.every(Number.isFinite))
      throw new FailureError(`${text}, tokens ${first + 1} to ${end}: the model's loss is not finite: ${overflow}`);
    losses.set(found.losses, first);
    ranks.set(found.ranks, first);
    counts.add(leaves);
    onProgress?.(end, sequences.length);
  }
  return { losses, ranks, layers: counts.uses };
}

/** By how frequent each token is in the text itself. */
export function scoresByFrequency(tokens: Int32Array, losses: Float32Array, ranks: Int32Array): FrequencyScores[] {
  const counts = new Map<number, number>();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  const groups = borders.map((from, index) => ({ from, below: borders[index - 1] ?? 1, predicted: 0, distinct: 0, loss: 0, top1: 0 }));
  const groupOf = (count: number) => groups.find(({ from }) => count / tokens.length >= from)!;
  for (const count of counts.values()) groupOf(count).distinct++;
  for (const [index, token] of tokens.entries()) {
    const group = groupOf(counts.get(token)!);
    group.predicted++;
    group.loss += losses[index];
    if (ranks[index] === 0) group.top1++;
  }
  return groups
    .filter(({ predicted }) => predicted > 0)
    .map(({ loss, top1, ...group }) => ({ ...group, loss: loss / group.predicted, top1: top1 / group.predicted }));
}

const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
