import { input, normal, type Operand } from '../backend/cases/case.ts';
import type { Random } from '../backend/random.ts';

/** BERT-base's: a sequence of 128, 12 heads of 64, four times the width between. */
export const [tokens, width, heads, headSize, inner, vocabulary] = [128, 768, 12, 64, 3072, 8192];
export const depth = 11;
export const nodes = 2 ** (depth + 1) - 1;

export const zeros = (shape: readonly number[]): Operand => input(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
export const flags = (count: number): Operand =>
  input(
    [count],
    Int32Array.from({ length: count }, (_, i) => (i % 4 === 0 ? 1 : 0)),
  );

/** f32 operands of one shape, by name. */
export const alike =
  (shape: readonly number[], ...names: string[]) =>
  (random: Random): Record<string, Operand> =>
    Object.fromEntries(names.map((name) => [name, normal(random, shape)]));

/** Of an array between the two feedforward layers. */
export const elements = tokens * inner;
