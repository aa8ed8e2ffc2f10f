import { Arena } from '../backend/arena.ts';
import type { Device } from '../backend/device.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import type { Tensor } from '../backend/tensor.ts';
import { alone, type Group } from '../distributed/group.ts';
import { Session } from '../models/session.ts';
import type { Context, Parameter } from '../nn/parameter.ts';
import { GradientSums } from './gradient_sums.ts';
import { AdamW, type AdamWOptions } from './optimizer.ts';

/**
 * A part of a step's work (a micro-batch): adds the gradients of `scale` x the sum of its losses to the parameters' gradients and
 * returns the losses, unscaled, of any shape.
 */
export type Pass = (context: Context, scale: number) => Tensor;

export interface StepResult {
  /** Mean over the step's examples. */
  loss: number;
  /** Of the whole gradient before clipping. */
  gradientNorm: number;
}

/** Tokens of even splits that every node is counted with besides: the few of a step that come to a deep node say little of how it splits. */
const pseudoCount = 64;

export interface TrainerOptions {
  adamW?: AdamWOptions;
  /** Dropout with the model's probabilities; absent: none. */
  dropoutSeed?: number;
  /** Of products of matrices; f32 if absent. */
  precision?: ProductPrecision;
  /** Those that train the model together; absent: this process alone. */
  ranks?: RankOptions;
}

/** How ranks work on one model. */
export interface RankOptions {
  group: Group;
  /** Gradients travel in bf16: half of the bytes, and other weights. */
  bf16?: boolean;
  /** Each rank keeps the optimizer's moments of its share of the parameters only (ZeRO 1, arXiv 1910.02054). */
  shardOptimizer?: boolean;
}

/**
 * Trains parameters step by step, whatever the loss. A step is to accumulate, to exchange with other ranks, if there are any, and to update; it
 * is handed to the backend whole and waited for once.
 */
export class Trainer {
  readonly optimizer: AdamW;
  private readonly arena: Arena;
  private readonly session: Session;
  /** Loss, clip factor, gradient norm: read together. */
  private readonly results: Tensor;
  private readonly sums: GradientSums;
  /** Of each pass of the step at hand. */
  private losses: Tensor;

  constructor(
    readonly device: Device,
    parameters: readonly Parameter[],
    private readonly options: TrainerOptions = {},
  ) {
    const { group = alone, bf16, shardOptimizer } = options.ranks ?? {};
    this.optimizer = new AdamW(device, parameters, options.adamW, shardOptimizer ? group : alone);
    const trained = this.optimizer.parameters.map(({ parameter }) => parameter);
    this.sums = new GradientSums(device, trained, group, { bf16 });
    this.arena = new Arena(device);
    this.session = new Session(device, this.arena);
    let results: Tensor | undefined;
    try {
      results = device.zeros('step results', [3]);
      this.losses = device.zeros('losses of passes', [1]);
      this.results = results;
    } catch (error) {
      results?.dispose();
      this.optimizer.dispose();
      throw error;
    }
  }

  /**
   * One optimizer step over all passes (gradient accumulation), on the mean of their losses: `examples` is how many losses they have
   * together. Passes that other ranks take are undefined; so many of one rank's are to follow each other. All work is queued before this
   * returns; the promise is the one wait. A step of a process that is alone and that fails (a label that is no class, say) changes nothing:
   * another may follow. `balance`: how far a routing threshold moves if all of many tokens go to one side, in units of a logit; 0: not at all.
   */
  async step(passes: readonly (Pass | undefined)[], examples: number, learningRate: number, balance = 0): Promise<StepResult> {
    const { device, optimizer, results } = this;
    const { steps } = optimizer;
    try {
      this.accumulate(passes, examples, balance);
      optimizer.step(learningRate, results.view([2], 1));
      for (const { value, splits } of optimizer.buffers)
        if (splits) device.balanceThresholds({ counts: splits, thresholds: value, rate: balance, pseudoCount });
      const [total, , gradientNorm] = await device.read(results);
      return { loss: total / examples, gradientNorm };
    } catch (error) {
      this.discard(steps);
      throw error;
    }
  }

  /** Queues the passes: their losses and gradients add up, and those of other ranks. Above a `balance` of 0 they also count which side tokens took. */
  private accumulate(passes: readonly (Pass | undefined)[], examples: number, balance: number): void {
    const { device, arena, sums, optimizer } = this;
    const { dropoutSeed: seed, precision } = this.options;
    if (balance > 0) this.countSplits();
    const own = [...passes.entries()].filter((entry): entry is [number, Pass] => entry[1] !== undefined);
    if (this.losses.size < own.length) {
      this.losses.dispose();
      this.losses = device.zeros('losses of passes', [own.length]);
    }
    for (const [at, [index, pass]] of own.entries()) {
      arena.reset();
      const isLast = at === own.length - 1;
      const dropout = seed === undefined ? undefined : { seed, step: optimizer.steps * passes.length + index };
      const onGradients = isLast ? sums.onGradients : undefined;
      const losses = pass({ device, arena, training: true, dropout, precision, onGradients }, 1 / examples);
      device.sum({ input: losses, output: this.losses.view([1], at) });
      if (!isLast) sums.hold();
      device.submit(); // Starts on it while the rest is queued.
    }
    const loss = this.results.view([1], 0);
    this.addLosses(own.length, loss);
    sums.finish(
      [loss],
      optimizer.buffers.flatMap(({ splits }) => splits ?? []),
    );
  }

  /** In the order of {@link GradientSums}. */
  private addLosses(count: number, output: Tensor): void {
    const { device, losses } = this;
    for (let step = 1; step < count; step *= 2)
      for (let left = 0; left + step < count; left += 2 * step) {
        const sum = losses.view([1], left);
        device.add({ a: sum, b: losses.view([1], left + step), output: sum });
      }
    if (count === 0) device.fill({ output, value: 0 });
    else device.copy({ input: losses.view([1], 0), output });
  }

  /** After a failure: what the passes have added is forgotten. `steps`: taken before. */
  private discard(steps: number): void {
    const { device, optimizer } = this;
    optimizer.discard(steps);
    this.sums.discard();
    for (const { splits } of optimizer.buffers) if (splits) device.fill({ output: splits, value: 0 });
  }

  /** From now on the backward passes count which side tokens took. */
  private countSplits(): void {
    for (const buffer of this.optimizer.buffers)
      buffer.splits ??= this.device.zeros(`${buffer.name}.splits`, [...buffer.value.shape, 2], 'i32');
  }

  /** Runs something that changes nothing, on the trainer's scratch memory; what `work` computes is gone with the next step. */
  inference<Result>(work: (context: Context) => Promise<Result>): Promise<Result> {
    return this.session.pass(work);
  }

  /** Frees the optimizer and the scratch memory; the model stays. */
  dispose(): void {
    for (const buffer of this.optimizer.buffers) {
      buffer.splits?.dispose();
      buffer.splits = undefined;
    }
    this.optimizer.dispose();
    this.sums.dispose();
    this.session.dispose();
    this.results.dispose();
    this.losses.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
