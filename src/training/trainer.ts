import { Arena } from '../backend/arena.ts';
import type { Device } from '../backend/device.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import type { Tensor } from '../backend/tensor.ts';
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

/** Trains parameters step by step, whatever the loss. A step is handed to the backend whole and waited for once. */
export class Trainer {
  readonly optimizer: AdamW;
  private readonly arena: Arena;
  /** Loss, clip factor, gradient norm: read together. */
  private readonly results: Tensor;

  /** `dropoutSeed`: dropout with the model's probabilities; absent: none. `precision`: of products of matrices. */
  constructor(
    readonly device: Device,
    parameters: readonly Parameter[],
    private readonly options: { adamW?: AdamWOptions; dropoutSeed?: number; precision?: ProductPrecision } = {},
  ) {
    this.optimizer = new AdamW(device, parameters, options.adamW);
    this.arena = new Arena(device);
    try {
      this.results = device.zeros('step results', [3]);
    } catch (error) {
      this.optimizer.dispose();
      throw error;
    }
  }

  /**
   * One optimizer step over all passes (gradient accumulation), on the mean of their losses: `examples` is how many losses they have
   * together. All work is queued before this returns; the promise is the one wait. A step that fails (a label that is no class, say) changes
   * nothing: another may follow. `balance`: how far a routing threshold moves if all of many tokens go to one side, in units of a logit; 0:
   * not at all.
   */
  async step(passes: readonly Pass[], examples: number, learningRate: number, balance = 0): Promise<StepResult> {
    const { steps } = this.optimizer;
    try {
      if (balance > 0) this.countSplits();
      this.queueStep(passes, examples, learningRate, balance);
      const [total, , gradientNorm] = await this.device.read(this.results);
      return { loss: total / examples, gradientNorm };
    } catch (error) {
      this.optimizer.discard(steps);
      for (const { splits } of this.optimizer.buffers) if (splits) this.device.fill({ output: splits, value: 0 });
      throw error;
    }
  }

  private queueStep(passes: readonly Pass[], examples: number, learningRate: number, balance: number): void {
    const { device, arena, results, optimizer } = this;
    const { dropoutSeed: seed, precision } = this.options;
    const loss = results.view([1], 0);
    device.fill({ output: loss, value: 0 });
    for (const [index, pass] of passes.entries()) {
      arena.reset();
      const dropout = seed === undefined ? undefined : { seed, step: optimizer.steps * passes.length + index };
      const losses = pass({ device, arena, training: true, dropout, precision }, 1 / examples);
      device.sum({ input: losses, output: loss, accumulate: true });
      device.submit(); // Starts on it while the rest is queued.
    }
    optimizer.step(learningRate, results.view([2], 1));
    for (const { value, splits } of optimizer.buffers)
      if (splits) device.balanceThresholds({ counts: splits, thresholds: value, rate: balance, pseudoCount });
  }

  /** From now on the backward passes count which side tokens took. */
  private countSplits(): void {
    for (const buffer of this.optimizer.buffers)
      buffer.splits ??= this.device.zeros(`${buffer.name}.splits`, [...buffer.value.shape, 2], 'i32');
  }

  /** Runs something that changes nothing, on the trainer's scratch memory; what `work` computes is gone with the next step. */
  inference<Result>(work: (context: Context) => Promise<Result>): Promise<Result> {
    this.arena.reset();
    return work({ device: this.device, arena: this.arena, training: false });
  }

  /** Frees the optimizer and the scratch memory; the model stays. */
  dispose(): void {
    for (const buffer of this.optimizer.buffers) {
      buffer.splits?.dispose();
      buffer.splits = undefined;
    }
    this.optimizer.dispose();
    this.arena.dispose();
    this.results.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
