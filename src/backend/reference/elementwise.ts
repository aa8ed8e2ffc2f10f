import type { Floats, Integers } from './arrays.ts';
import { dropoutFactor } from './dropout.ts';
import { geluSlope, geluValue } from './gelu.ts';

export function fill(output: Floats, _count: number, value: number): void {
  output.fill(value);
}

export function fillIntegers(output: Integers, _count: number, value: number): void {
  output.fill(Math.trunc(value));
}

export function copy(input: Floats | Integers, output: Floats | Integers): void {
  output.set(input);
}

export function add(a: Floats, b: Floats, output: Floats, count: number, scale: number): void {
  for (let i = 0; i < count; i++) output[i] = a[i] + scale * b[i];
}

export function gelu(input: Floats, output: Floats, count: number): void {
  for (let i = 0; i < count; i++) output[i] = geluValue(input[i]);
}

export function geluBackward(input: Floats, gradOutput: Floats, gradInput: Floats, count: number): void {
  for (let i = 0; i < count; i++) gradInput[i] = gradOutput[i] * geluSlope(input[i]);
}

export function tanh(input: Floats, output: Floats, count: number): void {
  for (let i = 0; i < count; i++) output[i] = Math.tanh(input[i]);
}

export function tanhBackward(output: Floats, gradOutput: Floats, gradInput: Floats, count: number): void {
  for (let i = 0; i < count; i++) gradInput[i] = gradOutput[i] * (1 - output[i] * output[i]);
}

export function dropout(input: Floats, output: Floats, count: number, probability: number, key: number): void {
  for (let i = 0; i < count; i++) {
    const factor = dropoutFactor(i, probability, key);
    output[i] = factor === 0 ? 0 : input[i] * factor;
  }
}
