import type { Arena } from '../backend/arena.ts';
import type { Backend } from '../backend/backend.ts';
import type { Tensor } from '../backend/tensor.ts';

/** A tensor of a checkpoint: what the file calls it, its shape there, and its values. */
export interface NamedArray {
  name: string;
  shape: readonly number[];
  values: Float32Array;
}

/**
 * How a parameter lies in a checkpoint. One parameter may hold several of a checkpoint's tensors in the layout that the kernels want
 * (an FFF's nodes hold linear_in.weight and linear_out.weight side by side), so values, gradients and optimiser moments all go
 * through the same pair of functions on their way to and from files.
 */
export interface ParameterLayout {
  /** Names and shapes in the checkpoint. */
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[];
  /** The checkpoint's arrays, in the order of `tensors`, as one array in the backend's layout. */
  pack(arrays: readonly Float32Array[]): Float32Array;
  /** The inverse of pack. */
  unpack(values: Float32Array): Float32Array[];
}

/** A trainable tensor. It has a gradient once a trainer has allocated one. */
export class Parameter {
  gradient?: Tensor;
  /** i32 flags, one a row, if the gradient is row-sparse: rows flagged 0 hold no gradient. May be shared between parameters. */
  touched?: Tensor;
  /** A frozen parameter gets no gradient and no update. */
  frozen = false;

  constructor(
    readonly value: Tensor,
    readonly layout: ParameterLayout,
    /** AdamW's weight decay applies, i.e. the checkpoint's name holds neither 'bias' nor 'norm' (nor 'LayerNorm'). */
    readonly decay: boolean,
  ) {}

  get name(): string {
    return this.layout.tensors[0].name;
  }

  dispose(): void {
    this.value.dispose();
    this.gradient?.dispose();
    this.touched?.dispose();
  }
}

/**
 * What a forward or backward pass runs on: the backend, the arena its activations come from, and, in training, dropout.
 * With `training` false, forwards keep nothing for a backward and free a block's scratch when the block is done.
 */
export interface Run {
  readonly backend: Backend;
  readonly arena: Arena;
  readonly training: boolean;
  /** Absent: no dropout. Each site derives its key by dropoutKey(seed, step, site). */
  readonly dropout?: { readonly seed: number; readonly step: number };
}
