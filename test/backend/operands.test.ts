import { expect, test } from 'vitest';
import { calledOperations } from '../../src/backend/operations/operations.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { ShapeError } from '../../src/errors.ts';
import { operationCases } from './operation_cases.ts';
import { operandsOf } from './run_case.ts';

type Given = Record<string, unknown>;
type Name = keyof typeof calledOperations;
const names = Object.keys(calledOperations) as Name[];

/** What each operation is called with by the first of its cases that is small. */
const calls = new Map<Name, Given>();
class RecordingDevice extends ReferenceDevice {}
for (const name of names) {
  const call = ReferenceDevice.prototype[name] as (given: Given) => void;
  const recorded = function (this: ReferenceDevice, given: Given) {
    if (!calls.has(name)) calls.set(name, given);
    call.call(this, given);
  };
  Object.defineProperty(RecordingDevice.prototype, name, { value: recorded });
}
const device = new RecordingDevice();
const foreign = new ReferenceDevice().zeros('foreign', [1]);
const disposed = device.zeros('disposed', [1]);
disposed.dispose();

for (const operationCase of operationCases) {
  const operands = Object.entries(operandsOf(operationCase));
  if (operands.some(([, { values }]) => values.length > 1000)) continue;
  const tensors: Record<string, Tensor> = {};
  for (const [name, { shape, dtype, values }] of operands) tensors[name] = device.tensor(name, shape, dtype, values);
  operationCase.forward(device, tensors);
  operationCase.backward?.(device, tensors);
}

test('cases call every operation', () => {
  expect([...calls.keys()].sort()).toEqual([...names].sort());
});

test.each(names)('%s refuses tensors that are missing, of another device or disposed, and says which', (name) => {
  const { operands } = calledOperations[name];
  const given = calls.get(name) as Given;
  const call = (changes: Given) => () => (device[name] as (given: Given) => void)({ ...given, ...changes });
  for (const [operand, { form, optional }] of Object.entries(operands)) {
    const as = (tensor: Tensor) => (form === 'strided' ? { ...(given[operand] as object), tensor } : tensor);
    if (!optional)
      expect(call({ [operand]: undefined })).toThrow(
        new ShapeError(`${name}: ${operand} is missing: hand in a tensor, as device.tensor makes them`),
      );
    expect(call({ [operand]: null })).toThrow(ShapeError);
    expect(call({ [operand]: as(foreign) })).toThrow(/'foreign' f32 \[1\] belongs to another device$/);
    expect(call({ [operand]: as(disposed) })).toThrow("tensor 'disposed' was disposed");
  }
});
