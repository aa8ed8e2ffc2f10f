/** Training a student to have the hidden states, and the pooled output, that its teacher has. */
import type { PoolKind } from '../backend/backend.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { Encoder, EncoderActivations } from '../models/encoder.ts';
import type { Run } from '../nn/parameter.ts';
import type { Pass } from '../training/trainer.ts';
import type { Balancer } from './balance.ts';
import type { TextsOfOneLength } from './texts.ts';

/** What a pass is to train. */
export type Objective =
  /** Each block by itself, its feedforward half only, from the teacher's hidden state before it to the one behind it. */
  | 'blocks'
  /** The whole network from the token ids on. */
  | 'network';

/**
 * The loss is, for each hidden state after the embedding, the squared error over the teacher's variance (so 1 says no more than the mean, 0
 * is perfect: 1 - R2), and, for the objective 'network', the same of the pooled output times `pooledWeight`.
 */
export class Distillation {
  constructor(
    readonly teacher: Encoder,
    readonly student: Encoder,
    private readonly options: {
      /** The teacher's block for each of the student's. */
      map: readonly number[];
      /** Of an element of each of the teacher's hidden states. */
      stateVariance: readonly number[];
      pooling?: { kind: PoolKind; variance: number; weight: number };
      /** Is told of the student's runs. */
      balancer?: Balancer;
    },
  ) {}

  /** A step's work for a trainer; its loss is one number, one of as many examples as the step has passes. */
  pass(texts: TextsOfOneLength, objective: Objective): Pass {
    return (run, share) => {
      const training = this.options.balancer?.watch({ ...run, training: true }) ?? { ...run, training: true };
      const states = this.teacherStates(run, texts);
      const { map } = this.options;
      const targets = map.map((block) => states.hiddenStates[block + 1]);
      if (objective === 'blocks') {
        // What the student's block before stands for hands on, which with all blocks is its own teacher's input.
        const inputs = map.map((_, i) => states.hiddenStates[i === 0 ? 0 : map[i - 1] + 1]);
        const activations = this.student.forwardBlocks(training, texts, inputs);
        const { gradients, sums } = this.compare(run, activations, targets, share);
        this.student.backwardBlocks(training, activations, gradients);
        return this.total(run, sums, texts, objective);
      }
      const activations = this.student.forward(training, texts);
      const { gradients, sums } = this.compare(run, activations, targets, share);
      const output = this.comparePooled(run, texts, activations.output, states.output, sums, share);
      this.student.backward(training, activations, { output, hiddenStates: [undefined, ...gradients] });
      return this.total(run, sums, texts, objective);
    };
  }

  private teacherStates(run: Run, texts: TextsOfOneLength): EncoderActivations {
    return this.teacher.forward({ ...run, training: false, dropout: undefined }, texts, { hiddenStates: true });
  }

  private terms(objective: Objective): number {
    return this.options.map.length + (objective === 'network' && this.options.pooling ? 1 : 0);
  }

  /** Squared errors' sums, one for each state (and one more for the pooled output), and gradients. */
  private compare(
    run: Run,
    { hiddenStates }: EncoderActivations,
    targets: readonly Tensor[],
    share: number,
  ): { gradients: Tensor[]; sums: Tensor } {
    const { backend, arena } = run;
    const sums = arena.tensor('sums of squared errors', [this.terms('network')]);
    const gradients = targets.map((target, i) => {
      const predictions = hiddenStates[i + 1];
      const gradient = arena.tensor('hidden state gradient', predictions.shape);
      this.squaredError(run, predictions, target, gradient, share * this.scale(i, predictions.size), sums.view([1], i));
      return gradient;
    });
    backend.submit();
    return { gradients, sums };
  }

  private comparePooled(
    run: Run,
    { batch, length }: TextsOfOneLength,
    output: Tensor,
    target: Tensor,
    sums: Tensor,
    share: number,
  ): Tensor | undefined {
    const { pooling, map } = this.options;
    if (!pooling) return undefined;
    const { backend, arena } = run;
    const { kind } = pooling;
    const width = this.student.config.hiddenSize;
    const rows = (name: string) => arena.tensor(name, [batch, width]);
    const [own, theirs, gradPooled] = [rows('pooled'), rows('pooled by the teacher'), rows('pooled gradient')];
    const selected = kind === 'max' ? arena.tensor('pooled positions', [batch, width], 'i32') : undefined;
    backend.pool({ input: output, batch, length, kind, output: own, selected });
    backend.pool({ input: target, batch, length, kind, output: theirs });
    const index = map.length;
    this.squaredError(run, own, theirs, gradPooled, share * this.scale(index, own.size), sums.view([1], index));
    const gradient = arena.tensor('output gradient', output.shape);
    backend.poolBackward({ batch, length, kind, gradOutput: gradPooled, gradInput: gradient, input: output, output: own, selected });
    return gradient;
  }

  private squaredError(run: Run, predictions: Tensor, targets: Tensor, gradPredictions: Tensor, scale: number, sum: Tensor): void {
    const { backend, arena } = run;
    const mark = arena.mark();
    const losses = arena.tensor('squared errors', predictions.shape);
    backend.squaredError({ predictions, targets, losses, gradPredictions, scale });
    backend.sum({ input: losses, output: sum });
    arena.release(mark);
  }

  /** What a squared error of one element counts: term i of the loss is the mean of them over the variance. */
  private scale(term: number, elements: number): number {
    const { map, stateVariance, pooling } = this.options;
    const [variance, weight] = term < map.length ? [stateVariance[map[term] + 1], 1] : [pooling?.variance ?? 1, pooling?.weight ?? 0];
    return weight / (Math.max(variance, 1e-12) * elements);
  }

  private total(run: Run, sums: Tensor, { batch, length }: TextsOfOneLength, objective: Objective): Tensor {
    const { backend, arena } = run;
    const width = this.student.config.hiddenSize;
    const terms = this.terms(objective);
    const weights = arena.tensor('loss weights', [1, terms]);
    const elements = (term: number) => batch * width * (term < this.options.map.length ? length : 1);
    backend.write(
      weights,
      Float32Array.from({ length: terms }, (_, term) => this.scale(term, elements(term))),
    );
    const total = arena.tensor('loss', [1]);
    backend.linear({ input: sums.view([1, terms]), weight: weights, output: total.view([1, 1]) });
    return total;
  }
}
