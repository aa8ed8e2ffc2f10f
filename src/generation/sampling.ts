/** How the next token is chosen of a model's logits: with the names, the rules and the order of transformers' logits processors. */
import { FailureError, overflow } from '../errors.ts';
import { CounterRandom, randomStream } from '../training/random.ts';

export interface SamplingOptions {
  /** Draws the next token by its probability; otherwise the most probable one is taken. */
  do_sample: boolean;
  /** Above 0. Logits are divided by it: below 1 the probable tokens become more so. */
  temperature: number;
  /** Only so many of the most probable tokens are drawn from; 0: all. */
  top_k: number;
  /** Only the most probable tokens are drawn from that have this probability together (arXiv 1904.09751); 1: all. */
  top_p: number;
  /** Above 0. Logits of tokens that are in the text already are divided by it, negative ones multiplied (arXiv 1909.05858); 1: not. */
  repetition_penalty: number;
}

/** Tokens that may come next, and their probabilities, which sum to 1. */
export interface Distribution {
  ids: number[];
  probabilities: number[];
}

/** Chooses tokens. Draws depend on the seed, the stream and how many came before alone. */
export class Sampler {
  private readonly random: CounterRandom;

  constructor(
    private readonly options: SamplingOptions,
    seed: number,
    /** Of several texts that are drawn for one prompt, which. */
    stream: number,
  ) {
    this.random = new CounterRandom(seed, randomStream.sampling, stream);
  }

  /**
   * @param logits [vocabulary], overwritten
   * @param seen ids of the text so far
   * @throws FailureError if a logit is not finite
   */
  next(logits: Float32Array, seen: Iterable<number>): number {
    checkFinite(logits);
    penalize(logits, seen, this.options.repetition_penalty);
    if (!this.options.do_sample) return largest(logits);
    const { ids, probabilities } = distributionOf(logits, this.options);
    const drawn = this.random.below(2 ** 32) / 2 ** 32;
    let sum = 0;
    // Rounding may leave the sum just below 1.
    return ids[probabilities.findIndex((probability) => (sum += probability) > drawn)] ?? ids[ids.length - 1];
  }
}

/** What a token is drawn from. `logits`: after {@link penalize}. */
export function distributionOf(
  logits: Float32Array,
  { temperature, top_k, top_p }: Pick<SamplingOptions, 'temperature' | 'top_k' | 'top_p'>,
): Distribution {
  const best = logits[largest(logits)];
  const weight = (id: number) => Math.exp((logits[id] - best) / temperature);
  let ids = top_k > 0 && top_k < logits.length ? mostLikely(logits, top_k) : Array.from(logits.keys());
  if (top_p < 1) ids = nucleus(ids, logits, weight, top_p);
  const weights = ids.map(weight);
  const total = weights.reduce((sum, value) => sum + value, 0);
  return { ids, probabilities: weights.map((value) => value / total) };
}

/** Those of the `count` largest logits, and all that are as large as the smallest of these. */
function mostLikely(logits: Float32Array, count: number): number[] {
  const smallest = nthLargest(logits, count);
  const ids: number[] = [];
  for (let id = 0; id < logits.length; id++) if (logits[id] >= smallest) ids.push(id);
  return ids;
}

/** Of more it takes less time to sort all: a vocabulary of 50,000, where this takes a twentieth of the time for 50. */
const fewLargest = 1000;

function nthLargest(logits: Float32Array, count: number): number {
  if (count > fewLargest) return logits.toSorted()[logits.length - count];
  // The largest so far, in falling order.
  const best = new Float32Array(count).fill(Number.NEGATIVE_INFINITY);
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] <= best[count - 1]) continue;
    let place = count - 1;
    for (; place > 0 && best[place - 1] < logits[id]; place--) best[place] = best[place - 1];
    best[place] = logits[id];
  }
  return best[count - 1];
}

/** How far below the best a weight is, as a factor e^-n, that is looked at first: few tokens are as near, and they hold most of the probability. */
const reaches = [6, 12, Number.POSITIVE_INFINITY];

/** The fewest tokens whose weights are more than a share of all, at least one; in the order of `ids`. */
function nucleus(ids: number[], logits: Float32Array, weight: (id: number) => number, share: number): number[] {
  const sumOf = (some: readonly number[]) => some.reduce((sum, id) => sum + weight(id), 0);
  const total = sumOf(ids);
  let near = ids;
  for (const reach of reaches) {
    near = ids.filter((id) => weight(id) >= Math.exp(-reach));
    if (sumOf(near) >= share * total) break;
  }
  // Of equal ones the later counts as the more probable, which is where a stable sort in rising order puts it.
  const rising = near.toSorted((a, b) => logits[a] - logits[b] || a - b);
  let sum = total - sumOf(near);
  let first = 0;
  for (; first < rising.length - 1; first++) {
    sum += weight(rising[first]);
    if (sum > (1 - share) * total) break;
  }
  return rising.slice(first).sort((a, b) => a - b);
}

/** Each id once, however often it was seen. */
export function penalize(logits: Float32Array, seen: Iterable<number>, penalty: number): void {
  if (penalty === 1) return;
  for (const id of new Set(seen)) if (id < logits.length) logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
}

/** The first of the largest. */
function largest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  return best;
}

function checkFinite(logits: Float32Array): void {
  // No sum of so few numbers of 32 bits is beyond 64.
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += logits[id];
  if (!Number.isFinite(sum)) throw new FailureError(`the model's logits are not finite: ${overflow}`);
}
