/** Runs several ways to do the same work by turns, so that what disturbs the machine disturbs all of them. */
import { summarise, type Timing } from './timing.ts';

export interface Contestant {
  /** Does the work so many times, each time on other input, and waits until it is done. */
  run(times: number): Promise<void>;
}

/**
 * Milliseconds that one piece of work takes each contestant: the median over `rounds`, in each of which every contestant works for about
 * `roundMilliseconds`. Rounds come after a warm-up that also finds how often that is.
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
  }
  const samples: number[][] = contestants.map(() => []);
  for (let round = 0; round < options.rounds; round++) {
    for (const [i, contestant] of contestants.entries()) samples[i].push(await once(contestant, times[i]));
  }
  return samples.map(summarise);
}
