/**
 * An operation as data: its operands with their roles, types and shapes, and its numbers by name. From a definition follow the call
 * ({@link callOperation}: checks, then the queue), the order of the kernels' arguments, the signature of the reference ({@link Implementation}), and
 * what a GPU binds to a shader.
 */
import { ShapeError } from '../../errors.ts';
import type { Device } from '../device.ts';
import { PreparedWeight } from '../prepared_weight.ts';
import { bytesPerElement, type DType, Tensor } from '../tensor.ts';
import { describe } from './shapes.ts';

/** What an operation does with an operand: reads it, writes all of it, or adds to it or changes it in place. */
export type Role = 'input' | 'output' | 'updated';

/** An extent of a shape: one of the operation's numbers, by its name, or a constant. */
type Extent = string | number;

/**
 * Where a strided operand has its elements: (batch b, position t, head h, i) is at offset + b batchStride + t rowStride + h headStride + i.
 */
export interface StridedOperand {
  tensor: Tensor;
  /** Elements from the start of the tensor. */
  offset: number;
  batchStride: number;
  rowStride: number;
  headStride: number;
}

/** What a caller may hand in for an operand. */
type Form = 'tensor' | 'strided' | 'preparable';
interface Forms {
  tensor: Tensor;
  strided: StridedOperand;
  preparable: Tensor | PreparedWeight;
}

type OperandType = DType | 'word';

export interface Operand<F extends Form = Form, Optional extends boolean = boolean, T extends OperandType = OperandType> {
  readonly role: Role;
  /** 'word' is f32 or i32. */
  readonly dtype: T;
  /** The product of the extents is the number of elements; undefined: whatever it is. */
  readonly shape?: readonly Extent[];
  readonly form: F;
  readonly optional: Optional;
  /** An operand, or several, whose memory this one may be, element for element, unless the operation accumulates. */
  readonly mayBe: readonly string[];
}

const operand =
  (role: Role) =>
  <T extends OperandType>(dtype: T, ...shape: Extent[]): Operand<'tensor', false, T> => ({
    ...{ role, dtype, shape: shape.length > 0 ? shape : undefined, form: 'tensor', optional: false, mayBe: [] },
  });
export const input = operand('input');
export const output = operand('output');
export const updated = operand('updated');
export const optional = <F extends Form, T extends OperandType>(operand: Operand<F, false, T>): Operand<F, true, T> => ({
  ...operand,
  optional: true,
});
/** An output that may be one of the named operands. */
export const inPlace = <O extends Operand>(operand: O, ...mayBe: string[]): O => ({ ...operand, mayBe });
/** An operand of which the caller says where its elements lie; `numbers` end with offset, batchStride, rowStride and headStride of each. */
export const strided = (role: Role): Operand<'strided', false, 'f32'> => ({
  role,
  dtype: 'f32',
  form: 'strided',
  optional: false,
  mayBe: [],
});
/** A weight that may come prepared (i8: bytes that kernels alone read), for an operation of its own ({@link Definition.otherwise}). */
export const preparable = <T extends 'f32' | 'i8'>(dtype: T): Operand<'preparable', false, T> => ({
  ...{ role: 'input', dtype, form: 'preparable', optional: false, mayBe: [] },
});

type Operands = Readonly<Record<string, Operand>>;

/** The call's arguments: operands and attributes by name. */
export type Arguments<O extends Operands, Attributes> = {
  [Name in keyof O as O[Name]['optional'] extends true ? never : Name]: Forms[O[Name]['form']];
} & { [Name in keyof O as O[Name]['optional'] extends true ? Name : never]?: Forms[O[Name]['form']] } & Attributes;

interface Definition<O extends Operands, Attributes, Numbers extends readonly string[]> {
  /** In the order in which kernels take them. */
  readonly operands: O;
  /** Likewise; extents of shapes that no kernel needs come last. */
  readonly numbers: Numbers;
  /** The numbers, from operands that are there, of the right type and alive, and from attributes. Throws ShapeError where they do not fit. */
  readonly measure: (a: Arguments<O, Attributes>) => { readonly [I in keyof Numbers]: number };
  /** The operation that runs in place of this one, for the arguments given: on prepared weights, say, or on integers. */
  readonly otherwise?: (a: Arguments<O, Attributes>) => AnyOperation | undefined;
}

export interface Operation<O extends Operands = Operands, Attributes = unknown, Numbers extends readonly string[] = readonly string[]>
  extends Definition<O, Attributes, Numbers> {
  readonly name: string;
  /** Follows from the rest. */
  readonly plan: Plan;
}

// biome-ignore lint/suspicious/noExplicitAny: any attributes; `unknown` would not take a function of fewer
export type AnyOperation = Operation<any, any, any>;

/** Defines an operation. Attributes are what the call takes beside operands. */
export const operation =
  <Attributes = unknown>() =>
  <const O extends Operands, const Numbers extends readonly string[]>(
    name: string,
    definition: Definition<O, Attributes, Numbers>,
  ): Operation<O, Attributes, Numbers> => ({ name, ...definition, plan: planOf(name, definition) });

export type ArgumentsOf<Op> = Op extends Operation<infer O, infer Attributes, infer _> ? Arguments<O, Attributes> : never;

/** Values of an f32 tensor. The reference computes in double and rounds on store; the tests hand it doubles to take finite differences. */
export type Floats = Float32Array | Float64Array;
/** Values of an i32 tensor: indices, labels, masks, flags. */
export type Integers = Int32Array;

interface ValuesOf {
  f32: Floats;
  i32: Integers;
  i8: Int8Array;
  bf16: Uint16Array;
  word: Floats | Integers;
}
type Values<O extends Operand> = ValuesOf[O['dtype']] | (O['optional'] extends true ? undefined : never);

/** How the reference writes an operation: on the operands' values, changed in place, and the numbers, by name. */
export type Implementation<Op> =
  Op extends Operation<infer O, infer _, infer Numbers>
    ? (operands: { [Name in keyof O]: Values<O[Name]> }, numbers: { [Name in Numbers[number]]: number }) => void
    : never;

/** Checks the arguments and queues the operation. Throws ShapeError, naming the operation, what was found and what was expected. */
export function callOperation(device: Device, called: AnyOperation, a: Record<string, unknown>): void {
  try {
    const definition = called.otherwise?.(a) ?? called;
    const tensors = tensorsOf(device, definition.plan, a);
    const numbers: readonly number[] = definition.measure(a);
    checkSizes(definition.plan, tensors, numbers);
    checkMemory(definition.plan, tensors, a.accumulate === true);
    device.enqueue(definition.name, tensors, numbers);
  } catch (error) {
    throw named(called, error);
  }
}

/** The numbers that a call would have, before its outputs are there. */
export function numbersOf(device: Device, definition: AnyOperation, a: Record<string, unknown>): readonly number[] {
  try {
    tensorsOf(device, { ...definition.plan, operands: definition.plan.operands.filter(({ role }) => role === 'input') }, a);
    return definition.measure(a);
  } catch (error) {
    throw named(definition, error);
  }
}

const named = ({ name }: AnyOperation, error: unknown) =>
  error instanceof ShapeError ? new ShapeError(`${name}: ${error.message}`) : error;

/** What of a definition every call needs, found once. */
interface Plan {
  readonly operands: readonly (Operand & { readonly name: string })[];
  /** Of each operand with a shape, its place and its extents: the places of numbers, or constants as their complements. */
  readonly sizes: readonly { readonly at: number; readonly extents: readonly number[] }[];
  /** Operands that may not share memory: one that is written, another, and whether they may be the same, element for element. */
  readonly pairs: readonly { readonly written: number; readonly other: number; readonly same: boolean }[];
}

function planOf(operation: string, definition: { operands: Operands; numbers: readonly string[] }): Plan {
  const operands = Object.entries(definition.operands).map(([name, operand]) => ({ name, ...operand }));
  const place = (extent: Extent) => {
    if (typeof extent === 'number') return ~extent;
    const at = definition.numbers.indexOf(extent);
    if (at < 0) throw new Error(`operation ${operation}: '${extent}' is none of its numbers`);
    return at;
  };
  const sizes = operands.flatMap(({ shape }, at) => (shape ? [{ at, extents: shape.map(place) }] : []));
  const pairs = operands.flatMap((operand, written) =>
    operands.flatMap((other, at) => {
      const twice = other.role !== 'input' && at < written; // both are written: once is enough
      if (operand.role === 'input' || at === written || twice || (operand.form === 'strided' && other.form === 'strided')) return [];
      return [{ written, other: at, same: operand.mayBe.includes(other.name) || other.mayBe.includes(operand.name) }];
    }),
  );
  return { operands, sizes, pairs };
}

function tensorsOf(device: Device, { operands }: Plan, a: Record<string, unknown>): (Tensor | undefined)[] {
  const tensors: (Tensor | undefined)[] = [];
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i];
    const given = a[operand.name];
    tensors.push(given === undefined && operand.optional ? undefined : tensorOf(device, operand, given));
  }
  return tensors;
}

function checkSizes({ operands, sizes }: Plan, tensors: readonly (Tensor | undefined)[], numbers: readonly number[]): void {
  for (let i = 0; i < sizes.length; i++) {
    const { at, extents } = sizes[i];
    const tensor = tensors[at];
    if (tensor === undefined) continue;
    let size = 1;
    for (let j = 0; j < extents.length; j++) size *= extents[j] < 0 ? ~extents[j] : numbers[extents[j]];
    if (tensor.size !== size)
      throw new ShapeError(`${operands[at].name} ${describe(tensor)} has ${tensor.size} elements, expected ${size}`);
  }
}

function checkMemory({ operands, pairs }: Plan, tensors: readonly (Tensor | undefined)[], accumulates: boolean): void {
  for (let i = 0; i < pairs.length; i++) {
    const { written, other, same } = pairs[i];
    const left = tensors[written];
    const right = tensors[other];
    if (left === undefined || right === undefined || left.storage !== right.storage || !overlap(left, right)) continue;
    if (same && left.offset === right.offset && left.size === right.size && !accumulates) continue;
    throw new ShapeError(`${operands[written].name} ${describe(left)} and ${operands[other].name} ${describe(right)} share memory`);
  }
}

/** Both lie in the same storage. */
function overlap(a: Tensor, b: Tensor): boolean {
  const [startA, startB] = [a.offset * bytesPerElement[a.dtype], b.offset * bytesPerElement[b.dtype]];
  return startA < startB + b.size * bytesPerElement[b.dtype] && startB < startA + a.size * bytesPerElement[a.dtype];
}

/** A tensor of this device, alive and of the operand's type. Programs in plain JavaScript may hand in anything: native code would take it for address 0. */
function tensorOf(device: Device, { name, form, dtype }: Operand & { name: string }, given: unknown): Tensor {
  let tensor = given;
  if (form === 'strided') tensor = (given as StridedOperand | undefined)?.tensor;
  else if (form === 'preparable' && given instanceof PreparedWeight) tensor = given.data;
  if (!(tensor instanceof Tensor)) {
    const what = tensor === undefined ? 'missing' : `no tensor (${Object.prototype.toString.call(tensor)})`;
    throw new ShapeError(`${name} is ${what}: hand in a tensor, as device.tensor makes them`);
  }
  device.expectOwn(tensor);
  if (tensor.dtype !== dtype && !(dtype === 'word' && bytesPerElement[tensor.dtype] === 4))
    throw new ShapeError(`${name} ${describe(tensor)} must be ${dtype === 'word' ? 'f32 or i32' : dtype}`);
  return tensor;
}
