import type { Tensor } from '../backend/tensor.ts';
import { dropoutAt, gradientOf } from './layer.ts';
import type { LayerNorm, NormActivations } from './layer_norm.ts';
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
  norm?: NormActivations;
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

/**
 * Token embedding: word[id] plus the position's part, then LayerNorm where there is one, dropout, and where it is of another size, a dense layer.
 */
export class Embedding {
  constructor(
    /** [vocabulary, width]. */
    readonly word: Parameter,
    /** Absent where attention knows of positions. */
    readonly position: ScaledSinusoid | LearnedPositions | undefined,
    readonly norm: LayerNorm | undefined,
    /** Tokens with this id send no gradient to their row of the word table. */
    readonly padId: number | undefined,
    readonly dropout: { probability: number; site: number },
    /** [hidden, width]. */
    readonly projection?: Linear,
  ) {}

  /** The factor of a scaled sinusoid. */
  get positionScale(): Parameter | undefined {
    return this.position && 'scale' in this.position ? this.position.scale : undefined;
  }

  get parameters(): readonly Parameter[] {
    const { word, position, norm, projection } = this;
    const ofPositions = (of: ScaledSinusoid | LearnedPositions) =>
      'scale' in of ? [of.scale] : [of.positions, ...(of.tokenTypes ? [of.tokenTypes] : [])];
    return [word, ...(position ? ofPositions(position) : []), ...(norm?.parameters ?? []), ...(projection?.parameters ?? [])];
  }

  /** Writes output [tokens, width], or takes it from the arena. */
  forward(context: Context, sequence: Sequence, output?: Tensor): EmbeddingActivations {
    const { device, arena } = context;
    const width = this.word.value.shape[1];
    output ??= arena.tensor('embedding output', [sequence.ids.size, this.projection?.outputs ?? width]);
    const mark = arena.mark();
    // Without a norm or a projection behind it the sum is the output.
    const sum = this.norm || this.projection ? arena.tensor('embedding sum', [sequence.ids.size, width]) : output;
    device.gather({ table: this.word.value, indices: sequence.ids, output: sum });
    if (this.position) this.addPositions(context, this.position, sequence, sum);
    const norm = this.norm?.forward(context, sum, this.projection ? undefined : output);
    const embedded = norm?.output ?? sum;
    const dropout = dropoutAt(context, this.dropout.site, this.dropout.probability);
    if (dropout) device.dropout({ input: embedded, output: embedded, dropout });
    const projection = this.projection?.forward(context, embedded, { tensor: output });
    if (!context.training) arena.release(mark);
    return { norm, projection, output };
  }

  private addPositions({ device }: Context, position: ScaledSinusoid | LearnedPositions, sequence: Sequence, output: Tensor): void {
    const indices = sequence.positions;
    if ('scale' in position) {
      device.gather({ table: position.table, indices, output, scale: position.scale.value, accumulate: true });
      return;
    }
    device.gather({ table: position.positions.value, indices, output, accumulate: true });
    if (position.tokenTypes) device.gather({ table: position.tokenTypes.value, indices: sequence.typeIds!, output, accumulate: true });
  }

  /** Adds to the parameters' gradients. `gradOutput` [tokens, width] is the output's and is used up. */
  backward(context: Context, sequence: Sequence, activations: EmbeddingActivations, gradOutput: Tensor): void {
    const { device } = context;
    const { ids, positions, typeIds } = sequence;
    const { projection } = activations;
    const gradient = this.projection && projection ? this.projection.backward(context, projection, gradOutput) : gradOutput;
    const dropout = dropoutAt(context, this.dropout.site, this.dropout.probability);
    if (dropout) device.dropout({ input: gradient, output: gradient, dropout });
    if (this.norm && activations.norm) this.norm.backward(context, activations.norm, gradient, { tensor: gradient });

    const addTo = (table: Parameter, indices: Tensor, skipIndex?: number) => {
      const gradTable = gradientOf(table);
      if (gradTable) device.scatterAdd({ indices, input: gradient, table: gradTable, rowMask: table.rowMask, skipIndex });
    };
    addTo(this.word, ids, this.padId);
    if (!this.position) return;
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
