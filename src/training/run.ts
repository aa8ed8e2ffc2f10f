/** What trainings that can be stopped and resumed have in common: a folder, a clock, and when they measure and save. */

import { alone, type Group } from '../distributed/group.ts';
import { FailureError, memoryError, overflow } from '../errors.ts';
import { checkSameInputs, type Shared, sharedSession } from './meeting.ts';
import { openRunFolder, type RunFolder, type RunInputs, type RunKind } from './run_folder.ts';
import type { RankOptions, StepResult } from './trainer.ts';

/** What may differ from session to session of one run. */
export interface RunSession {
  out: string;
  resume: boolean;
  /** Seconds between saves, and between measurements on held-out text. */
  checkpointEvery: number;
  evaluateEvery: number;
  /** Stops after the step at hand, saved. */
  signal?: AbortSignal;
  /** The log that the caller writes: noted, so that who resumes the run can go on with it. */
  log?: string;
  /** Before the first step: `id` tells the run from others, `step` is the last one that was saved. */
  onStart?(run: { id: string; step: number }): Promise<void> | void;
  onNotice?(line: string): void;
  /** Milliseconds; for tests. */
  now?(): number;
  /** Those that work on the run together, all of them with the same options; absent: this process alone. */
  ranks?: RankOptions;
}

/** What work in a folder is given. */
export interface RunPlace {
  folder: RunFolder;
  /** What is added is disposed at the end, in reverse. */
  open: Disposable[];
  group: Group;
  /** The session's clock and signal, as all ranks see them. */
  shared: Shared;
}

/**
 * Does `work` in the folder of a command's run, a new one unless it is resumed, that this process, or the first of a group, has to itself
 * meanwhile. A folder that was made and in which no run was recorded is taken away.
 */
export async function inRunFolder<Result>(
  kind: RunKind,
  session: Pick<RunSession, 'out' | 'resume' | 'log' | 'onNotice' | 'now' | 'signal' | 'ranks'>,
  inputs: RunInputs,
  work: (place: RunPlace) => Promise<Result>,
): Promise<Result> {
  const { out, resume, log, onNotice, ranks } = session;
  const group = ranks?.group ?? alone;
  await checkSameInputs(group, inputs);
  const folder = await openTogether(group, () => openRunFolder(out, { kind, resume, inputs, log, onNotice }));
  const open: Disposable[] = [];
  try {
    return await work({ folder, open, group, shared: sharedSession(group, session) });
  } catch (error) {
    throw memoryError(error, out);
  } finally {
    for (const resource of open.reverse()) resource[Symbol.dispose]();
    await folder.close();
  }
}

/** The first rank's folder: the others know of it and write nothing. */
async function openTogether(group: Group, open: () => Promise<RunFolder>): Promise<RunFolder> {
  let own: RunFolder | undefined;
  const { isNew, id } = await group.fromFirst('a folder', async () => {
    own = await open();
    return { isNew: own.isNew, id: own.id };
  });
  if (group.size === 1) return own as RunFolder;
  return {
    isNew,
    id,
    record: (options) => group.fromFirst('a record', () => own?.record(options)),
    close: async () => own?.close(),
  };
}

/** Seconds over all sessions of a run, and tokens a second over the last of them. */
export class RunClock {
  private readonly now: () => number;
  private readonly started: number;
  private mark: { seconds: number; tokens: number };
  private rate = 0;

  constructor({ now }: Pick<RunSession, 'now'>, spent: { seconds: number; tokens: number }) {
    this.now = now ?? (() => performance.now());
    this.started = this.now() - spent.seconds * 1000;
    this.mark = { ...spent };
  }

  get seconds(): number {
    return (this.now() - this.started) / 1000;
  }

  /** Over the last seconds; 0 in the first. `tokens`: of the whole run. */
  tokensPerSecond(tokens: number): number {
    const { seconds } = this;
    if (seconds - this.mark.seconds > 2) {
      this.rate = (tokens - this.mark.tokens) / (seconds - this.mark.seconds);
      this.mark = { seconds, tokens };
    }
    return this.rate;
  }
}

/** Why a run is saved: the time between saves is over, a measurement that was due is taken, the signal says stop, the budget is spent. */
export type SaveOccasion = 'interval' | 'measured' | 'stop' | 'end';

/** A training in steps. */
export interface Steps {
  /** Whether the budget is spent. */
  done(): boolean;
  /** Whether a measurement is to be taken before the next step, whatever the clock says: by the progress, so that a resumed run knows it too. */
  due(): boolean;
  step(): Promise<void>;
  /** Measures on held-out text. */
  evaluate(): Promise<void>;
  save(occasion: SaveOccasion): Promise<void>;
}

/** Steps until the budget is spent (true) or the signal says stop (false); measures and saves at the session's intervals and at the end. */
export async function takeSteps(
  { signal, meet, checkpointEvery, evaluateEvery }: Pick<Shared, 'signal' | 'meet'> & Pick<RunSession, 'checkpointEvery' | 'evaluateEvery'>,
  clock: RunClock,
  steps: Steps,
): Promise<boolean> {
  if (steps.done()) return true;
  let [saved, evaluated] = [clock.seconds, clock.seconds];
  while (!signal?.aborted) {
    // At the start: it was stopped before the measurement.
    if (!steps.due()) await steps.step();
    await meet?.();
    const [ended, due] = [steps.done(), steps.due()];
    const measures = ended || due || (!signal?.aborted && clock.seconds - evaluated >= evaluateEvery);
    if (measures) {
      await steps.evaluate();
      evaluated = clock.seconds;
    }
    if (ended || (measures && steps.done())) {
      await steps.save('end');
      return true;
    }
    if (signal?.aborted) break;
    if (due || clock.seconds - saved >= checkpointEvery) {
      await steps.save(due ? 'measured' : 'interval');
      saved = clock.seconds;
    }
  }
  await steps.save('stop');
  return false;
}

/** @throws FailureError, naming the last checkpoint (of step 0: none yet) where there are any, if a step's loss or gradient is not finite */
export function checkFinite(
  { loss, gradientNorm }: StepResult,
  at: { step: number; learningRate: number; advice?: string; saved?: { step: number; out: string } },
): void {
  if (Number.isFinite(loss) && Number.isFinite(gradientNorm)) return;
  const what = Number.isFinite(loss) ? "the gradient's norm" : 'the loss';
  if (at.step === 1)
    throw new FailureError(
      `step 1: ${what} is not finite, before anything was trained: of the model that the training starts from, ${overflow}`,
    );
  const { saved, advice = 'try a lower learning rate' } = at;
  const checkpoint = saved?.step ? `the last good checkpoint is that of step ${saved.step} in ${saved.out}` : 'there is no checkpoint yet';
  throw new FailureError(
    `step ${at.step}: ${what} is not finite (learning rate ${at.learningRate.toPrecision(3)}); ${saved ? `${checkpoint}; ` : ''}${advice}`,
  );
}
