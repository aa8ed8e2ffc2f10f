import type { Device } from '../backend/device.ts';
import type { Tensor } from '../backend/tensor.ts';
import { InputError, memoryError } from '../errors.ts';
import { headsOf } from './blocks.ts';
import type { ModelConfig } from './config.ts';

export interface CacheSize {
  /** Rows: texts that are written at once. */
  batch: number;
  /** Most tokens of a row, at most the model's positions. */
  maxLength: number;
}

/**
 * Keys and values of the tokens that a decoder has seen, for each block and row. Rows have lengths of their own. {@link Session.createCache} makes
 * it. After a pass that failed it holds nothing of use: make another.
 */
export class KeyValueCache {
  /** Of each block, [batch maxLength, 2 key width]: a token's keys and, beside them, its values. */
  readonly tables: readonly Tensor[];
  readonly maxLength: number;
  /** Which part of the tables each row has, and how many tokens it holds. */
  private rows: { slot: number; length: number }[];
  private readonly slots: number;

  /** @throws InputError if the model has fewer positions; FailureError if there is not enough memory */
  constructor(
    private readonly device: Device,
    config: ModelConfig,
    size: CacheSize,
  ) {
    const { batch, maxLength } = size;
    // Before any of it is taken.
    const bytes = KeyValueCache.bytes(config, size);
    this.maxLength = maxLength;
    this.slots = batch;
    this.rows = Array.from({ length: batch }, (_, slot) => ({ slot, length: 0 }));
    const tables: Tensor[] = [];
    try {
      for (let block = 0; block < config.numHiddenLayers; block++)
        tables.push(device.tensor(`keys and values ${block}`, [batch * maxLength, keyValueWidth(config)]));
    } catch (error) {
      for (const table of tables) table.dispose();
      throw memoryError(error, `a cache of ${bytes} bytes for ${batch} rows of ${maxLength} tokens`);
    }
    this.tables = tables;
  }

  /** Bytes that a cache of this size takes. @throws InputError if it is none, or longer than the model's positions */
  static bytes(config: ModelConfig, { batch, maxLength }: CacheSize): number {
    for (const [name, value] of Object.entries({ batch, maxLength })) {
      if (!Number.isSafeInteger(value) || value < 1) throw new InputError(`cache: '${name}' is ${value}, expected a count of at least 1`);
    }
    if (maxLength > config.maxPositionEmbeddings)
      throw new InputError(
        `cache: 'maxLength' is ${maxLength}, expected at most the model's ${config.maxPositionEmbeddings} positions: write less, or shorten what comes before`,
      );
    return 4 * config.numHiddenLayers * batch * maxLength * keyValueWidth(config);
  }

  /** Tokens of each row. */
  get lengths(): readonly number[] {
    return this.rows.map(({ length }) => length);
  }

  get bytes(): number {
    return this.tables.reduce((sum, { storage }) => sum + storage.bytes, 0);
  }

  /**
   * Makes room for so many more tokens of each row. Returns their places in the tables and their positions, row after row, and the sequences of
   * rows that have some, as attention takes them.
   * @throws InputError if there is no token, there are counts for other rows than there are, or a row would become too long; nothing is changed then
   */
  append(counts: readonly number[]): { places: Int32Array; positions: Int32Array; sequences: number[][] } {
    const { rows, maxLength } = this;
    if (counts.length !== rows.length) throw new InputError(`cache: tokens of ${counts.length} rows, expected those of its ${rows.length}`);
    for (const [row, count] of counts.entries()) {
      const { length } = rows[row];
      if (length + count > maxLength)
        throw new InputError(
          `row ${row} has ${length} tokens and gets ${count} more, which are more than the ${maxLength} that the cache holds`,
        );
    }
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (total === 0) throw new InputError('no row gets a token, expected one at least');
    const [places, positions] = [new Int32Array(total), new Int32Array(total)];
    const sequences: number[][] = [];
    let token = 0;
    for (const [index, count] of counts.entries()) {
      if (count === 0) continue;
      const row = rows[index];
      const first = row.slot * maxLength;
      sequences.push([token, count, first, row.length + count]);
      for (let i = 0; i < count; i++, token++) {
        positions[token] = row.length + i;
        places[token] = first + row.length + i;
      }
      row.length += count;
    }
    return { places, positions, sequences };
  }

  /**
   * Makes other rows of those there are: row i becomes what row `kept[i]` was. Rows that are not named are dropped; one that is named more than once is
   * copied, as long as there is room for as many rows as at first.
   * @throws InputError if there is none, or a row is not there; nothing is changed then
   */
  select(kept: readonly number[]): void {
    const wrong = kept.find((row) => !(row in this.rows));
    if (wrong !== undefined) throw new InputError(`cache: row ${wrong} is not one of its ${this.rows.length}`);
    if (kept.length > this.slots)
      throw new InputError(`cache: ${kept.length} rows, expected at most the ${this.slots} that it was made for`);
    const taken = new Set(kept.map((row) => this.rows[row].slot));
    const free = Array.from({ length: this.slots }, (_, slot) => slot).filter((slot) => !taken.has(slot));
    const used = new Set<number>();
    this.rows = kept.map((index) => {
      const row = this.rows[index];
      if (!used.has(row.slot)) {
        used.add(row.slot);
        return row;
      }
      const slot = free.pop() as number;
      this.copy(row, slot);
      return { slot, length: row.length };
    });
  }

  private copy({ slot, length }: { slot: number; length: number }, to: number): void {
    if (length === 0) return;
    for (const table of this.tables) {
      const width = table.shape[1];
      const part = (of: number) => table.view([length, width], of * this.maxLength * width);
      this.device.copy({ input: part(slot), output: part(to) });
    }
  }

  get disposed(): boolean {
    return this.tables.some(({ disposed }) => disposed);
  }

  dispose(): void {
    for (const table of this.tables) table.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Of a token in a block: its keys and its values. */
function keyValueWidth(config: ModelConfig): number {
  const { keyValueHeads, headSize } = headsOf(config);
  return 2 * keyValueHeads * headSize;
}
