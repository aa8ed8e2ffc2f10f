import { describe, expect, test } from 'vitest';
import { RunClock, takeSteps } from '../../src/training/run.ts';

/** Ten steps of a second each; a measurement, which takes none, is due after the fourth, as progress says. */
function setUp(progress = { step: 0, measuredAt: [] as number[] }, { budget = 10, patience = Number.POSITIVE_INFINITY } = {}) {
  const log: string[] = [];
  const stop = new AbortController();
  let stopAt = Number.POSITIVE_INFINITY;
  const clock = new RunClock({ now: () => 1000 * progress.step }, { seconds: progress.step, tokens: 0 });
  const run = (checkpointEvery: number, evaluateEvery: number) =>
    takeSteps({ signal: stop.signal, checkpointEvery, evaluateEvery }, clock, {
      done: () => progress.step >= budget || progress.measuredAt.length >= patience,
      due: () => progress.step === 4 && progress.measuredAt.at(-1) !== 4,
      async step() {
        log.push(`${++progress.step}`);
        if (progress.step === stopAt) stop.abort();
      },
      async evaluate() {
        if (stop.signal.aborted && progress.step === 4) return;
        progress.measuredAt.push(progress.step);
        log.push('measure');
      },
      save: async (occasion) => void log.push(occasion),
    });
  return { progress, log, run, stopAfter: (step: number) => void (stopAt = step) };
}

describe('a training in steps', () => {
  test('measures when it is due and at the end, and saves what it found', async () => {
    const { log, run } = setUp();
    expect(await run(100, 100)).toBe(true);
    expect(log.join(' ')).toBe('1 2 3 4 measure measured 5 6 7 8 9 10 measure end');
  });

  test('measures and saves at intervals', async () => {
    const { log, run } = setUp();
    expect(await run(3, 5)).toBe(true);
    // What was measured and saved for another reason begins a new interval.
    expect(log.join(' ')).toBe('1 2 3 interval 4 measure measured 5 6 7 interval 8 9 measure 10 measure end');
  });

  test('a measurement can end it', async () => {
    const { log, run } = setUp(undefined, { patience: 2 });
    expect(await run(100, 2)).toBe(true);
    expect(log.join(' ')).toBe('1 2 measure 3 4 measure end');
  });

  test('stopped before a measurement that is due, it goes on with that', async () => {
    const first = setUp();
    first.stopAfter(4);
    expect(await first.run(100, 100)).toBe(false);
    expect(first.log.join(' ')).toBe('1 2 3 4 stop');
    const second = setUp(first.progress);
    expect(await second.run(100, 100)).toBe(true);
    expect(second.log.join(' ')).toBe('measure measured 5 6 7 8 9 10 measure end');
  });

  test('stopped at its last step, it has ended; one that had ended does nothing', async () => {
    const { log, run, stopAfter, progress } = setUp();
    stopAfter(10);
    expect(await run(100, 100)).toBe(true);
    expect(log.slice(-3)).toEqual(['10', 'measure', 'end']);
    const again = setUp(progress);
    expect(await again.run(100, 100)).toBe(true);
    expect(again.log).toEqual([]);
  });
});
