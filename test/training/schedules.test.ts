import { describe, expect, test } from 'vitest';
import { budgetTriangle, cosineWithWarmup, learningRateMultiplier, linearWithWarmup, scheduleNames } from '../../src/training/schedules.ts';
import { goldenJson } from '../goldens.ts';

const { steps, ...goldens } = goldenJson<{ steps: number; [schedule: string]: unknown }>('schedules.json') as { steps: number } & Record<
  string,
  number[]
>;

describe('schedules agree with the goldens', () => {
  test.each([
    ['budgetTriangle2', (progress: number) => budgetTriangle(progress, 0.25, 0.25)],
    ['cosineDecayWarmup10', (progress: number) => cosineWithWarmup(progress, 10 / steps)],
    ['linearDecayWarmup6', (progress: number) => linearWithWarmup(progress, 6 / steps)],
  ])('%s', (name, schedule) => {
    expect(goldens[name]).toHaveLength(steps);
    goldens[name].forEach((expected, step) => {
      expect(schedule(step / steps)).toBeCloseTo(expected, 12);
    });
  });
});

test('every schedule ends at 0 but the constant one, and stays there beyond the budget', () => {
  for (const name of scheduleNames) {
    for (const progress of [1, 1.5]) expect(learningRateMultiplier(name, progress)).toBeCloseTo(name === 'constant' ? 1 : 0, 12);
  }
});
