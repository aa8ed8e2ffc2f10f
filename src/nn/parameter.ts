import type { Arena } from '../backend/arena.ts';
import type { Device } from '../backend/device.ts';
import type { Precision, PreparedWeight, ProductPrecision } from '../backend/prepared_weight.ts';
import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';

/** A tensor of a checkpoint: what the file calls it, its shape there, and its values. */
export interface NamedArray {
  name: string;
  shape: readonly number[];
  values: Float32Array;
}

/**
 * Where the elements of a tensor of the checkpoint, taken as [rows, columns], lie in the parameter: element (r, c) at
 * offset + r rowStride + c columnStride.
 */
export interface Placement {
  readonly rows: number;
  readonly columns: number;
  readonly offset: number;
  readonly rowStride: number;
  readonly columnStride: number;
}

/** A tensor as a checkpoint has it, and where it goes. */
export interface StoredTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly placement: Placement;
}

/**
 * How a parameter lies in a checkpoint. One parameter may hold several of a checkpoint's tensors in the layout that the kernels want
 * (an FFF's nodes hold linear_in.weight and linear_out.weight side by side), so values, gradients and optimizer moments all go by the
 * same description on their way to and from files.
 */
export interface ParameterLayout {
  /** Together they fill the parameter. */
  readonly tensors: readonly StoredTensor[];
  /** A checkpoint holds the tensors only where a value is not 0. */
  readonly absentIfZero?: boolean;
}

/** A tensor that is stored with a model, trainable unless it is a buffer. It has a gradient once a trainer has allocated one. */
export class Parameter {
  gradient?: Tensor;
  /**
   * i32 [trees, inner nodes, 2], of routing thresholds, which follow their tokens outside the gradient: how many went left and right
   * in the backward passes of a step. There once a trainer has allocated it.
   */
  splits?: Tensor;
  /** i32 flags, one a row, if the gradient is row-sparse: rows flagged 0 hold no gradient. May be shared between parameters. */
  rowMask?: Tensor;
  /** Of trees: the branches that its rows fall into, and these into wider ones; see `branches` in tree_shape.ts. */
  branches?: () => readonly Int32Array[];
  /** A frozen parameter gets no gradient and no update. */
  frozen = false;
  /** Set by the layer that multiplies by it: the operation, and whether the value is read otherwise too (an embedding that decodes as well). */
  product?: { operation: 'linear' | 'fff'; readOtherwise?: boolean };
  /** What inference multiplies by in place of the value. */
  prepared?: PreparedWeight;

  constructor(
    readonly value: Tensor,
    readonly layout: ParameterLayout,
    /** AdamW's weight decay applies, i.e. the checkpoint's name holds neither 'bias' nor 'norm' (nor 'LayerNorm'). */
    public decay: boolean,
    /** No weight: it has no gradient, and no optimizer moves it (PyTorch's buffer). */
    readonly buffer = false,
  ) {}

  get name(): string {
    return this.layout.tensors[0].name;
  }

  /**
   * Prepares the copy that inference multiplies by, if it is multiplied by, and frees the value unless that is read otherwise: the
   * parameter can then be neither trained nor saved.
   */
  prepare(precision: Precision): void {
    const { product, value } = this;
    if (!product || this.prepared || (product.operation === 'fff' && precision === 'f32')) return;
    const { device } = value;
    this.prepared =
      product.operation === 'linear'
        ? device.prepareLinear({ weight: value, precision })
        : device.prepareNodes({ nodes: value, precision });
    if (!product.readOtherwise) value.dispose();
  }

  /** What a forward multiplies by. Throws InputError if a pass of training comes to a parameter that was prepared. */
  operand(context: Context): Tensor | PreparedWeight {
    if (!this.prepared) return this.value;
    if (context.training) this.refuse('trained');
    return this.prepared;
  }

  /** @throws InputError saying why a prepared parameter cannot be trained or saved */
  refuse(what: 'trained' | 'saved'): never {
    throw new InputError(
      `'${this.name}' was prepared in ${this.prepared?.precision} for inference and cannot be ${what}: load the model without a dtype`,
    );
  }

  dispose(): void {
    this.value.dispose();
    this.prepared?.dispose();
    this.gradient?.dispose();
    this.splits?.dispose();
    this.rowMask?.dispose();
  }
}

/** Numbers that training moves by the gradient. */
export function countParameters(parameters: readonly Parameter[]): number {
  return parameters.reduce((total, { value, buffer }) => (buffer ? total : total + value.size), 0);
}

/**
 * What a forward or backward pass runs on: the device, the arena its activations come from, and, in training, dropout.
 * With `training` false, forwards keep nothing for a backward and free a block's scratch when the block is done.
 */
export interface Context {
  readonly device: Device;
  readonly arena: Arena;
  readonly training: boolean;
  /** Absent: no dropout. Each site derives its key by dropoutKey(seed, step, site). */
  readonly dropout?: { readonly seed: number; readonly step: number };
  /** Of products of matrices in training, in both directions; f32 if absent. Trees, sums and weights are f32 in any case. */
  readonly precision?: ProductPrecision;
  /**
   * Called in a backward pass with parameters to whose gradients it will add no more, as soon as what adds to them is queued. Those that nobody
   * tells of are complete when the pass is.
   */
  readonly onGradients?: (parameters: readonly Parameter[]) => void;
  /**
   * Called by every fast feedforward layer, in the order of the blocks, when its work is queued: its input [tokens, width], and the nodes
   * visited, i32 [tokens, trees, depth + 1]. Both lie in scratch: queue a copy of what is wanted.
   */
  readonly watchPaths?: (input: Tensor, pathNodes: Tensor) => void;
}
