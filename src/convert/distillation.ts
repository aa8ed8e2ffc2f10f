/** Training a student to have its teacher's hidden states, and to answer as it does. */
import type { Tensor } from '../backend/tensor.ts';
import type { Encoder } from '../models/encoder.ts';
import type { TransformerActivations } from '../models/transformer.ts';
import type { Context } from '../nn/parameter.ts';
import type { Pass } from '../training/trainer.ts';
import type { AnswerTo } from './answers.ts';
import type { TextsOfOneLength } from './texts.ts';

/** What a pass is to train. */
export type Objective =
  /** Each block by itself, its feedforward half only, from the teacher's hidden state before it to the one behind it. */
  | 'blocks'
  /** The whole network from the token ids on. */
  | 'network';

/**
 * The loss is, for each hidden state after the embedding, the squared error over the teacher's variance (so 1 says no more than the mean, 0
 * is perfect: 1 - R2), and, for the objective 'network', the same of what the models answer, vectors or logits, times its weight.
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
      /** What both answer, the variance of an element of the teacher's, and what it counts beside one hidden state. */
      answers?: { teacher: AnswerTo; student: AnswerTo; variance: number; weight: number };
    },
  ) {}

  /** A step's work for a trainer; its loss is one number, one of as many examples as the step has passes. */
  pass(texts: TextsOfOneLength, objective: Objective): Pass {
    return (context, share) => {
      const training = { ...context, training: true };
      const states = this.teacherStates(context, texts);
      const { map } = this.options;
      const targets = map.map((block) => states.hiddenStates[block + 1]);
      const sums = context.arena.tensor('sums of squared errors', [map.length + 1]);
      context.device.fill({ output: sums, value: 0 });
      const errors: ErrorSums = { sums, elements: targets.map(({ size }) => size), share };
      if (objective === 'blocks') {
        // What the student's block before stands for hands on, which with all blocks is its own teacher's input.
        const inputs = map.map((_, i) => states.hiddenStates[i === 0 ? 0 : map[i - 1] + 1]);
        const activations = this.student.forwardBlocks(training, texts, inputs);
        this.student.backwardBlocks(training, activations, this.compareStates(context, activations, targets, errors));
      } else {
        const activations = this.student.forward(training, texts);
        const hiddenStates = this.compareStates(context, activations, targets, errors);
        const output = this.compareAnswers(training, texts, activations, states, errors);
        this.student.backward(training, activations, { output, hiddenStates: [undefined, ...hiddenStates] });
      }
      return this.total(context, errors);
    };
  }

  private teacherStates(context: Context, texts: TextsOfOneLength): TransformerActivations {
    return this.teacher.forward({ ...context, training: false, dropout: undefined }, texts, { hiddenStates: true });
  }

  /** Adds the hidden states' terms; returns their gradients. */
  private compareStates(
    context: Context,
    { hiddenStates }: TransformerActivations,
    targets: readonly Tensor[],
    { sums, share }: ErrorSums,
  ): Tensor[] {
    const { device, arena } = context;
    const gradients = targets.map((target, i) => {
      const predictions = hiddenStates[i + 1];
      const gradient = arena.tensor('hidden state gradient', predictions.shape);
      this.squaredError(context, predictions, target, gradient, share * this.scale(i, predictions.size), sums.view([1], i));
      return gradient;
    });
    device.submit();
    return gradients;
  }

  /** Adds the answers' term; returns the gradient of the encoder's output. */
  private compareAnswers(
    context: Context,
    texts: TextsOfOneLength,
    activations: TransformerActivations,
    states: TransformerActivations,
    { sums, elements, share }: ErrorSums,
  ): Tensor | undefined {
    const { answers, map } = this.options;
    if (!answers) return undefined;
    const theirs = answers.teacher({ ...context, training: false }, states, texts);
    const own = answers.student(context, activations, texts);
    const { size, shape } = own.output;
    elements.push(size);
    if (size === 0) return undefined;
    const term = map.length;
    const gradient = context.arena.tensor('answer gradient', shape);
    this.squaredError(context, own.output, theirs.output, gradient, share * this.scale(term, size), sums.view([1], term));
    return own.backward(gradient);
  }

  private squaredError(context: Context, predictions: Tensor, targets: Tensor, gradPredictions: Tensor, scale: number, sum: Tensor): void {
    const { device, arena } = context;
    const mark = arena.mark();
    const losses = arena.tensor('squared errors', predictions.shape);
    device.squaredError({ predictions, targets, losses, gradPredictions, scale });
    device.sum({ input: losses, output: sum });
    arena.release(mark);
  }

  /** What a squared error of one element counts: term i of the loss is the mean of them over the variance. */
  private scale(term: number, elements: number): number {
    const { map, stateVariance, answers } = this.options;
    const [variance, weight] = term < map.length ? [stateVariance[map[term] + 1], 1] : [answers!.variance, answers!.weight];
    // What never varies says nothing.
    return variance > 0 ? weight / (variance * Math.max(1, elements)) : 0;
  }

  private total(context: Context, { sums, elements }: ErrorSums): Tensor {
    const { device, arena } = context;
    const weights = arena.tensor('loss weights', sums.shape);
    device.write(
      weights,
      Float32Array.from({ length: sums.size }, (_, term) => (term < elements.length ? this.scale(term, elements[term]) : 0)),
    );
    const total = arena.tensor('loss', [1]);
    const row = [1, sums.size];
    device.linear({ input: sums.view(row), weight: weights.view(row), output: total.view([1, 1]) });
    return total;
  }
}

/** A step's terms: one for each hidden state and, last, one for the answers. */
interface ErrorSums {
  /** Squared errors' sums. */
  sums: Tensor;
  /** How many errors are in each. */
  elements: number[];
  /** The step's share that this pass is. */
  share: number;
}
