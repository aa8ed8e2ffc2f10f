/** What the loss that a training ends with says of it. */
import { mean } from './statistics.ts';

/** Nats above token frequencies alone (or guesses, of classes) from which on a model counts as having learned next to nothing. */
const farAbove = 0.5;
/** Nats above guessing evenly from which on a training counts as diverged: one that has hardly begun is about even. */
const beyondGuessing = 1;

export interface Verdict {
  diverged: boolean;
  /** What is to be said, if all is not well. */
  notice?: string;
}

/** Mean cross entropy of labels, those below 0 left out, under the frequencies of tokens, each counted once more than it occurs; nats. */
export function unigramLoss(tokens: Int32Array, labels: readonly Int32Array[], vocabularySize: number): number {
  const counts = new Float64Array(vocabularySize).fill(1);
  for (const token of tokens) counts[token]++;
  const total = tokens.length + vocabularySize;
  const losses = labels.flatMap((some) => Array.from(some).flatMap((label) => (label < 0 ? [] : [-Math.log(counts[label] / total)])));
  return mean(losses);
}

/** Of a pretraining: its loss beside that of token frequencies and of guessing evenly among the vocabulary. */
export function verdictOnPretraining(loss: number, unigram: number, vocabularySize: number): Verdict {
  const guessing = Math.log(vocabularySize);
  const ends = `the loss ends at ${loss.toFixed(2)} nats`;
  if (loss > guessing + beyondGuessing)
    return {
      diverged: true,
      notice: `${ends}, where guessing evenly among all tokens has ${guessing.toFixed(2)}: the training diverged; start again with a lower --learning-rate`,
    };
  if (loss > unigram + farAbove)
    return {
      diverged: false,
      notice: `${ends}, far above the ${unigram.toFixed(2)} of token frequencies alone: the model has learned next to nothing; train it longer, or with another --learning-rate`,
    };
  return { diverged: false };
}

/** Of a fine-tuning: its last epoch's mean loss beside that of guessing evenly among the classes, or, of a regression, the first epoch's. */
export function verdictOnFineTuning(losses: readonly number[], labels: number): Verdict {
  const [first = 0] = losses;
  const last = losses.at(-1) ?? 0;
  const limit = labels > 1 ? Math.log(labels) + beyondGuessing : 2 * first + beyondGuessing;
  if (last <= limit) return { diverged: false };
  const beside = labels > 1 ? `guessing evenly has ${Math.log(labels).toFixed(2)}` : `the first epoch's was ${first.toFixed(2)}`;
  return {
    diverged: true,
    notice: `the loss ends at ${last.toFixed(2)}, where ${beside}: the training diverged; start again with a lower learning rate`,
  };
}

/** Of a conversion: how much of the variance of hidden states and vectors (R2) it ends with; 0 is what a constant has. */
export function verdictOnConversion(r2: readonly number[]): Verdict {
  const least = Math.min(...r2);
  if (!(least < 0)) return { diverged: false };
  return {
    diverged: least < -1,
    notice: `the model ends with an R2 of ${least.toFixed(2)}, less than a constant has (0): it ${least < -1 ? 'diverged; start again with lower learning rates' : 'had too few tokens, or too high a learning rate'}`,
  };
}
