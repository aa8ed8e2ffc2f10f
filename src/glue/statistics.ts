/** What runs over GLUE come to: a model's scores, and how much of another model's it keeps. */

import { hashText } from '../nn/random.ts';
import { CounterRandom } from '../training/random.ts';
import { mean, median, quantile, sorted } from '../training/statistics.ts';
import type { GlueResults, SeedResult } from './results.ts';
import { type GlueTask, glueMetrics, glueTasks } from './tasks.ts';

/** The smallest and the largest, or the ends of an interval. */
export type Range = [low: number, high: number];

/** One set's score over the seeds. */
export interface GlueScore {
  /** The set's name: the task's, or MNLI-m and MNLI-mm. */
  name: string;
  metric: string;
  /** Median over the seeds. */
  score: number;
  /** Mean over the seeds. */
  mean: number;
  range: Range;
  seeds: number;
  /** In training, without padding: median over the seeds. */
  tokensPerSecond: number;
  inMean: boolean;
}

export interface GlueSummary {
  scores: GlueScore[];
  /** Over the scores' medians, MNLI counting as two, WNLI not at all; absent where there is none. */
  mean?: number;
  meanWithoutCola?: number;
  /** The same over their means. */
  meanOfMeans?: number;
  meanOfMeansWithoutCola?: number;
}

/** Of what there is: tasks without runs are left out, those with some of their seeds are not. */
export function summarize(results: GlueResults): GlueSummary {
  const scores = glueTasks.flatMap((task) => {
    const runs = results.tasks[task.name]?.runs ?? [];
    return (runs.length > 0 ? task.sets : []).map(({ name }): GlueScore => {
      const own = runs.map((result) => result.scores[name]);
      const tokensPerSecond = median(runs.map((result) => result.tokensPerSecond));
      const range: Range = [Math.min(...own), Math.max(...own)];
      const { metric, inMean } = task;
      return { name, metric, score: median(own), mean: mean(own), range, seeds: runs.length, tokensPerSecond, inMean };
    });
  });
  const counted = scores.filter(({ inMean }) => inMean);
  const withoutCola = counted.filter(({ name }) => name !== 'CoLA');
  const meanOf = (some: GlueScore[], of: 'score' | 'mean') => (some.length > 0 ? mean(some.map((score) => score[of])) : undefined);
  return {
    scores,
    mean: meanOf(counted, 'score'),
    meanWithoutCola: meanOf(withoutCola, 'score'),
    meanOfMeans: meanOf(counted, 'mean'),
    meanOfMeansWithoutCola: meanOf(withoutCola, 'mean'),
  };
}

/** A ratio of two models' means over sets, or of differences of such means. */
interface Spread {
  /** Not a number where what it is a share of is not above 0. */
  ratio: number;
  /**
   * Over the seeds: the ratios of the models' means with seed 0, with seed 1, and so on. A model that has fewer seeds of a set than another
   * (or of another set) stands there with its median.
   */
  range: Range;
  /** What 95 % of resamples of the dev sets lie in (see {@link keptOf}); like `range`, no numbers if one of the ratios is none. */
  interval: Range;
}

/** How much of another model's mean a model keeps: 1 is all of it. */
export interface Kept extends Spread {
  /** Names of the sets that both models have scores of. */
  sets: string[];
}

/**
 * The ratio of a model's mean to another's, over the scores that both have (WNLI left out), with CoLA and without; undefined where they
 * have none in common. Their dev sets must be the same (see `checkDevSets`).
 *
 * The interval is a bootstrap's (Efron's percentiles): in each of `resamples` (1000) resamples as many examples as a dev set has are drawn
 * from it with replacement, the same ones for both models and all their seeds, since both answered the same examples; each run's score is
 * computed anew from its stored predictions, and from there on all is as for the ratio itself: medians over seeds, means over sets. The
 * draws depend on the set's name and the resample's number alone. It says how far the choice of dev examples matters, not what other
 * seeds would give: that is the range's.
 */
export function keptOf(results: GlueResults, other: GlueResults, resamples = 1000): { all: Kept; withoutCola?: Kept } | undefined {
  const sets = comparedSets([results, other], resamples);
  if (sets.length === 0) return undefined;
  const keptOver = (some: readonly ComparedSet[]): Kept => {
    const { ratio, range, interval } = spreadOver(some, ([own, others]) => [own, others]);
    return { sets: some.map(({ name }) => name), ratio, range, interval };
  };
  const withoutCola = sets.filter(({ name }) => name !== 'CoLA');
  return { all: keptOver(sets), withoutCola: withoutCola.length > 0 ? keptOver(withoutCola) : undefined };
}

/** What a model's feedforward layers still do: of a score, or of a mean, (model - none) / (dense - none). */
export interface Contribution extends Omit<Spread, 'ratio'> {
  /** A set's name, or what the mean is over. */
  name: string;
  /** Medians over seeds: the model, the one it was made from, and the same without feedforward. */
  model: number;
  dense: number;
  none: number;
  /** 1: all; 0: nothing; not a number where the dense model is not better with feedforward than without. */
  kept: number;
}

/**
 * The feedforward's contribution kept, of each set that all three have scores of (none: no rows), and of their mean with CoLA and without;
 * range and interval as {@link keptOf}'s. Where the network without feedforward is about as good as the dense one, the ratio says little:
 * both are there to be looked at.
 */
export function contributionOf(results: GlueResults, dense: GlueResults, none: GlueResults, resamples = 1000): Contribution[] {
  const row = (name: string, some: readonly ComparedSet[]): Contribution => {
    const spread = spreadOver(some, ([a, b, c]) => [a - c, b - c]);
    const { ratio: kept, range, interval } = spread;
    const [a, b, c] = spread.means;
    return { name, model: a, dense: b, none: c, kept, range, interval };
  };
  const sets = comparedSets([results, dense, none], resamples);
  const withoutCola = sets.filter(({ name }) => name !== 'CoLA');
  const rows = sets.map((set) => row(set.name, [set]));
  if (sets.length > 1) rows.push(row('mean', sets));
  if (withoutCola.length > 1 && withoutCola.length < sets.length) rows.push(row('without CoLA', withoutCola));
  return rows;
}

/** A set that counts in the mean, with each model's runs, and each model's median over seeds in each resample. */
interface ComparedSet {
  name: string;
  runs: readonly (readonly SeedResult[])[];
  resampled: readonly Float64Array[];
}

/** The sets that all models have runs of. */
function comparedSets(models: readonly GlueResults[], resamples: number): ComparedSet[] {
  return glueTasks.flatMap((task) => {
    const runs = models.map(({ tasks }) => tasks[task.name]?.runs ?? []);
    if (!task.inMean || runs.some(({ length }) => length === 0)) return [];
    const { labels } = models[0].tasks[task.name];
    return task.sets.map(({ name }) => ({ name, runs, resampled: resampledMedians(task, name, labels[name], runs, resamples) }));
  });
}

/** The ratio of what `shareOf` makes of the models' means over some sets, and those means. */
function spreadOver(
  sets: readonly ComparedSet[],
  shareOf: (means: readonly number[]) => [part: number, whole: number],
): Spread & { means: number[] } {
  const [{ runs, resampled }] = sets;
  const ratioOf = (means: readonly number[]) => {
    const [part, whole] = shareOf(means);
    return whole > 0 ? part / whole : Number.NaN;
  };
  const meansOf = (scoreOf: (set: ComparedSet, model: number) => number) =>
    runs.map((_, model) => mean(sets.map((set) => scoreOf(set, model))));
  const medianOf = ({ name, runs }: ComparedSet, model: number) => median(runs[model].map(({ scores }) => scores[name]));
  const seeds = new Set(sets.flatMap(({ runs }) => runs.flat().map(({ seed }) => seed)));
  const bySeed = [...seeds].map((seed) =>
    ratioOf(meansOf((set, model) => set.runs[model].find((result) => result.seed === seed)?.scores[set.name] ?? medianOf(set, model))),
  );
  const byResample = sorted(Array.from(resampled[0], (_, index) => ratioOf(meansOf(({ resampled }, model) => resampled[model][index]))));
  const means = meansOf(medianOf);
  return {
    means,
    ratio: ratioOf(means),
    range: [Math.min(...bySeed), Math.max(...bySeed)],
    interval: byResample.some(Number.isNaN) ? [Number.NaN, Number.NaN] : [quantile(byResample, 0.025), quantile(byResample, 0.975)],
  };
}

function resampledMedians(
  task: GlueTask,
  set: string,
  labels: readonly number[],
  runs: ComparedSet['runs'],
  resamples: number,
): Float64Array[] {
  const metric = glueMetrics[task.metric];
  const drawn = new Int32Array(labels.length);
  const [truth, answers] = [new Float64Array(labels.length), new Float64Array(labels.length)];
  const gather = (values: readonly number[], into: Float64Array) => {
    for (let i = 0; i < drawn.length; i++) into[i] = values[drawn[i]];
    return into;
  };
  const result = runs.map(() => new Float64Array(resamples));
  for (let resample = 0; resample < resamples; resample++) {
    const random = new CounterRandom(0, hashText(set), resample);
    for (let i = 0; i < drawn.length; i++) drawn[i] = random.below(labels.length);
    gather(labels, truth);
    for (const [model, own] of runs.entries())
      result[model][resample] = median(own.map(({ predictions }) => metric(gather(predictions[set], answers), truth)));
  }
  return result;
}
