import { Arena } from '../backend/arena.ts';
import type { Device } from '../backend/device.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import type { Tensor } from '../backend/tensor.ts';
import { Session } from '../models/session.ts';
import type { Context, Parameter } from '../nn/parameter.ts';
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

/** What a step's passes have summed up, each sum where the update takes it from. */
export interface StepSums {
  /** [1]: of the losses. */
  loss: Tensor;
  /**
   * Each with its `gradient` and, where that is row-sparse, its `rowMask`: rows flagged 0 are all 0, and rows that are written are to be
   * flagged 1. Routing thresholds have `splits` in place of a gradient, if they are balanced.
   */
  parameters: readonly Parameter[];
}

/**
 * Called between a step's passes and its update, where several trainers work on one model: replaces each sum by that of all trainers. All of
 * them then take the same step. May wait for others.
 */
export type Reduce = (sums: StepSums) => Promise<void> | void;

export interface TrainerOptions {
  adamW?: AdamWOptions;
  /** Dropout with the model's probabilities; absent: none. Trainers of one model have a seed each. */
  dropoutSeed?: number;
  /** Of products of matrices; f32 if absent. */
  precision?: ProductPrecision;
  /** Absent: the trainer is alone. */
  reduce?: Reduce;
}

/**
 * Trains parameters step by step, whatever the loss. A step is to accumulate, to reduce and to update; it is handed to the backend whole,
 * unless there is something to reduce, and waited for once.
 */
export class Trainer {
  readonly optimizer: AdamW;
  private readonly arena: Arena;
  private readonly session: Session;
  /** Loss, clip factor, gradient norm: read together. */
  private readonly results: Tensor;
  /** Of the step at hand. */
  private examples = 0;

  constructor(
    readonly device: Device,
    private readonly parameters: readonly Parameter[],
    private readonly options: TrainerOptions = {},
  ) {
    this.optimizer = new AdamW(device, parameters, options.adamW);
    this.arena = new Arena(device);
    this.session = new Session(device, this.arena);
    try {
      this.results = device.zeros('step results', [3]);
    } catch (error) {
      this.optimizer.dispose();
      throw error;
    }
  }

  /**
   * One optimizer step over all passes (gradient accumulation), on the mean of their losses: `examples` is how many losses they have
   * together, with those of other trainers. Without a `reduce` all work is queued before this returns; the promise is the one wait. A step
   * that fails (a label that is no class, say) changes nothing: another may follow. `balance`: how far a routing threshold moves if all of
   * many tokens go to one side, in units of a logit; 0: not at all.
   */
  async step(passes: readonly Pass[], examples: number, learningRate: number, balance = 0): Promise<StepResult> {
    this.accumulate(passes, examples, balance);
    if (this.options.reduce) await this.reduce(this.options.reduce);
    return await this.update(learningRate, balance);
  }

  /** Queues the passes: their losses and gradients add up. Above a `balance` of 0 they also count which side tokens took. */
  accumulate(passes: readonly Pass[], examples: number, balance = 0): void {
    const { device, arena, results, optimizer } = this;
    const { dropoutSeed: seed, precision } = this.options;
    this.examples = examples;
    try {
      if (balance > 0) this.countSplits();
      const loss = results.view([1], 0);
      device.fill({ output: loss, value: 0 });
      for (const [index, pass] of passes.entries()) {
        arena.reset();
        const dropout = seed === undefined ? undefined : { seed, step: optimizer.steps * passes.length + index };
        const losses = pass({ device, arena, training: true, dropout, precision }, 1 / examples);
        device.sum({ input: losses, output: loss, accumulate: true });
        device.submit(); // Starts on it while the rest is queued.
      }
    } catch (error) {
      this.discard(optimizer.steps);
      throw error;
    }
  }

  private async reduce(reduce: Reduce): Promise<void> {
    const { optimizer, results, parameters } = this;
    try {
      await reduce({ loss: results.view([1], 0), parameters: parameters.filter(({ gradient, splits }) => gradient ?? splits) });
    } catch (error) {
      this.discard(optimizer.steps);
      throw error;
    }
  }

  /** Clips the gradient, steps the optimizer and moves thresholds by `balance`; queued before it returns. The gradient is used up. */
  async update(learningRate: number, balance = 0): Promise<StepResult> {
    const { device, optimizer, results, examples } = this;
    const { steps } = optimizer;
    try {
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

  /** After a failure: what the passes have added is forgotten. `steps`: taken before. */
  private discard(steps: number): void {
    const { device, optimizer } = this;
    optimizer.discard(steps);
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
    this.session.dispose();
    this.results.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
