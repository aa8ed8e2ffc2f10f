/** How far a converted model agrees with the one that it was made from. */
import type { Tensor } from '../backend/tensor.ts';
import type { FeedforwardConfig } from '../models/config.ts';
import type { Batch, Encoder } from '../models/encoder.ts';
import type { Run } from '../nn/parameter.ts';
import { type Leaves, watchLeaves } from '../training/paths.ts';
import { Moments } from './student.ts';

/** On texts that neither was trained on. */
export interface Agreement {
  /**
   * For each of the student's blocks the share of the variance of the teacher's hidden state that the student's has: 1 - squared error over
   * the squared distances from the features' means (R2). 1 is the same, 0 no more than the mean.
   */
  states: number[];
  /** Mean over the texts of the cosine between both means of the last hidden states. */
  cosine: number;
  /** For each block, how its tokens spread over the leaves of all its trees; none without trees. */
  leaves: LeafUse[];
  /** Tokens compared. */
  tokens: number;
}

export interface LeafUse {
  /** Leaves that at least one token reached, and how many there are. */
  used: number;
  leaves: number;
  /** Of the tokens' distribution over a tree's leaves, bits, the mean over the trees; the depth is the most that there can be. */
  entropy: number;
}

/** `map`: the teacher's block for each of the student's. `infer` runs work on scratch memory that is reset before each call. */
export async function measureAgreement(
  infer: <Result>(work: (run: Run) => Promise<Result>) => Promise<Result>,
  teacher: Encoder,
  student: Encoder,
  map: readonly number[],
  batches: readonly Batch[],
): Promise<Agreement> {
  const { hiddenSize: width, feedforward } = student.config;
  const moments = map.map(() => new Moments(width));
  const errors = map.map(() => 0);
  const counts = new LeafCounts(feedforward, map.length);
  let [cosines, texts, tokens] = [0, 0, 0];
  for (const batch of batches) {
    const [expected, found] = await infer(async (run) => {
      const theirs = teacher.forward(run, batch, { hiddenStates: true });
      const [own, leaves] = await watchLeaves(run, (watched) => student.forward(watched, batch, { hiddenStates: true }));
      counts.add(leaves);
      const read = (states: readonly Tensor[], output: Tensor) => Promise.all([...states, output].map((state) => run.backend.read(state)));
      const wanted = map.map((block) => theirs.hiddenStates[block + 1]);
      return [await read(wanted, theirs.output), await read(own.hiddenStates.slice(1), own.output)];
    });
    for (const [i] of map.entries()) {
      moments[i].add(expected[i]);
      errors[i] += expected[i].reduce((sum, value, at) => sum + (value - found[i][at]) ** 2, 0);
    }
    const last = map.length;
    for (let text = 0; text < batch.batch; text++) {
      const [a, b] = [expected[last], found[last]].map((values) => meanOf(values, text * batch.length, batch.length, width));
      cosines += cosine(a, b);
    }
    texts += batch.batch;
    tokens += batch.batch * batch.length;
  }
  const states = errors.map((error, i) => 1 - error / (tokens * moments[i].variance.reduce((sum, value) => sum + value, 0)));
  return { states, cosine: cosines / texts, leaves: counts.uses, tokens };
}

/** How many tokens reached each leaf of each tree. */
class LeafCounts {
  private readonly counts: Int32Array[] = [];
  private readonly shape: { trees: number; depth: number };

  constructor(feedforward: FeedforwardConfig, layers: number) {
    const { trees, depth } = feedforward.kind === 'fff' ? feedforward : { trees: 0, depth: 0 };
    this.shape = { trees, depth };
    if (trees > 0) this.counts = Array.from({ length: layers }, () => new Int32Array(trees * 2 ** depth));
  }

  add(leaves: Leaves): void {
    const { trees, depth } = this.shape;
    for (const [layer, reached] of leaves.entries()) {
      reached.forEach((leaf, walk) => {
        this.counts[layer][(walk % trees) * 2 ** depth + leaf - (2 ** depth - 1)]++;
      });
    }
  }

  get uses(): LeafUse[] {
    const { trees, depth } = this.shape;
    return this.counts.map((counts) => {
      const perTree = Array.from({ length: trees }, (_, tree) => counts.subarray(tree * 2 ** depth, (tree + 1) * 2 ** depth));
      const entropy = perTree.reduce((sum, ofTree) => sum + entropyOf(ofTree), 0) / trees;
      return { used: counts.filter((count) => count > 0).length, leaves: counts.length, entropy };
    });
  }
}

/** Bits. */
export function entropyOf(counts: Int32Array): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.reduce((sum, count) => (count > 0 ? sum - (count / total) * Math.log2(count / total) : sum), 0);
}

function meanOf(values: Float32Array, token: number, length: number, width: number): Float64Array {
  const mean = new Float64Array(width);
  for (let at = 0; at < length * width; at++) mean[at % width] += values[token * width + at] / length;
  return mean;
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / Math.sqrt(aa * bb || 1);
}
