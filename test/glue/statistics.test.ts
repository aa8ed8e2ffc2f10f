import { describe, expect, test } from 'vitest';
import type { GlueResults, GlueTaskResult } from '../../src/glue/results.ts';
import { contributionOf, keptOf, summarize } from '../../src/glue/statistics.ts';
import { glueMetrics, glueTask } from '../../src/glue/tasks.ts';
import { median, quantile } from '../../src/training/statistics.ts';

/** Results of a task with one set, a run for each list of predictions. */
function task(name: string, labels: number[], ...predictions: number[][]): Record<string, GlueTaskResult> {
  const metric = glueMetrics[glueTask(name).metric];
  const runs = predictions.map((values, seed) => ({
    seed,
    scores: { [name]: metric(values, labels) },
    seconds: 1,
    tokensPerSecond: 100 * (seed + 1),
    predictions: { [name]: values },
    test: {},
  }));
  return { [name]: { training: 9, labels: { [name]: labels }, runs } };
}

/** Results with these scores, over the seeds, and nothing else that counts. */
function scored(scores: Record<string, number[]>): GlueResults {
  const tasks = Object.entries(scores).map(([name, values]) => {
    const [entry] = Object.values(task(name, [0, 1], ...values.map(() => [0, 1])));
    for (const [seed, score] of values.entries()) entry.runs[seed].scores[name] = score;
    return [name, entry];
  });
  return resultsOf(Object.fromEntries(tasks));
}

function resultsOf(tasks: GlueResults['tasks']): GlueResults {
  const options = { model: '/model', data: '/data', tasks: Object.keys(tasks), seeds: 3, taskSeeds: {}, epochs: 5 };
  return { options, finished: true, tasks };
}

/** What is kept, of two that have something in common. */
const kept = (...args: Parameters<typeof keptOf>) => keptOf(...args) as NonNullable<ReturnType<typeof keptOf>>;

/** `right` of `count` answers are right; the labels are all 1. */
const answers = (count: number, right: number) => Array.from({ length: count }, (_, index) => (index < right ? 1 : 0));
const ones = (count: number) => answers(count, count);

describe("the feedforward's contribution kept", () => {
  test('by set and of the means', () => {
    const [own, dense, none] = [
      scored({ CoLA: [0.3], RTE: [0.6, 0.7, 0.5], 'SST-2': [0.9] }),
      scored({ CoLA: [0.5], RTE: [0.7], 'SST-2': [0.9], MRPC: [0.8] }),
      scored({ CoLA: [0.1], RTE: [0.5, 0.4], 'SST-2': [0.9] }),
    ];
    const rows = contributionOf(own, dense, none, 10);
    expect(rows.map(({ name, kept }) => [name, kept])).toEqual([
      ['CoLA', expect.closeTo(0.5, 10)],
      ['RTE', expect.closeTo(0.15 / 0.25, 10)],
      ['SST-2', Number.NaN],
      ['mean', expect.closeTo(0.35 / 0.65, 10)],
      ['without CoLA', expect.closeTo(0.6, 10)],
    ]);
    expect(rows[0]).toMatchObject({ model: 0.3, dense: 0.5, none: 0.1 });
    // Seeds 0, 1 and 2: a seed that is missing by the median.
    const bySeed = [0.1 / 0.2, 0.3 / 0.3, 0.05 / 0.25];
    expect(rows[1].range).toEqual([expect.closeTo(Math.min(...bySeed), 10), expect.closeTo(Math.max(...bySeed), 10)]);
    expect(contributionOf(own, dense, scored({ QNLI: [0.9] }))).toEqual([]);
  });

  test('the interval is over resamples that all three models answer', () => {
    // Right on the same 40 of 100, the model on 30 more, the dense one on another 30: the 40 cancel out.
    const [own, dense, none] = [70, 100, 40].map((right) => resultsOf(task('RTE', ones(100), answers(100, right))));
    const [{ kept, interval }, ...rest] = contributionOf(own, dense, none);
    expect([kept, rest]).toEqual([expect.closeTo(0.5, 12), []]);
    // Of the about 60 examples drawn that the dense one alone gets right, each is one of the 30 with probability 0.5: a deviation of 0.0645.
    expect(interval[0]).toBeCloseTo(0.5 - 1.96 * 0.0645, 1);
    expect(interval[1]).toBeCloseTo(0.5 + 1.96 * 0.0645, 1);
    expect(contributionOf(dense, dense, none)[0].interval).toEqual([1, 1]);
  });

  test('is no number where the dense model is not better, in one resample or in all', () => {
    const [better, worse] = [100, 40].map((right) => resultsOf(task('RTE', ones(100), answers(100, right))));
    const nothing = { kept: Number.NaN, range: [Number.NaN, Number.NaN], interval: [Number.NaN, Number.NaN] };
    expect(contributionOf(better, worse, better)).toEqual([expect.objectContaining(nothing)]);
    const barely = resultsOf(task('RTE', ones(100), answers(100, 41)));
    expect(contributionOf(better, barely, worse)).toMatchObject([{ kept: expect.closeTo(60), interval: nothing.interval }]);
  });
});

test('median and quantiles', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([7])).toBe(7);
  expect(quantile([0, 10, 20, 30, 40], 0.025)).toBeCloseTo(1, 12);
  expect(quantile([0, 10], 1)).toBe(10);
});

test('scores are medians over seeds, with means beside them; WNLI does not count in the mean, MNLI counts twice', () => {
  const results = scored({ CoLA: [0.2, 0.6, 0.3], RTE: [0.5, 0.7], WNLI: [0.9] });
  const [mnli] = Object.values(task('RTE', [0], [0]));
  mnli.runs[0].scores = { 'MNLI-m': 0.8, 'MNLI-mm': 0.9 };
  results.tasks.MNLI = mnli;
  const { scores, mean, meanWithoutCola, meanOfMeans, meanOfMeansWithoutCola } = summarize(results);
  expect(scores.map(({ name, score, range, seeds }) => [name, score, range, seeds])).toEqual([
    ['WNLI', 0.9, [0.9, 0.9], 1],
    ['CoLA', 0.3, [0.2, 0.6], 3],
    ['RTE', 0.6, [0.5, 0.7], 2],
    ['MNLI-m', 0.8, [0.8, 0.8], 1],
    ['MNLI-mm', 0.9, [0.9, 0.9], 1],
  ]);
  expect(scores[1]).toMatchObject({ metric: 'Matthews', tokensPerSecond: 200 });
  expect(mean).toBeCloseTo((0.3 + 0.6 + 0.8 + 0.9) / 4, 12);
  expect(meanWithoutCola).toBeCloseTo((0.6 + 0.8 + 0.9) / 3, 12);
  expect(scores.map((score) => score.mean)).toEqual([0.9, 1.1 / 3, 0.6, 0.8, 0.9].map((value) => expect.closeTo(value, 12)));
  expect(meanOfMeans).toBeCloseTo((1.1 / 3 + 0.6 + 0.8 + 0.9) / 4, 12);
  expect(meanOfMeansWithoutCola).toBeCloseTo((0.6 + 0.8 + 0.9) / 3, 12);
  expect(summarize(scored({ WNLI: [0.5] }))).toMatchObject({ mean: undefined, meanWithoutCola: undefined });
});

describe('what is kept of another model', () => {
  test('the ratio of the means of medians over the tasks of both; seed by seed, a seed that is missing by the median', () => {
    const own = scored({ CoLA: [0.2, 0.4, 0.3], RTE: [0.6, 0.8], MRPC: [0.9], WNLI: [0.1] });
    const other = scored({ CoLA: [0.5, 0.6, 0.4], RTE: [0.7, 0.9], 'SST-2': [0.9], WNLI: [0.9] });
    const { all, withoutCola } = kept(own, other, 10);
    expect(all.sets).toEqual(['CoLA', 'RTE']);
    expect(all.ratio).toBeCloseTo((0.3 + 0.7) / (0.5 + 0.8), 12);
    // Seeds 0, 1 and 2; RTE has no seed 2.
    const bySeed = [(0.2 + 0.6) / (0.5 + 0.7), (0.4 + 0.8) / (0.6 + 0.9), (0.3 + 0.7) / (0.4 + 0.8)];
    expect(all.range[0]).toBeCloseTo(Math.min(...bySeed), 12);
    expect(all.range[1]).toBeCloseTo(Math.max(...bySeed), 12);
    expect(withoutCola).toMatchObject({ sets: ['RTE'], ratio: expect.closeTo(0.7 / 0.8, 12) });
    expect(withoutCola?.range).toEqual([expect.closeTo(6 / 7, 12), expect.closeTo(8 / 9, 12)]);
  });

  test('the interval holds 95 % of what resampling gives: the binomial distribution where the other model is always right', () => {
    const own = resultsOf(task('RTE', ones(100), answers(100, 80)));
    const other = resultsOf(task('RTE', ones(100), ones(100)));
    const { ratio, interval } = kept(own, other).all;
    expect(ratio).toBeCloseTo(0.8, 12);
    // 2.5 % and 97.5 % of a binomial distribution, 100 draws of 0.8: 72 and 87.
    expect(Math.abs(interval[0] - 0.72)).toBeLessThanOrEqual(0.0101);
    expect(Math.abs(interval[1] - 0.87)).toBeLessThanOrEqual(0.0101);
    expect(kept(own, other)).toEqual(kept(own, other));
    expect(kept(own, other, 50).all.interval).not.toEqual(interval);
  });

  test('both models answer the same resampled examples: what they have in common cancels out', () => {
    // Right on the same 60 of 100, the other model on 20 more: unpaired, the ratio would leave [0.6, 0.9] in one of 20 resamples.
    const same = resultsOf(task('SST-2', ones(100), answers(100, 60)));
    expect(kept(same, same).all.interval).toEqual([1, 1]);
    const { ratio, interval } = kept(same, resultsOf(task('SST-2', ones(100), answers(100, 80)))).all;
    expect(ratio).toBeCloseTo(0.75, 12);
    // Of the about 80 examples drawn that the other gets right, each is one of the 60 with probability 0.75: a deviation of 0.0484.
    expect(interval[0]).toBeCloseTo(0.75 - 1.96 * 0.0484, 1);
    expect(interval[1]).toBeCloseTo(0.75 + 1.96 * 0.0484, 1);
  });

  test('every seed of both models takes part by the median, every task by the mean', () => {
    // Runs of one model that differ: the median of 0.5, 0.9 and 1 is that of the second, which is right where the other model is.
    const own = resultsOf(task('RTE', ones(100), answers(100, 50), answers(100, 90), ones(100)));
    const other = resultsOf(task('RTE', ones(100), answers(100, 90)));
    expect(kept(own, other).all).toMatchObject({ ratio: 1, interval: [1, 1] });
    const more = (part: GlueResults) => resultsOf({ ...part.tasks, ...task('SST-2', ones(50), ones(50)) });
    expect(kept(more(own), more(other)).all.interval).toEqual([1, 1]);
  });

  test('the draws of a set do not depend on which others there are', () => {
    const [own, other] = [answers(100, 70), ones(100)].map((values) => resultsOf(task('RTE', ones(100), values)));
    const withCola = (part: GlueResults) => resultsOf({ ...task('CoLA', [0, 1], [0, 1]), ...part.tasks });
    expect(kept(withCola(own), withCola(other)).withoutCola).toEqual(kept(own, other).all);
  });

  test('a ratio to nothing is none', () => {
    const own = resultsOf(task('CoLA', [0, 1, 0, 1], [0, 1, 0, 1]));
    const { all, withoutCola } = kept(own, resultsOf(task('CoLA', [0, 1, 0, 1], [1, 0, 1, 0])));
    expect([all.ratio, ...all.interval]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
    expect(withoutCola).toBeUndefined();
  });

  test('nothing in common: nothing is kept', () => {
    expect(keptOf(scored({ CoLA: [0.2], WNLI: [1] }), scored({ RTE: [0.5], WNLI: [1] }))).toBeUndefined();
  });
});
