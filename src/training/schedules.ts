/**
 * Learning-rate schedules: multipliers of the peak learning rate. `progress` is the spent share of the budget, in [0, 1], be it
 * tokens, steps or time, so one function serves every kind of budget.
 */

export const scheduleNames = ['budget-triangle', 'cosine', 'linear', 'constant'] as const;
export type ScheduleName = (typeof scheduleNames)[number];

/**
 * crammedBERT's budget-triangle (arXiv 2212.14034): rises linearly from `base` to 1 until a share of `falloff` is left, then falls
 * linearly to 0 at the end of the budget.
 */
export function budgetTriangle(progress: number, base = 0.25, falloff = 0.25): number {
  const peak = 1 - falloff;
  if (progress <= peak) return base + (1 - base) * (progress / peak);
  return Math.max(0, (1 - progress) / falloff);
}

/** Rises linearly from 0 over the first `warmup` (a share of the budget), then follows half a cosine down to 0. */
export function cosineWithWarmup(progress: number, warmup = 0.1): number {
  if (progress < warmup) return progress / warmup;
  return 0.5 * (1 + Math.cos(Math.PI * Math.min(1, (progress - warmup) / (1 - warmup))));
}

/** Rises linearly from 0 over the first `warmup` (a share of the budget), then falls linearly to 0. */
export function linearWithWarmup(progress: number, warmup = 0.06): number {
  if (progress < warmup) return progress / warmup;
  return Math.max(0, (1 - progress) / (1 - warmup));
}

/** The multiplier of a schedule by its name, with its usual shape. */
export function learningRateMultiplier(schedule: ScheduleName, progress: number): number {
  switch (schedule) {
    case 'budget-triangle':
      return budgetTriangle(progress);
    case 'cosine':
      return cosineWithWarmup(progress);
    case 'linear':
      return linearWithWarmup(progress);
    case 'constant':
      return 1;
  }
}
