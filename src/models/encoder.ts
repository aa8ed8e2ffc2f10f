import { InputError } from '../errors.ts';
import type { Context } from '../nn/parameter.ts';
import type { Sequence } from '../nn/sequence.ts';
import type { ModelConfig } from './config.ts';
import { type Batch, Transformer } from './transformer.ts';

/** A transformer in which every token sees every other. */
export class Encoder extends Transformer {
  readonly task = 'encoder';

  protected override sequence(context: Context, batch: Batch): Sequence {
    const { device, arena } = context;
    checkBatch(batch, this.config);
    const tokens = batch.batch * batch.length;
    const integers = (name: string, values: Int32Array) => {
      const tensor = arena.tensor(name, [tokens], 'i32');
      device.write(tensor, values);
      return tensor;
    };
    return {
      batch: batch.batch,
      length: batch.length,
      ids: integers('ids', batch.ids),
      positions: integers('positions', positionsOf(batch, this.config)),
      typeIds: this.config.typeVocabSize > 0 ? integers('type ids', batch.typeIds ?? new Int32Array(tokens)) : undefined,
      paddingMask: batch.attentionMask?.includes(0) ? integers('attention mask', batch.attentionMask) : undefined,
    };
  }
}

/** The dropout site after the encoder's own, for a pooler. */
export function poolerDropoutSite(config: ModelConfig): number {
  return 1 + 3 * config.numHiddenLayers;
}

/** The row of the position table for each token. Counted from an offset, padding has the row before, and does not count (RoBERTa). */
function positionsOf({ ids, length }: Batch, { positionOffset = 0, padTokenId }: ModelConfig): Int32Array {
  if (positionOffset === 0) return ids.map((_, token) => token % length);
  let next = positionOffset;
  return ids.map((id, token) => {
    if (token % length === 0) next = positionOffset;
    return id === padTokenId ? positionOffset - 1 : next++;
  });
}

/** @throws InputError if the batch does not fit the model */
export function checkBatch(batch: Batch, config: ModelConfig): void {
  const { batch: sequences, length, ids, attentionMask, typeIds } = batch;
  for (const [name, value] of Object.entries({ batch: sequences, length })) {
    if (!Number.isSafeInteger(value) || value < 1) throw new InputError(`batch: '${name}' is ${value}, expected a count of at least 1`);
  }
  if (length > config.maxPositionEmbeddings)
    throw new InputError(`a sequence of ${length} tokens is longer than the model's ${config.maxPositionEmbeddings} positions: shorten it`);
  for (const [name, values] of Object.entries({ ids, attentionMask, typeIds })) {
    if (values && values.length !== sequences * length) {
      throw new InputError(`batch: '${name}' has ${values.length} values, expected batch x length = ${sequences * length}`);
    }
  }
  checkIds(ids, config);
  if (typeIds && config.typeVocabSize > 0) checkNumbers('token type', typeIds, config.typeVocabSize);
}

/** @throws InputError if an id is none of the vocabulary's */
export const checkIds = (ids: Int32Array | readonly number[], config: ModelConfig): void => checkNumbers('token id', ids, config.vocabSize);

function checkNumbers(what: string, values: Int32Array | readonly number[], limit: number): void {
  const at = values.findIndex((value) => !(Number.isInteger(value) && value >= 0 && value < limit));
  if (at >= 0)
    throw new InputError(
      `${what} ${values[at]} at token ${at} is not one of the model's ${limit} (0 to ${limit - 1}): does the tokenizer belong to the model?`,
    );
}
