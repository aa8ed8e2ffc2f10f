import type { Device } from '../../src/backend/device.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { arrayTypes, type Tensor, type TypedArray } from '../../src/backend/tensor.ts';
import { hashText } from '../../src/nn/random.ts';
import type { Operand, OperationCase, Tensors } from './cases/case.ts';
import { DoublePrecisionDevice } from './double_precision.ts';
import { Random } from './random.ts';

export type Values = Record<string, TypedArray>;

const operandsByCase = new Map<string, Record<string, Operand>>();

/** The case's operands, the same ones at each call: leave their values as they are. */
export function operandsOf(operationCase: OperationCase): Record<string, Operand> {
  const { name } = operationCase;
  const operands = operandsByCase.get(name) ?? operationCase.operands(new Random(hashText(name)));
  operandsByCase.set(name, operands);
  return operands;
}

/** Elements around each tensor that nothing may change. Odd before it, so that no tensor is aligned to more than its element. */
const guardBefore = 5;
const guardAfter = 67;
const guardValue = 123;

/** The case's tensors, each in the middle of guard elements. */
class CaseTensors {
  readonly tensors: Tensors = {};
  private readonly guarded: Tensor[] = [];

  constructor(
    readonly device: Device,
    readonly operands: Record<string, Operand>,
  ) {
    for (const name in operands) {
      const { shape, dtype, values } = operands[name];
      const whole = device.tensor(name, [guardBefore + values.length + guardAfter], dtype);
      device.write(whole, new arrayTypes[dtype](whole.size).fill(guardValue));
      this.guarded.push(whole);
      this.tensors[name] = whole.view(shape, guardBefore);
    }
    this.write();
  }

  write(): void {
    for (const name in this.operands) this.device.write(this.tensors[name], this.operands[name].values);
  }

  /** Every operand's values; throws where an input or a guard was changed, or an output was not written. */
  async read(): Promise<Values> {
    const results: Values = {};
    for (const whole of this.guarded) {
      const all = await this.device.read(whole);
      const values = all.slice(guardBefore, -guardAfter);
      results[whole.name] = values;
      if (!all.subarray(0, guardBefore).every(isGuard) || !all.subarray(-guardAfter).every(isGuard)) {
        throw new Error(`the operation wrote outside of '${whole.name}'`);
      }
      const { role, values: before } = this.operands[whole.name];
      if (role === 'input' && !values.every((value, i) => Object.is(value, before[i]))) {
        throw new Error(`the operation changed its input '${whole.name}'`);
      }
      if (role === 'output' && values.some((value, i) => Object.is(value, before[i]))) {
        throw new Error(`the operation did not write all of '${whole.name}'`);
      }
    }
    return results;
  }

  dispose(): void {
    for (const tensor of this.guarded) tensor.dispose();
  }
}

const isGuard = (value: number) => value === guardValue;

/** Runs the case's forward and backward and returns every operand's values after it. */
export async function runCase(device: Device, operationCase: OperationCase): Promise<Values> {
  const memory = new CaseTensors(device, operandsOf(operationCase));
  operationCase.forward(device, memory.tensors);
  operationCase.backward?.(device, memory.tensors);
  const results = await memory.read();
  memory.dispose();
  return results;
}

const expectations = new Map<string, Promise<Values>>();

/** What the reference makes of the case, computed once; what the reference itself is held to is the same in double precision. */
export function expectedValues(operationCase: OperationCase, forReference: boolean): Promise<Values> {
  const key = `${operationCase.name} ${forReference}`;
  let values = expectations.get(key);
  if (!values) {
    values = runCase(forReference ? new DoublePrecisionDevice() : new ReferenceDevice(), operationCase);
    expectations.set(key, values);
  }
  return values;
}

/** The largest difference over the largest expected value, or over `atLeast` if that is larger; NaN where either has one that the other has not. */
export function normalizedError(actual: ArrayLike<number>, expected: ArrayLike<number>, atLeast = Number.MIN_VALUE): number {
  if (actual.length !== expected.length) return Number.NaN;
  let difference = 0;
  let largest = atLeast;
  for (let i = 0; i < expected.length; i++) {
    if (Number.isFinite(expected[i])) largest = Math.max(largest, Math.abs(expected[i]));
    if (Object.is(actual[i], expected[i])) continue;
    const error = Math.abs(actual[i] - expected[i]);
    if (!(error < Number.POSITIVE_INFINITY)) return Number.NaN;
    difference = Math.max(difference, error);
  }
  return difference === 0 ? 0 : difference / largest;
}

/** Elements differentiated of each input, spread evenly over it. */
const elementsDifferentiated = 100;
/** The formula's own error is of the order of the step squared, 6e-8; float32 inputs still resolve the step. */
const step = 2 ** -12;

interface Differences {
  input: string;
  elements: number[];
  values: number[];
}
const differencesOf = new Map<string, Promise<Differences[]>>();

/** For each input that the case differentiates: central finite differences of its loss at some of the input's elements, by the reference in double precision. */
function finiteDifferences(operationCase: OperationCase): Promise<Differences[]> {
  const { name } = operationCase;
  const differences = differencesOf.get(name) ?? differentiate(operationCase);
  differencesOf.set(name, differences);
  return differences;
}

async function differentiate(operationCase: OperationCase): Promise<Differences[]> {
  const { gradient, forward } = operationCase;
  const { outputs, inputs } = gradient as NonNullable<OperationCase['gradient']>;
  const operands = operandsOf(operationCase);
  using device = new DoublePrecisionDevice();
  const memory = new CaseTensors(device, operands);

  const loss = async (input: string, element: number, value: number) => {
    const values = operands[input].values;
    const before = values[element];
    values[element] = value;
    memory.write();
    values[element] = before;
    forward(device, memory.tensors);
    let sum = 0;
    for (const output in outputs) {
      const factor = outputs[output];
      (await device.read(memory.tensors[output])).forEach((y, i) => {
        sum += y * (typeof factor === 'number' ? factor : operands[factor].values[i]);
      });
    }
    return sum;
  };

  const differences: Differences[] = [];
  for (const input in inputs) {
    const { values } = operands[input];
    const count = Math.min(values.length, elementsDifferentiated);
    const elements = Array.from({ length: count }, (_, k) => Math.floor((k * values.length) / count));
    const slopes: number[] = [];
    for (const i of elements) {
      const above = Math.fround(values[i] + step);
      const below = Math.fround(values[i] - step);
      slopes.push(((await loss(input, i, above)) - (await loss(input, i, below))) / (above - below));
    }
    differences.push({ input, elements, values: slopes });
  }
  return differences;
}

/** The error of each gradient that the results hold, against finite differences. */
export async function gradientErrors(operationCase: OperationCase, results: Values): Promise<Record<string, number>> {
  const operands = operandsOf(operationCase);
  const errors: Record<string, number> = {};
  for (const { input, elements, values } of await finiteDifferences(operationCase)) {
    const name = operationCase.gradient?.inputs[input] as string;
    const { role, values: before } = operands[name];
    const gradient = elements.map((i) => results[name][i] - (role === 'updated' ? before[i] : 0));
    errors[name] = normalizedError(gradient, values, operationCase.tolerance.atLeast);
  }
  return errors;
}
