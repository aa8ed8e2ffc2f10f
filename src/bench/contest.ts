/** Runs several ways to do the same work by turns, so that what disturbs the machine disturbs all of them. */
import { summarize, type Timing } from './timing.ts';

export interface Contestant {
  /** Does the work so many times, each time on other input, and waits until it is done. */
  run(times: number): Promise<void>;
  /** After its turn: waits until it has left the cores to the next one. Takes no part in its time. */
  rest?(): Promise<void>;
}

/**
 * Milliseconds that one piece of work takes each contestant: the median over `rounds`, in each of which every contestant works for about
 * `roundMilliseconds`. Rounds come after a warm-up that also finds how often that is; whom a contestant comes after, whose data the caches
 * then hold, changes from round to round.
 */
export async function contest(
  contestants: readonly Contestant[],
  options: { rounds: number; roundMilliseconds: number },
): Promise<Timing[]> {
  const once = async (contestant: Contestant, times: number) => {
    const started = performance.now();
    await contestant.run(times);
    return (performance.now() - started) / times;
  };
  const times: number[] = [];
  for (const contestant of contestants) {
    await once(contestant, 1);
    const first = await once(contestant, 1);
    const several = Math.max(1, Math.min(64, Math.floor(options.roundMilliseconds / first / 4)));
    const usual = several > 1 ? await once(contestant, several) : first;
    times.push(Math.max(1, Math.min(10_000, Math.round(options.roundMilliseconds / usual))));
    await contestant.rest?.();
  }
  const count = contestants.length;
  const samples: number[][] = contestants.map(() => []);
  for (let round = 0; round < options.rounds; round++) {
    for (let turn = 0; turn < count; turn++) {
      // 0, count - 1, 1, count - 2 ... from `round` on: of an even number, each comes after each other once in as many rounds.
      const i = (round + (turn % 2 ? count - (turn + 1) / 2 : turn / 2)) % count;
      samples[i].push(await once(contestants[i], times[i]));
      await contestants[i].rest?.();
    }
  }
  return samples.map(summarize);
}
