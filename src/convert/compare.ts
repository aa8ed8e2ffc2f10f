/** A converted model beside the one that it was made from, on paragraphs of a text: what `ufb eval agreement` tells. */
import type { Device } from '../backend/device.ts';
import type { PoolKind } from '../backend/operations/pool.ts';
import { InputError } from '../errors.ts';
import type { Encoder } from '../models/encoder.ts';
import { Session } from '../models/session.ts';
import { batchesByLength, batchOf, type EncodedText } from '../models/text_batches.ts';
import type { Context } from '../nn/parameter.ts';
import { type Agreement, measureAgreement } from './agreement.ts';
import { recallOfNeighbors } from './neighbors.ts';
import { blockMap } from './student.ts';

/** A model that makes texts into vectors of length 1. */
export interface EmbeddingModel {
  model: Encoder;
  /** A text as the model reads it, cut to so many tokens. */
  encode(text: string, maxLength: number): EncodedText;
  /** Tokens of a text that are used. */
  maxLength: number;
  /** [texts, width]. */
  embed(texts: readonly string[]): Promise<Float32Array>;
  /** Numbers of a vector. */
  width: number;
}

export interface Comparison extends Agreement {
  texts: number;
  /** Recall@10 of neighbors; see {@link recallOfNeighbors}. */
  recall: number;
}

const neighbors = 10;
/** Texts whose hidden states are compared, evenly spread; all are embedded. */
const textsOfStates = 512;
/** Texts between two reports of progress. */
const textsAtOnce = 256;

/** @throws InputError if the models' vectors differ in width, their tokenizers cut texts in other ways, or there are too few texts */
export async function compareModels(
  device: Device,
  reference: EmbeddingModel,
  own: EmbeddingModel,
  texts: readonly string[],
  options: { pooling: PoolKind; onProgress?(done: number, total: number): void },
): Promise<Comparison> {
  const [hidden, ownHidden] = [reference, own].map(({ model }) => model.config.hiddenSize);
  if (ownHidden !== hidden) throw new InputError(`the models' hidden sizes are ${ownHidden} and ${hidden}, expected the same`);
  const { width } = reference;
  if (own.width !== width) throw new InputError(`the models' vectors are of ${own.width} and ${width} numbers, expected the same`);
  if (texts.length <= neighbors) throw new InputError(`${texts.length} texts, expected more than ${neighbors}: each has as many neighbors`);
  const maxLength = Math.min(reference.maxLength, own.maxLength);
  const stride = Math.ceil(texts.length / textsOfStates);
  const compared = texts.filter((_, i) => i % stride === 0);
  const encoded = compared.map((text) => reference.encode(text, maxLength));
  const other = compared.find((text, i) => `${own.encode(text, maxLength).ids}` !== `${encoded[i].ids}`);
  if (other !== undefined)
    throw new InputError(`the models' tokenizers do not cut '${other.slice(0, 40)}' alike: their hidden states are not of the same tokens`);
  const vectors: Float32Array[] = [];
  for (const [index, { embed }] of [reference, own].entries()) {
    const all = new Float32Array(texts.length * width);
    for (let first = 0; first < texts.length; first += textsAtOnce) {
      all.set(await embed(texts.slice(first, first + textsAtOnce)), first * width);
      options.onProgress?.(index * texts.length + Math.min(texts.length, first + textsAtOnce), 2 * texts.length);
    }
    vectors.push(all);
  }
  const recall = await recallOfNeighbors(device, vectors[0], vectors[1], { width, k: neighbors });
  const batches = [...batchesByLength(encoded, { unpadded: true })].map((members) => batchOf(encoded, members));
  using session = new Session(device);
  const infer = <Result>(work: (context: Context) => Promise<Result>) => session.pass(work);
  const map = blockMap(reference.model.config.numHiddenLayers, own.model.config.numHiddenLayers);
  const agreement = await measureAgreement(infer, reference.model, own.model, { map, pooling: options.pooling }, batches);
  return { ...agreement, texts: texts.length, recall };
}
