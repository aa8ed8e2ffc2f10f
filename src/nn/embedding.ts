import type { Tensor } from '../backend/tensor.ts';
import { dropoutAt, gradientOf } from './layer.ts';
import type { LayerNorm, LayerNormActivations } from './layer_norm.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Context, Parameter } from './parameter.ts';
import type { Sequence } from './sequence.ts';

/** crammedBERT's positions: a fixed sinusoid (arXiv 1706.03762) times one learned factor. */
export interface ScaledSinusoid {
  /** [positions, width], constant; from {@link sinusoid}. */
  table: Tensor;
  /** [1]. */
  scale: Parameter;
}

/** BERT's positions and segments: learned tables. */
export interface LearnedPositions {
  /** [positions, width]. */
  positions: Parameter;
  /** Its row gets no gradient. */
  padding?: number;
  /** [types, width]; absent where there are none. */
  tokenTypes?: Parameter;
}

export interface EmbeddingActivations {
  norm: LayerNormActivations;
  projection?: LinearActivations;
  /** [tokens, width], of the hidden size. */
  output: Tensor;
}

/** The values of a [positions, width] table: sin(p w_i) at the even columns 2i, cos(p w_i) at the odd ones, w_i = 10000^(-2i / width). */
export function sinusoid(positions: number, width: number): Float32Array {
  const table = new Float32Array(positions * width);
  for (let column = 0; column < width; column++) {
    const frequency = Math.exp((column - (column % 2)) * (-Math.log(10000) / width));
    const wave = column % 2 === 0 ? Math.sin : Math.cos;
    for (let position = 0; position < positions; position++) table[position * width + column] = wave(position * frequency);
  }
  return table;
}

/** Token embedding: word[id] plus the position's part, then LayerNorm and dropout, and where it is of another size, a dense layer. */
export class Embedding {
  constructor(
    /** [vocabulary, width]. */
    readonly word: Parameter,
    readonly position: ScaledSinusoid | LearnedPositions,
    readonly norm: LayerNorm,
    /** Tokens with this id send no gradient to their row of the word table. */
    readonly padId: number | undefined,
    readonly dropout: { probability: number; site: number },
    /** [hidden, width]. */
    readonly projection?: Linear,
  ) {}

  get parameters(): readonly Parameter[] {
    const { word, position, norm, projection } = this;
    const own = 'scale' in position ? [position.scale] : [position.positions, ...(position.tokenTypes ? [position.tokenTypes] : [])];
    return [word, ...own, ...norm.parameters, ...(projection?.parameters ?? [])];
  }

  /** Writes output [tokens, width], or takes it from the arena. */
  forward(context: Context, sequence: Sequence, output?: Tensor): EmbeddingActivations {
    const { device, arena } = context;
    const width = this.word.value.shape[1];
    output ??= arena.tensor('embedding output', [sequence.ids.size, this.projection?.outputs ?? width]);
    const mark = arena.mark();
    const sum = arena.tensor('embedding sum', [sequence.ids.size, width]);
    device.gather({ table: this.word.value, indices: sequence.ids, output: sum });
    if ('scale' in this.position) {
      const { table, scale } = this.position;
      device.gather({ table, indices: sequence.positions, output: sum, scale: scale.value, accumulate: true });
    } else {
      const { positions, tokenTypes } = this.position;
      device.gather({ table: positions.value, indices: sequence.positions, output: sum, accumulate: true });
      if (tokenTypes) device.gather({ table: tokenTypes.value, indices: sequence.typeIds!, output: sum, accumulate: true });
    }
    const norm = this.norm.forward(context, sum, this.projection ? undefined : output);
    const dropout = dropoutAt(context, this.dropout.site, this.dropout.probability);
    if (dropout) device.dropout({ input: norm.output, output: norm.output, dropout });
    const projection = this.projection?.forward(context, norm.output, { tensor: output });
    if (!context.training) arena.release(mark);
    return { norm, projection, output };
  }

  /** Adds to the parameters' gradients. `gradOutput` [tokens, width] is the output's and is used up. */
  backward(context: Context, sequence: Sequence, activations: EmbeddingActivations, gradOutput: Tensor): void {
    const { device } = context;
    const { ids, positions, typeIds } = sequence;
    const { projection } = activations;
    const gradient = this.projection && projection ? this.projection.backward(context, projection, gradOutput) : gradOutput;
    const dropout = dropoutAt(context, this.dropout.site, this.dropout.probability);
    if (dropout) device.dropout({ input: gradient, output: gradient, dropout });
    this.norm.backward(context, activations.norm, gradient, { tensor: gradient });

    const addTo = (table: Parameter, indices: Tensor, skipIndex?: number) => {
      const gradTable = gradientOf(table);
      if (gradTable) device.scatterAdd({ indices, input: gradient, table: gradTable, rowMask: table.rowMask, skipIndex });
    };
    addTo(this.word, ids, this.padId);
    if ('scale' in this.position) {
      const gradScale = gradientOf(this.position.scale);
      if (gradScale) device.gatherScaleBackward({ table: this.position.table, indices: positions, gradOutput: gradient, gradScale });
    } else {
      const { tokenTypes, padding } = this.position;
      addTo(this.position.positions, positions, padding);
      if (tokenTypes) addTo(tokenTypes, typeIds!);
    }
  }
}
