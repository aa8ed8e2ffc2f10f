/** Parameters' values as a checkpoint has them, and back. */
import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import { packArrays, unpackArrays } from './layouts.ts';
import type { NamedArray, Parameter } from './parameter.ts';

/** A parameter's value (or what is shaped like it: its gradient, a moment of the optimizer) as a checkpoint has it. */
export async function exportParameter(
  parameter: Parameter,
  source: Tensor | (() => Promise<Float32Array>) = parameter.value,
): Promise<NamedArray[]> {
  const { tensors } = parameter.layout;
  const arrays = unpackArrays(parameter.layout, await (typeof source === 'function' ? source() : valuesOf(parameter, source)));
  return tensors.map(({ name, shape }, i) => ({ name, shape, values: arrays[i] }));
}

function valuesOf(parameter: Parameter, tensor: Tensor): Promise<Float32Array> {
  if (tensor.disposed && parameter.prepared) parameter.refuse('saved');
  return tensor.device.read(tensor);
}

/**
 * What {@link exportParameter} gives, tensor by tensor, to be written: exported when the first is asked for and kept until each was, once.
 */
export function parameterTensors(
  parameter: Parameter,
  source?: Tensor | (() => Promise<Float32Array>),
): { name: string; shape: readonly number[]; values: () => Promise<Float32Array> }[] {
  const { tensors } = parameter.layout;
  let exported: Promise<NamedArray[]> | undefined;
  let left = tensors.length;
  return tensors.map(({ name, shape }, index) => ({
    name,
    shape,
    values: async () => {
      exported ??= exportParameter(parameter, source);
      const { values } = (await exported)[index];
      if (--left === 0) exported = undefined;
      return values;
    },
  }));
}

/**
 * The inverse of {@link exportParameter}; arrays in any order. Of a layout that is absent where it is 0, a missing one is 0.
 * @throws InputError if another is missing, or one is of another size
 */
export function importParameter(parameter: Parameter, arrays: readonly NamedArray[], target: Tensor = parameter.value): void {
  target.device.write(target, packParameter(parameter, arrays));
}

/** The values that {@link importParameter} writes. */
export function packParameter(parameter: Parameter, arrays: readonly NamedArray[]): Float32Array {
  const values = parameter.layout.tensors.map(({ name, shape }) => {
    const array = arrays.find((candidate) => candidate.name === name);
    if (!array && parameter.layout.absentIfZero) return new Float32Array(size(shape));
    if (!array) throw new InputError(`tensor '${name}' is missing`);
    if (array.values.length !== size(shape))
      throw new InputError(`tensor '${name}' has ${array.values.length} values, expected [${shape}]`);
    return array.values;
  });
  return packArrays(parameter.layout, values);
}

const size = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);
