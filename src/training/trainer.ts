import { Arena } from '../backend/arena.ts';
import type { Backend } from '../backend/backend.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { Parameter, Run } from '../nn/parameter.ts';
import { AdamW, type AdamWOptions } from './optimizer.ts';

/** Sequences of one micro-batch with what is to be predicted of them; all [batch, length]. */
export interface MaskedBatch {
  batch: number;
  length: number;
  ids: Int32Array;
  /** The original id where predicted, -100 elsewhere. */
  labels: Int32Array;
}

/** What a trainer needs of a masked language model (src/models). */
export interface TrainableModel {
  readonly parameters: readonly Parameter[];
  /** Adds the gradients of `scale` times the summed losses; returns the losses, in nats, of the predicted positions. */
  lossAndGradients(run: Run, batch: MaskedBatch, options?: { scale?: number }): Tensor;
  /** The losses, in nats, of the predicted positions. */
  losses(run: Run, batch: MaskedBatch): Tensor;
}

export interface StepResult {
  /** Mean over the predicted positions, nats. */
  loss: number;
  /** Of the whole gradient before clipping. */
  gradientNorm: number;
}

/** Trains a model step by step. A step is handed to the backend whole and waited for once. */
export class Trainer {
  readonly optimizer: AdamW;
  private readonly arena: Arena;
  /** Loss, clip factor, gradient norm: read together. */
  private readonly results: Tensor;

  constructor(
    readonly backend: Backend,
    readonly model: TrainableModel,
    options?: AdamWOptions,
  ) {
    this.optimizer = new AdamW(backend, model.parameters, options);
    this.arena = new Arena(backend);
    this.results = backend.zeros('step results', [3]);
  }

  /**
   * One optimiser step over the micro-batches (gradient accumulation): the gradient is of the mean loss over all their predicted
   * positions. All work is queued before this returns; the promise is the one wait.
   */
  step(batches: readonly MaskedBatch[], learningRate: number): Promise<StepResult> {
    const { backend, arena, results } = this;
    const predicted = batches.reduce((sum, { labels }) => sum + countPredicted(labels), 0);
    const loss = results.view([1], 0);
    backend.fill({ output: loss, value: 0 });
    for (const batch of batches) {
      arena.reset();
      const losses = this.model.lossAndGradients({ backend, arena, training: true }, batch, { scale: 1 / predicted });
      backend.sum({ input: losses, output: loss, accumulate: true });
    }
    this.optimizer.step(learningRate, results.view([2], 1));
    return backend.read(results).then(([total, , gradientNorm]) => ({ loss: total / predicted, gradientNorm }));
  }

  /** Mean loss over the predicted positions of some batches, nats; nothing is changed. */
  async evaluate(batches: readonly MaskedBatch[]): Promise<number> {
    const { backend, arena, results } = this;
    const loss = results.view([1], 0);
    backend.fill({ output: loss, value: 0 });
    for (const batch of batches) {
      arena.reset();
      backend.sum({ input: this.model.losses({ backend, arena, training: false }, batch), output: loss, accumulate: true });
    }
    const [total] = await backend.read(loss);
    return total / batches.reduce((sum, { labels }) => sum + countPredicted(labels), 0);
  }

  /** Frees the optimiser and the scratch memory; the model stays. */
  dispose(): void {
    this.optimizer.dispose();
    this.arena.dispose();
    this.results.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function countPredicted(labels: Int32Array): number {
  let count = 0;
  for (const label of labels) if (label >= 0) count++;
  return count;
}
