import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import type { LanguageModelHead } from '../nn/language_model_head.ts';
import type { Context, Parameter } from '../nn/parameter.ts';
import type { ModelConfig } from './config.ts';
import type { HeadOutput } from './head_output.ts';
import type { Batch, Transformer, TransformerActivations } from './transformer.ts';

/** The label of positions that are not predicted. */
export const ignoredLabel = -100;

export interface LabeledBatch extends Batch {
  /** `[batch, length]`: the token to be predicted, or -100. */
  labels: Int32Array;
}

/** Of each predicted position, in the order in which they stand in the batch. */
export interface LanguageModelLosses {
  /** Nats. */
  losses: Float32Array;
  /** How many tokens of the vocabulary were rated above the right one: 0 is a hit at top 1, less than 5 one at top 5. */
  ranks: Int32Array;
}

/** A transformer and a head that predicts tokens. Results lie in the context's arena: reset it before the next pass. */
export abstract class LanguageModel {
  abstract readonly parameters: readonly Parameter[];
  protected abstract readonly transformer: Transformer;
  protected abstract readonly head: LanguageModelHead;

  constructor(readonly config: ModelConfig) {}

  /**
   * Logits [positions, vocabulary] at some positions (indices into batch x length; all by default).
   * Throws InputError if the batch or a position does not fit the model.
   */
  logits(context: Context, batch: Batch, positions?: Int32Array): Tensor {
    const rows = positions && this.transformer.rowsAt(batch, positions);
    return this.answer(context, this.transformer.forward(context, batch), rows).output;
  }

  /** The same from what the transformer gave, at rows of its output, with the way back. Throws InputError if a position is not one of the tokens. */
  answer(context: Context, { output: encoded }: TransformerActivations, positions?: Int32Array): HeadOutput {
    const [tokens] = encoded.shape;
    const outside = positions?.find((position) => !(position >= 0 && position < tokens));
    if (outside !== undefined) throw new InputError(`position ${outside} is not one of the batch's ${tokens} tokens`);
    const indices = positions && this.upload(context, 'positions', positions);
    const activations = this.head.features(context, indices ? this.gather(context, encoded, indices) : encoded);
    const output = context.arena.tensor('logits', [activations.features.shape[0], this.config.vocabSize]);
    this.head.logits(context, activations.features, output);
    return {
      output,
      backward: (gradLogits) => {
        const gradHidden = this.head.backward(context, activations, gradLogits);
        return indices ? this.scatter(context, gradHidden, indices, encoded) : gradHidden;
      },
    };
  }

  /**
   * Adds the gradients of scale x the sum of the losses to the parameters' gradients. Only predicted positions go through the head.
   * Returns the losses [predicted positions], in nats, unscaled. Throws InputError if the batch does not fit the model.
   */
  lossAndGradients(context: Context, batch: LabeledBatch, options: { scale?: number } = {}): Tensor {
    const training = { ...context, training: true };
    const { arena } = context;
    const { positions, labels } = this.predicted(batch);
    const losses = arena.tensor('losses', [positions.length]);
    if (positions.length === 0) return losses;
    const activations = this.transformer.forward(training, batch);
    const indices = this.upload(context, 'predicted positions', positions);
    const hidden = this.gather(context, activations.output, indices);
    const targets = this.upload(context, 'labels', labels);
    const gradHidden = this.head.lossAndGradient(training, hidden, targets, losses, options.scale ?? 1);
    // The decoder's weight may be the word embedding, which the transformer adds to.
    context.onGradients?.(this.parameters.filter((parameter) => !this.transformer.parameters.includes(parameter)));
    this.transformer.backward(training, activations, { output: this.scatter(context, gradHidden, indices, activations.output) });
    return losses;
  }

  /** Losses and ranks at the predicted positions, without gradients. Throws InputError if the batch does not fit the model. */
  async losses(context: Context, batch: LabeledBatch): Promise<LanguageModelLosses> {
    const inference = { ...context, training: false };
    const { device, arena } = context;
    const { positions, labels } = this.predicted(batch);
    const result = { losses: new Float32Array(positions.length), ranks: new Int32Array(positions.length) };
    if (positions.length === 0) return result;
    const { output } = this.transformer.forward(inference, batch);
    const targets = this.upload(context, 'labels', labels);
    const losses = arena.tensor('losses', [positions.length]);
    const { features } = this.head.features(inference, this.gather(context, output, this.upload(context, 'positions', positions)));
    for (const { first, rows, logits } of this.head.logitBlocks(inference, features)) {
      device.crossEntropy({ logits, labels: targets.view([rows], first), losses: losses.view([rows], first) });
      rank(await device.read(logits), labels.subarray(first, first + rows), result.ranks.subarray(first, first + rows));
    }
    result.losses.set(await device.read(losses));
    return result;
  }

  dispose(): void {
    this.transformer.dispose();
    for (const parameter of this.parameters) parameter.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private gather(context: Context, hidden: Tensor, indices: Tensor): Tensor {
    const output = context.arena.tensor('predicted hidden', [indices.size, this.config.hiddenSize]);
    context.device.gather({ table: hidden, indices, output });
    return output;
  }

  /** The gradient of all hidden states from that of those which were gathered. */
  private scatter(context: Context, gradHidden: Tensor, indices: Tensor, hidden: Tensor): Tensor {
    const output = context.arena.tensor('output gradient', hidden.shape);
    context.device.fill({ output, value: 0 });
    context.device.scatterAdd({ indices, input: gradHidden, table: output });
    return output;
  }

  private upload(context: Context, name: string, values: Int32Array): Tensor {
    const tensor = context.arena.tensor(name, [values.length], 'i32');
    context.device.write(tensor, values);
    return tensor;
  }

  private predicted(batch: LabeledBatch): { positions: Int32Array; labels: Int32Array } {
    const { labels } = batch;
    const { vocabSize: vocabularySize } = this.config;
    if (labels.length !== batch.ids.length)
      throw new InputError(`batch: 'labels' has ${labels.length} values, expected ${batch.ids.length}`);
    const positions: number[] = [];
    labels.forEach((label, position) => {
      if (label === ignoredLabel) return;
      if (!(Number.isInteger(label) && label >= 0 && label < vocabularySize)) {
        throw new InputError(
          `label ${label} at token ${position} is neither ${ignoredLabel} nor one of the model's ${vocabularySize} token ids`,
        );
      }
      positions.push(position);
    });
    return {
      positions: this.transformer.rowsAt(batch, Int32Array.from(positions)),
      labels: Int32Array.from(positions, (position) => labels[position]),
    };
  }
}

/** ranks[r] = how many of row r's logits are above the label's, equal ones before it in the vocabulary included; all, if that is no number. */
function rank(logits: Float32Array, labels: Int32Array, ranks: Int32Array): void {
  const vocabulary = logits.length / labels.length;
  labels.forEach((label, row) => {
    const start = row * vocabulary;
    const own = logits[start + label];
    let above = 0;
    for (let id = 0; id < vocabulary; id++) if (logits[start + id] > own || (logits[start + id] === own && id < label)) above++;
    ranks[row] = Number.isNaN(own) ? vocabulary : above;
  });
}
