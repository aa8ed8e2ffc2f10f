import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import type { Linear } from '../nn/linear.ts';
import type { Context, Parameter } from '../nn/parameter.ts';
import { Pooler } from '../nn/pooler.ts';
import type { ModelConfig } from './config.ts';
import { Encoder, poolerDropoutSite } from './encoder.ts';
import { familyOf, modelNames } from './families/families.ts';
import type { ModelNames } from './families/family.ts';
import type { HeadOutput } from './head_output.ts';
import type { ParameterFactory } from './parameter_factory.ts';
import type { Batch, TransformerActivations } from './transformer.ts';

/** Sequences with what is to be predicted of each: a class, or with a single output (regression) a number. */
export interface ClassifiedBatch extends Batch {
  /** [batch]. */
  labels: Int32Array | Float32Array;
}

/** An encoder, a pooler and a linear head over classes; with one label it is a regression. Results lie in the context's arena. */
export class SequenceClassifier {
  readonly task = 'sequence-classification';
  readonly encoder: Encoder;
  readonly parameters: readonly Parameter[];
  /** Classes, or 1 for regression. */
  readonly labels: number;
  private readonly pooler: Pooler;
  private readonly head: Linear;

  /** Throws InputError if the configuration does not say how many labels there are. */
  constructor(
    readonly config: ModelConfig,
    factory: ParameterFactory,
    names: ModelNames = modelNames(config),
  ) {
    const { hiddenSize, initializerRange: deviation, pooler, numLabels: labels } = config;
    if (labels === undefined) throw new InputError("a classifier needs the number of labels: 'num_labels' of the configuration is missing");
    this.labels = labels;
    this.encoder = new Encoder(config, factory, names);
    const { activation, inputDropout } = familyOf(config).classifier;
    const dense = factory.linear(names.pooler, pooler.size, hiddenSize, {
      deviation,
      bias: true,
      activation: activation === 'gelu' ? activation : undefined,
    });
    const site = poolerDropoutSite(config);
    const dropout = { probability: config.dropout.classifier, site, inputSite: inputDropout ? site + 1 : undefined };
    this.pooler = new Pooler(pooler.kind, dense, dropout, activation);
    this.head = factory.linear(names.classifier, labels, pooler.size, { deviation, bias: true });
    this.parameters = [...factory.parameters];
  }

  /** Logits [batch, labels]. Throws InputError if the batch does not fit the model. */
  logits(context: Context, batch: Batch): Tensor {
    return this.answer(context, this.encoder.forward(context, batch)).output;
  }

  /** The same from what the encoder gave, with the way back. */
  answer(context: Context, { sequence, output }: TransformerActivations): HeadOutput {
    const pooled = this.pooler.forward(context, sequence, output);
    const head = this.head.forward(context, pooled.output);
    return {
      output: head.output,
      backward: (gradLogits) => this.pooler.backward(context, sequence, pooled, this.head.backward(context, head, gradLogits)),
    };
  }

  /**
   * Adds the gradients of scale x the sum of the losses to the parameters' gradients. Returns the losses [batch], unscaled:
   * cross-entropy in nats, or the squared error with one label. Throws InputError if batch or labels do not fit the model, or several labels may hold at once.
   */
  lossAndGradients(context: Context, batch: ClassifiedBatch, options: { scale?: number } = {}): Tensor {
    const training = { ...context, training: true };
    const { device, arena } = context;
    if (this.config.problemType === 'multi_label_classification')
      throw new InputError("'problem_type' is multi_label_classification, which can be run and not trained");
    this.checkLabels(batch);
    const activations = this.encoder.forward(training, batch);
    const { output: logits, backward } = this.answer(training, activations);
    const losses = arena.tensor('losses', [batch.batch]);
    const labels = arena.tensor('labels', [batch.batch], this.labels === 1 ? 'f32' : 'i32');
    device.write(labels, batch.labels);
    const { scale } = options;
    if (this.labels === 1) device.squaredError({ predictions: logits, targets: labels, losses, gradPredictions: logits, scale });
    else device.crossEntropy({ logits, labels, losses, gradLogits: logits, scale });
    const output = backward(logits);
    context.onGradients?.(this.parameters.filter((parameter) => !this.encoder.parameters.includes(parameter)));
    this.encoder.backward(training, activations, { output });
    return losses;
  }

  dispose(): void {
    this.encoder.dispose();
    for (const parameter of this.parameters) parameter.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private checkLabels({ batch, labels }: ClassifiedBatch): void {
    if (labels.length !== batch) throw new InputError(`batch: 'labels' has ${labels.length} values, expected one a sequence, ${batch}`);
    const wrong = labels.findIndex((label) =>
      this.labels === 1 ? !Number.isFinite(label) : !(label >= 0 && label < this.labels && Number.isInteger(label)),
    );
    if (wrong < 0) return;
    const expected = this.labels === 1 ? 'a number' : `one of ${this.labels} classes, 0 to ${this.labels - 1}`;
    throw new InputError(`label ${labels[wrong]} of sequence ${wrong} is not ${expected}`);
  }
}
