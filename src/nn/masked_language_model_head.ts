import type { Tensor } from '../backend/tensor.ts';
import { addLinearGradients } from './layer.ts';
import type { LayerNorm, LayerNormActivations } from './layer_norm.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Parameter, Run } from './parameter.ts';

/** BERT's transform of a hidden state before the decoder: dense with GELU, then LayerNorm. */
export interface HeadTransform {
  /** [width, width], activation 'gelu'. */
  dense: Linear;
  norm: LayerNorm;
}

export interface HeadActivations {
  /** [rows, width], what the decoder multiplies. */
  features: Tensor;
  transform?: { dense: LinearActivations; norm: LayerNormActivations };
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
 * From hidden states to logits over the vocabulary by the word embedding itself (tied). crammedBERT's has nothing else; BERT's
 * transforms the hidden state first and adds a bias.
 */
export class MaskedLanguageModelHead {
  constructor(
    /** The word embedding [vocabulary, width]. */
    readonly word: Parameter,
    readonly transform?: HeadTransform,
    /** [vocabulary]. */
    readonly bias?: Parameter,
  ) {
    word.product = { operation: 'linear', readOtherwise: true };
  }

  /** hidden, features [rows, width]. */
  features(run: Run, hidden: Tensor): HeadActivations {
    if (!this.transform) return { features: hidden };
    const dense = this.transform.dense.forward(run, hidden);
    const norm = this.transform.norm.forward(run, dense.output);
    return { features: norm.output, transform: { dense, norm } };
  }

  /** features [rows, width], output [rows, vocabulary]. */
  logits(run: Run, features: Tensor, output: Tensor): void {
    run.backend.linear({ input: features, weight: this.word.factor(run), bias: this.bias?.value, output, precision: run.precision });
  }

  /**
   * Cross-entropy of each row and the gradients of scale times their sum, block by block so that logits never take more than 64 MB.
   * hidden [rows, width], labels i32 [rows], losses [rows] is overwritten; returns the gradient of hidden.
   */
  lossAndGradient(run: Run, hidden: Tensor, labels: Tensor, losses: Tensor, scale: number): Tensor {
    const { backend, arena } = run;
    const activations = this.features(run, hidden);
    const gradFeatures = arena.tensor('head feature gradient', hidden.shape);
    for (const { first, rows, features, logits } of this.logitBlocks(run, activations.features)) {
      backend.crossEntropy({ logits, labels: labels.view([rows], first), losses: losses.view([rows], first), gradLogits: logits, scale });
      this.logitsBackward(run, features, logits, gradFeatures.view(features.shape, first * features.shape[1]));
    }
    return this.transformBackward(run, activations, gradFeatures);
  }

  /** Adds to the weights' gradients from gradLogits [rows, vocabulary]; returns the gradient of hidden [rows, width]. */
  backward(run: Run, activations: HeadActivations, gradLogits: Tensor): Tensor {
    const { features } = activations;
    const gradFeatures = run.arena.tensor('head feature gradient', features.shape);
    this.logitsBackward(run, features, gradLogits, gradFeatures);
    return this.transformBackward(run, activations, gradFeatures);
  }

  /** The logits of one block of rows after another; a block is valid until the next is asked for. */
  *logitBlocks(run: Run, features: Tensor): Generator<LogitBlock> {
    const [vocabulary, width] = this.word.value.shape;
    const total = features.size / width;
    const most = Math.max(1, Math.floor(logitBytes / (4 * vocabulary)));
    for (let first = 0; first < total; first += most) {
      const rows = Math.min(most, total - first);
      const mark = run.arena.mark();
      const logits = run.arena.tensor('logits', [rows, vocabulary]);
      const part = features.view([rows, width], first * width);
      this.logits(run, part, logits);
      yield { first, rows, features: part, logits };
      run.arena.release(mark);
    }
  }

  private logitsBackward(run: Run, features: Tensor, gradLogits: Tensor, gradInput: Tensor): void {
    addLinearGradients(run, this.word, this.bias, features, gradLogits);
    if (this.word.touched) run.backend.fill({ output: this.word.touched, value: 1 });
    run.backend.linearBackwardInput({ gradOutput: gradLogits, weight: this.word.value, gradInput, precision: run.precision });
  }

  private transformBackward(run: Run, { transform }: HeadActivations, gradFeatures: Tensor): Tensor {
    if (!this.transform || !transform) return gradFeatures;
    this.transform.norm.backward(run, transform.norm, gradFeatures, { tensor: gradFeatures });
    return this.transform.dense.backward(run, transform.dense, gradFeatures);
  }
}
