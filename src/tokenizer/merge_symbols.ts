export interface TrainingProgress {
  /** First the words of the texts are counted, then pieces are merged until the vocabulary is full. */
  phase: 'counting' | 'merging';
  /** Characters read (counting) or tokens in the vocabulary (merging). */
  done: number;
  /** What `done` will reach; not known while counting. */
  total?: number;
}

export interface MergeOptions {
  onProgress?: (progress: TrainingProgress) => void;
  /** Stops it: it rejects with the signal's reason. */
  signal?: AbortSignal;
  /** What a token begins with that is not a word's first: '##', or nothing if it is the same everywhere. */
  prefix?: '##' | '';
}

/** Longest stretch of work, in ms, before timers and signals get their turn. */
const longestStretch = 50;

/** The two symbols' ids in one number; there are at most 2^20 symbols. */
const idLimit = 1 << 20;

/**
 * The merging part of training (arXiv 1508.07909). Appends to `tokens` until it has `wanted` entries or nothing is left to merge:
 * each time the pair of adjacent symbols that occurs most often in `words`, weighted by `counts`. Returns the merged pairs, in order.
 *
 * Pair counts are kept up to date as words change; the queue is not, so an entry popped with an outdated count goes back with the
 * right one.
 *
 * @param tokens in: every character of `words`, plain (as first of a word) and with the prefix (elsewhere). Out: the vocabulary.
 */
export async function mergeSymbols(
  words: readonly string[],
  counts: readonly number[],
  tokens: string[],
  wanted: number,
  { onProgress, signal, prefix = '##' }: MergeOptions = {},
): Promise<[left: string, right: string][]> {
  const merges: [string, string][] = [];
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  const pairs = new PairTable();

  // All words one after another; merging shortens a word in place.
  const starts = new Int32Array(words.length);
  const lengths = new Int32Array(words.length);
  const symbols = new Int32Array(words.reduce((sum, word) => sum + word.length, 0));
  let end = 0;
  words.forEach((word, w) => {
    starts[w] = end;
    for (const character of word) {
      symbols[end] = idOf.get(end === starts[w] ? character : `${prefix}${character}`) as number;
      if (end > starts[w]) pairs.add(symbols[end - 1], symbols[end], counts[w], w);
      end += 1;
    }
    lengths[w] = end - starts[w];
  });

  const queue = new PairQueue(pairs);
  for (let pair = 0; pair < pairs.size; pair += 1) queue.push(pair);

  let stretchEnd = performance.now() + longestStretch;
  while (tokens.length < wanted) {
    if (performance.now() > stretchEnd) {
      onProgress?.({ phase: 'merging', done: tokens.length, total: wanted });
      await new Promise((resolve) => setTimeout(resolve, 0));
      signal?.throwIfAborted();
      stretchEnd = performance.now() + longestStretch;
    }
    const best = queue.pop();
    if (best === undefined) break;
    const left = pairs.left[best];
    const right = pairs.right[best];
    const token = tokens[left] + tokens[right].slice(prefix.length);
    merges.push([tokens[left], tokens[right]]);
    // Another pair may have made the same token before.
    let merged = idOf.get(token);
    if (merged === undefined) {
      merged = tokens.length;
      tokens.push(token);
      idOf.set(token, merged);
    }

    const grown = new Set<number>();
    for (const word of pairs.takeWords(best)) {
      const count = counts[word];
      const start = starts[word];
      const wordEnd = start + lengths[word];
      let write = start;
      for (let read = start; read < wordEnd; read += 1) {
        if (symbols[read] !== left || read + 1 >= wordEnd || symbols[read + 1] !== right) {
          symbols[write++] = symbols[read];
          continue;
        }
        if (write > start) {
          pairs.subtract(symbols[write - 1], left, count);
          grown.add(pairs.add(symbols[write - 1], merged, count, word));
        }
        read += 1;
        if (read + 1 < wordEnd) {
          pairs.subtract(right, symbols[read + 1], count);
          // If the next symbols are merged too, this pair is taken back when its right side changes.
          grown.add(pairs.add(merged, symbols[read + 1], count, word));
        }
        symbols[write++] = merged;
      }
      lengths[word] = write - start;
    }
    pairs.clear(best);
    for (const pair of grown) queue.push(pair);
  }
  onProgress?.({ phase: 'merging', done: tokens.length, total: tokens.length });
  return merges;
}

/** Every pair of adjacent symbols that was ever seen: how often it occurs now, and in which words it may. */
class PairTable {
  readonly left: number[] = [];
  readonly right: number[] = [];
  readonly count: number[] = [];
  private readonly words: number[][] = [];
  private readonly index = new Map<number, number>();

  get size(): number {
    return this.left.length;
  }

  /** Counts `times` more occurrences of a pair in `word`; returns the pair's index. */
  add(left: number, right: number, times: number, word: number): number {
    const key = left * idLimit + right;
    let pair = this.index.get(key);
    if (pair === undefined) {
      pair = this.left.length;
      this.index.set(key, pair);
      this.left.push(left);
      this.right.push(right);
      this.count.push(0);
      this.words.push([]);
    }
    this.count[pair] += times;
    const words = this.words[pair];
    if (words[words.length - 1] !== word) words.push(word);
    return pair;
  }

  subtract(left: number, right: number, times: number): void {
    const pair = this.index.get(left * idLimit + right);
    if (pair !== undefined) this.count[pair] -= times;
  }

  /** The words in which a pair may occur; they are forgotten here. A word may come more than once. */
  takeWords(pair: number): number[] {
    const words = this.words[pair];
    this.words[pair] = [];
    return words;
  }

  /** Says that no occurrence of the pair is left. */
  clear(pair: number): void {
    this.count[pair] = 0;
    this.words[pair] = [];
  }
}

/** Pairs by count, highest first; equal counts by the ids of the symbols, lowest first. */
class PairQueue {
  private readonly heap: number[] = [];
  /** The count of each entry when it was pushed. */
  private readonly counts: number[] = [];

  private readonly pairs: PairTable;

  constructor(pairs: PairTable) {
    this.pairs = pairs;
  }

  push(pair: number): void {
    const count = this.pairs.count[pair];
    if (count <= 0) return;
    const { heap, counts } = this;
    let i = heap.length;
    heap.push(pair);
    counts.push(count);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.before(pair, count, heap[parent], counts[parent])) break;
      heap[i] = heap[parent];
      counts[i] = counts[parent];
      i = parent;
    }
    heap[i] = pair;
    counts[i] = count;
  }

  /** The pair that occurs most often now, or undefined if none occurs. */
  pop(): number | undefined {
    for (;;) {
      const pair = this.heap[0];
      if (pair === undefined) return undefined;
      const count = this.counts[0];
      this.removeFirst();
      if (count === this.pairs.count[pair]) return pair;
      this.push(pair);
    }
  }

  private removeFirst(): void {
    const { heap, counts } = this;
    const pair = heap.pop() as number;
    const count = counts.pop() as number;
    const size = heap.length;
    if (size === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && this.before(heap[child + 1], counts[child + 1], heap[child], counts[child])) child += 1;
      if (!this.before(heap[child], counts[child], pair, count)) break;
      heap[i] = heap[child];
      counts[i] = counts[child];
      i = child;
    }
    heap[i] = pair;
    counts[i] = count;
  }

  private before(a: number, aCount: number, b: number, bCount: number): boolean {
    if (aCount !== bCount) return aCount > bCount;
    const { left, right } = this.pairs;
    return left[a] !== left[b] ? left[a] < left[b] : right[a] < right[b];
  }
}
