import { Arena } from '../backend/arena.ts';
import type { Backend } from '../backend/backend.ts';
import type { Tensor } from '../backend/tensor.ts';
import { ignoredLabel, type LabelledBatch, type MaskedLanguageModel } from '../models/masked_language_model.ts';
import { AdamW, type AdamWOptions } from './optimizer.ts';

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
    readonly model: MaskedLanguageModel,
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
  step(batches: readonly LabelledBatch[], learningRate: number): Promise<StepResult> {
    const { backend, arena, results } = this;
    const predicted = batches.reduce((sum, { labels }) => sum + countPredicted(labels), 0);
    const loss = results.view([1], 0);
    backend.fill({ output: loss, value: 0 });
    for (const batch of batches) {
      arena.reset();
      const losses = this.model.lossAndGradients({ backend, arena, training: true }, batch, { scale: 1 / predicted });
      backend.sum({ input: losses, output: loss, accumulate: true });
      backend.submit(); // Starts on it while the rest is queued.
    }
    this.optimizer.step(learningRate, results.view([2], 1));
    return backend.read(results).then(([total, , gradientNorm]) => ({ loss: total / predicted, gradientNorm }));
  }

  /** Mean loss over the predicted positions of some batches, nats; nothing is changed. */
  async evaluate(batches: readonly LabelledBatch[]): Promise<number> {
    const { backend, arena } = this;
    let total = 0;
    let predicted = 0;
    for (const batch of batches) {
      arena.reset();
      const { losses } = await this.model.losses({ backend, arena, training: false }, batch);
      total += losses.reduce((sum, loss) => sum + loss, 0);
      predicted += losses.length;
    }
    return total / predicted;
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
  for (const label of labels) if (label !== ignoredLabel) count++;
  return count;
}
