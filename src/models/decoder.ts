import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import type { Context } from '../nn/parameter.ts';
import type { Sequence } from '../nn/sequence.ts';
import { headsOf } from './blocks.ts';
import { checkBatch, checkIds } from './encoder.ts';
import type { KeyValueCache } from './key_value_cache.ts';
import { frequencies, rotationOf } from './rotary_positions.ts';
import { type Batch, Transformer, type TransformerActivations } from './transformer.ts';

/** Sequences of a decoder's batch. */
interface Packed {
  /** Of each sequence: its first token in batch x length, and its tokens. */
  spans: { first: number; count: number }[];
  tokens: number;
}

/** A transformer in which a token sees itself and those before it. Padding of a batch is left out: its output has rows of real tokens alone. */
export class Decoder extends Transformer {
  readonly task = 'decoder';

  /** @throws InputError if a position is padding */
  override rowsAt(batch: Batch, positions: Int32Array): Int32Array {
    const rows = new Int32Array(batch.batch * batch.length).fill(-1);
    let row = 0;
    for (const { first, count } of pack(batch).spans) for (let i = 0; i < count; i++) rows[first + i] = row++;
    return positions.map((position) => {
      if (rows[position] === -1) throw new InputError(`position ${position} is padding, expected one of a token`);
      return rows[position] ?? position;
    });
  }

  /**
   * Some more tokens of each of the cache's rows, none for some: their hidden states [tokens, hidden], row after row. What the cache keeps of them is
   * there when the work has run. `tokens` fit the cache, as it says itself.
   */
  append(context: Context, tokens: readonly ArrayLike<number>[], cache: KeyValueCache): TransformerActivations {
    const all = tokens.flatMap((ofRow) => Array.from(ofRow));
    checkIds(all, this.config);
    const { places, positions, sequences } = cache.append(tokens.map(({ length }) => length));
    const sequence = this.upload(context, Int32Array.from(all), positions, sequences);
    const table = integers(context, 'places', places);
    return this.run(context, sequence, {}, (index) => ({
      ...sequence,
      causal: { ...sequence.causal!, cache: { table: cache.tables[index], places: table } },
    }));
  }

  protected override sequence(context: Context, batch: Batch): Sequence {
    checkBatch(batch, this.config);
    const { spans, tokens } = pack(batch);
    const [ids, positions] = [new Int32Array(tokens), new Int32Array(tokens)];
    const sequences: number[][] = [];
    let row = 0;
    for (const { first, count } of spans) {
      ids.set(batch.ids.subarray(first, first + count), row);
      for (let i = 0; i < count; i++) positions[row + i] = i;
      sequences.push([row, count, row, count]);
      row += count;
    }
    return this.upload(context, ids, positions, sequences);
  }

  private upload(context: Context, ids: Int32Array, positions: Int32Array, sequences: readonly (readonly number[])[]): Sequence {
    const { rotary } = this.config;
    let rotation: Tensor | undefined;
    if (rotary) {
      const values = rotationOf(positions, frequencies(rotary, rotary.size ?? headsOf(this.config).headSize));
      rotation = context.arena.tensor('rotation', [ids.length, values.length / ids.length]);
      context.device.write(rotation, values);
    }
    return {
      batch: sequences.length,
      length: sequences.reduce((most, [, queries]) => Math.max(most, queries), 0),
      ids: integers(context, 'ids', ids),
      positions: integers(context, 'positions', positions),
      causal: {
        sequences: integers(context, 'sequences', Int32Array.from(sequences.flat()), [sequences.length, 4]),
        keyLength: sequences.reduce((most, [, , , keys]) => Math.max(most, keys), 0),
        rotation,
      },
    };
  }
}

/** The label of each token is the one that follows in its sequence; -100 at a sequence's end and at padding. [batch, length]. */
export function nextTokenLabels(batch: Batch): Int32Array {
  const labels = new Int32Array(batch.ids.length).fill(-100);
  for (const { first, count } of pack(batch).spans) labels.set(batch.ids.subarray(first + 1, first + count), first);
  return labels;
}

/** @throws InputError if padding is between tokens, a row has no token, or documents do not fill the batch */
function pack({ batch, length, ids, attentionMask, documents }: Batch): Packed {
  if (documents) {
    let first = 0;
    const spans = Array.from(documents, (count) => {
      const span = { first, count };
      first += count;
      return span;
    });
    if (attentionMask?.includes(0) || first !== ids.length || spans.some(({ count }) => !(count > 0)))
      throw new InputError(`batch: 'documents' are ${first} tokens long together, expected ${ids.length} of a batch without padding`);
    return { spans, tokens: first };
  }
  const spans = Array.from({ length: batch }, (_, row) => {
    if (!attentionMask) return { first: row * length, count: length };
    const mask = attentionMask.subarray(row * length, (row + 1) * length);
    const first = mask.findIndex((flag) => flag !== 0);
    const last = mask.findLastIndex((flag) => flag !== 0);
    if (first < 0) throw new InputError(`batch: row ${row} is nothing but padding, expected a token at least`);
    if (mask.subarray(first, last + 1).includes(0))
      throw new InputError(`batch: row ${row} has padding between its tokens, expected it before or behind them`);
    return { first: row * length + first, count: last + 1 - first };
  });
  return { spans, tokens: spans.reduce((sum, { count }) => sum + count, 0) };
}

function integers(context: Context, name: string, values: Int32Array, shape: readonly number[] = [values.length]): Tensor {
  const tensor = context.arena.tensor(name, shape, 'i32');
  context.device.write(tensor, values);
  return tensor;
}
