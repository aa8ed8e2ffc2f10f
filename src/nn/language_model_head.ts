import type { Tensor } from '../backend/tensor.ts';
import { addLinearGradients } from './layer.ts';
import type { LayerNorm, NormActivations } from './layer_norm.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Context, Parameter } from './parameter.ts';

/** BERT's transform of a hidden state before the decoder: dense with an activation, GELU in most, then LayerNorm. */
export interface HeadTransform {
  /** [width, width], with the activation. */
  dense: Linear;
  norm: LayerNorm;
}

export interface HeadActivations {
  /** [rows, width], what the decoder multiplies. */
  features: Tensor;
  transform?: { dense: LinearActivations; norm: NormActivations };
}

/** Logits of some of the rows. */
export interface LogitBlock {
  /** The first of its rows. */
  first: number;
  rows: number;
  /** [rows, width]. */
  features: Tensor;
  /** [rows, vocabulary]. */
  logits: Tensor;
}

/** Largest block of logits that training and evaluation hold at once, in bytes. */
const logitBytes = 2 ** 26;

/**
 * From hidden states to logits over the vocabulary by the word embedding itself (tied), or by a decoder of its own. crammedBERT's and GPT-2's
 * have nothing else; BERT's transforms the hidden state first and adds a bias.
 */
export class LanguageModelHead {
  readonly transform?: HeadTransform;
  /** [vocabulary]. */
  readonly bias?: Parameter;

  constructor(
    /** The word embedding, or the decoder [vocabulary, width]. */
    readonly word: Parameter,
    /** `tied`: it is the word embedding, which is read otherwise too. */
    parts: { tied: boolean; transform?: HeadTransform; bias?: Parameter },
  ) {
    this.transform = parts.transform;
    this.bias = parts.bias;
    word.product = { operation: 'linear', readOtherwise: parts.tied };
  }

  /** hidden, features [rows, width]. */
  features(context: Context, hidden: Tensor): HeadActivations {
    if (!this.transform) return { features: hidden };
    const dense = this.transform.dense.forward(context, hidden);
    const norm = this.transform.norm.forward(context, dense.output);
    return { features: norm.output, transform: { dense, norm } };
  }

  /** features [rows, width], output [rows, vocabulary]. */
  logits(context: Context, features: Tensor, output: Tensor): void {
    context.device.linear({
      input: features,
      weight: this.word.operand(context),
      bias: this.bias?.value,
      output,
      precision: context.precision,
    });
  }

  /**
   * Cross-entropy of each row and the gradients of scale times their sum, block by block so that logits never take more than 64 MB.
   * hidden [rows, width], labels i32 [rows], losses [rows] is overwritten; returns the gradient of hidden.
   */
  lossAndGradient(context: Context, hidden: Tensor, labels: Tensor, losses: Tensor, scale: number): Tensor {
    const { device, arena } = context;
    const activations = this.features(context, hidden);
    const gradFeatures = arena.tensor('head feature gradient', activations.features.shape);
    for (const { first, rows, features, logits } of this.logitBlocks(context, activations.features)) {
      device.crossEntropy({ logits, labels: labels.view([rows], first), losses: losses.view([rows], first), gradLogits: logits, scale });
      this.logitsBackward(context, features, logits, gradFeatures.view(features.shape, first * features.shape[1]));
    }
    return this.transformBackward(context, activations, gradFeatures);
  }

  /** Adds to the weights' gradients from gradLogits [rows, vocabulary]; returns the gradient of hidden [rows, width]. */
  backward(context: Context, activations: HeadActivations, gradLogits: Tensor): Tensor {
    const { features } = activations;
    const gradFeatures = context.arena.tensor('head feature gradient', features.shape);
    this.logitsBackward(context, features, gradLogits, gradFeatures);
    return this.transformBackward(context, activations, gradFeatures);
  }

  /** The logits of one block of rows after another; a block is valid until the next is asked for. */
  *logitBlocks(context: Context, features: Tensor): Generator<LogitBlock> {
    const [vocabulary, width] = this.word.value.shape;
    const total = features.size / width;
    const most = Math.max(1, Math.floor(logitBytes / (4 * vocabulary)));
    for (let first = 0; first < total; first += most) {
      const rows = Math.min(most, total - first);
      const mark = context.arena.mark();
      const logits = context.arena.tensor('logits', [rows, vocabulary]);
      const part = features.view([rows, width], first * width);
      this.logits(context, part, logits);
      yield { first, rows, features: part, logits };
      context.arena.release(mark);
    }
  }

  private logitsBackward(context: Context, features: Tensor, gradLogits: Tensor, gradInput: Tensor): void {
    addLinearGradients(context, this.word, this.bias, features, gradLogits);
    if (this.word.rowMask) context.device.fill({ output: this.word.rowMask, value: 1 });
    context.device.linearBackwardInput({ gradOutput: gradLogits, weight: this.word.value, gradInput, precision: context.precision });
  }

  private transformBackward(context: Context, { transform }: HeadActivations, gradFeatures: Tensor): Tensor {
    if (!this.transform || !transform) return gradFeatures;
    this.transform.norm.backward(context, transform.norm, gradFeatures, { tensor: gradFeatures });
    return this.transform.dense.backward(context, transform.dense, gradFeatures);
  }
}
