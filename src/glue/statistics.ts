/** What runs over GLUE come to: a model's scores, and how much of another model's it keeps. */

import { InputError } from '../errors.ts';
import { hashText } from '../nn/random.ts';
import { CounterRandom } from '../training/random.ts';
import { checkDevSets, type GlueResults, type GlueRun } from './results.ts';
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
  range: Range;
  seeds: number;
  /** In training, without padding: median over the seeds. */
  tokensPerSecond: number;
  inMean: boolean;
}

export interface GlueSummary {
  scores: GlueScore[];
  /** Over the scores, MNLI counting as two, WNLI not at all; absent where there is none. */
  mean?: number;
  meanWithoutCola?: number;
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

/** Of sorted values; between two of them linear. */
export function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)];
  return below + (sorted[Math.ceil(at)] - below) * (at % 1);
}

/** Of what there is: tasks without runs are left out, those with some of their seeds are not. */
export function summarize(results: GlueResults): GlueSummary {
  const scores = glueTasks.flatMap((task) => {
    const runs = results.tasks[task.name]?.runs ?? [];
    return (runs.length > 0 ? task.sets : []).map(({ name }): GlueScore => {
      const own = runs.map((run) => run.scores[name]);
      const tokensPerSecond = median(runs.map((run) => run.tokensPerSecond));
      const range: Range = [Math.min(...own), Math.max(...own)];
      return { name, metric: task.metric, score: median(own), range, seeds: runs.length, tokensPerSecond, inMean: task.inMean };
    });
  });
  const counted = scores.filter(({ inMean }) => inMean);
  const meanOf = (some: GlueScore[]) => (some.length > 0 ? mean(some.map(({ score }) => score)) : undefined);
  return { scores, mean: meanOf(counted), meanWithoutCola: meanOf(counted.filter(({ name }) => name !== 'CoLA')) };
}

/** How much of another model's mean a model keeps: 1 is all of it. Not a number where the other's mean is not above 0. */
export interface Kept {
  /** Names of the sets that both models have scores of. */
  sets: string[];
  ratio: number;
  /**
   * Over the seeds: the ratios of both models' means with seed 0, with seed 1, and so on. A model that has fewer seeds of a set than the
   * other (or of another set) stands there with its median.
   */
  range: Range;
  /** What 95 % of resamples of the dev sets lie in (see {@link keptOf}). */
  interval: Range;
}

/** Which model: the one that is compared, the one that it is compared with. */
type Side = 0 | 1;

/** One set with both models' runs, and both models' medians over seeds in each resample. */
interface Pair {
  name: string;
  runs: readonly [readonly GlueRun[], readonly GlueRun[]];
  resampled: readonly [Float64Array, Float64Array];
}

/**
 * The ratio of a model's mean to another's, over the scores that both have (WNLI left out), with CoLA and without.
 *
 * The interval is a bootstrap's (Efron's percentiles): in each of `resamples` (1000) resamples as many examples as a dev set has are drawn
 * from it with replacement, the same ones for both models and all their seeds, since both answered the same examples; each run's score is
 * computed anew from its stored predictions, and from there on all is as for the ratio itself: medians over seeds, means over sets. The
 * draws depend on the set's name and the resample's number alone. It says how far the choice of dev examples matters, not what other
 * seeds would give: that is the range's.
 * @throws InputError if both have no score in common, or their dev sets differ; `folder`: where the other's results come from
 */
export function keptOf(results: GlueResults, other: GlueResults, folder: string, resamples = 1000): { all: Kept; withoutCola?: Kept } {
  const pairs = glueTasks.flatMap((task): Pair[] => {
    const [own, others] = [results.tasks[task.name], other.tasks[task.name]];
    if (!task.inMean || !own?.runs.length || !others?.runs.length) return [];
    checkDevSets(task, own.labels, folder, other);
    const runs = [own.runs, others.runs] as const;
    return task.sets.map(({ name }) => ({ name, runs, resampled: resampledMedians(task, name, own.labels[name], runs, resamples) }));
  });
  if (pairs.length === 0) throw new InputError(`${folder}: has results of ${taskNames(other)}, expected some of ${taskNames(results)}`);
  const withoutCola = pairs.filter(({ name }) => name !== 'CoLA');
  return { all: keptOver(pairs, resamples), withoutCola: withoutCola.length > 0 ? keptOver(withoutCola, resamples) : undefined };
}

/** What a model's feedforward layers still do: of a score, or of a mean, (model - none) / (dense - none). */
export interface Contribution {
  /** A set's name, or what the mean is over. */
  name: string;
  /** Medians over seeds: the model, the one it was made from, and the same without feedforward. */
  model: number;
  dense: number;
  none: number;
  /** 1: all; 0: nothing; not a number where feedforward makes no difference to the dense model. */
  kept: number;
}

/**
 * The feedforward's contribution kept, of each set that all three have scores of, and of their mean with CoLA and without. Where the
 * network without feedforward is about as good as the dense one, the ratio says little: both are there to be looked at.
 * @throws InputError if they have no score in common
 */
export function contributionOf(results: GlueResults, dense: GlueResults, none: GlueResults): Contribution[] {
  const [own, others, bare] = [results, dense, none].map((of) => new Map(summarize(of).scores.map((score) => [score.name, score])));
  const of = (name: string, sets: readonly string[]): Contribution => {
    const [a, b, c] = [own, others, bare].map((scores) => mean(sets.map((set) => (scores.get(set) as GlueScore).score)));
    return { name, model: a, dense: b, none: c, kept: b === c ? Number.NaN : (a - c) / (b - c) };
  };
  const sets = [...own.values()].filter(({ name, inMean }) => inMean && others.has(name) && bare.has(name)).map(({ name }) => name);
  if (sets.length === 0) throw new InputError(`the three have no score in common: ${[results, dense, none].map(taskNames).join('; ')}`);
  const rows = sets.map((set) => of(set, [set]));
  const withoutCola = sets.filter((set) => set !== 'CoLA');
  if (sets.length > 1) rows.push(of('mean', sets));
  if (withoutCola.length > 1 && withoutCola.length < sets.length) rows.push(of('without CoLA', withoutCola));
  return rows;
}

function keptOver(pairs: readonly Pair[], resamples: number): Kept {
  const ratio = (scoreOf: (pair: Pair, side: Side) => number) => {
    const [own, other] = ([0, 1] as const).map((side) => mean(pairs.map((pair) => scoreOf(pair, side))));
    return other > 0 ? own / other : Number.NaN;
  };
  const medianOf = ({ name, runs }: Pair, side: Side) => median(runs[side].map(({ scores }) => scores[name]));
  const seeds = new Set(pairs.flatMap(({ runs }) => runs.flat().map(({ seed }) => seed)));
  const bySeed = [...seeds].map((seed) =>
    ratio((pair, side) => pair.runs[side].find((run) => run.seed === seed)?.scores[pair.name] ?? medianOf(pair, side)),
  );
  const byResample = Array.from({ length: resamples }, (_, index) => ratio(({ resampled }, side) => resampled[side][index]));
  byResample.sort((a, b) => a - b);
  return {
    sets: pairs.map(({ name }) => name),
    ratio: ratio(medianOf),
    range: [Math.min(...bySeed), Math.max(...bySeed)],
    interval: byResample.some(Number.isNaN) ? [Number.NaN, Number.NaN] : [quantile(byResample, 0.025), quantile(byResample, 0.975)],
  };
}

function resampledMedians(
  task: GlueTask,
  set: string,
  labels: readonly number[],
  runs: Pair['runs'],
  resamples: number,
): Pair['resampled'] {
  const metric = glueMetrics[task.metric];
  const drawn = new Int32Array(labels.length);
  const [truth, answers] = [new Float64Array(labels.length), new Float64Array(labels.length)];
  const gather = (values: readonly number[], into: Float64Array) => {
    for (let i = 0; i < drawn.length; i++) into[i] = values[drawn[i]];
    return into;
  };
  const result = [new Float64Array(resamples), new Float64Array(resamples)] as const;
  for (let resample = 0; resample < resamples; resample++) {
    const random = new CounterRandom(0, hashText(set), resample);
    for (let i = 0; i < drawn.length; i++) drawn[i] = random.below(labels.length);
    gather(labels, truth);
    for (const side of [0, 1] as const)
      result[side][resample] = median(runs[side].map(({ predictions }) => metric(gather(predictions[set], answers), truth)));
  }
  return result;
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const taskNames = ({ tasks }: GlueResults) => Object.keys(tasks).join(', ') || 'no task';
