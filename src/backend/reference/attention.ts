import type * as operations from '../operations/attention.ts';
import type { Implementation } from '../operations/operation.ts';
import { addScaled, dot, type Floats, type Integers } from './arrays.ts';
import { dropoutFactor } from './dropout.ts';
import { roundedTo, roundingTo } from './rounding.ts';

/** Added to the scores of padding, as crammedBERT and BERT do; a row of nothing but padding stays a distribution. */
const paddingScore = -10000;

type Numbers = Parameters<typeof attention>[1];
type Part = 'query' | 'key' | 'value' | 'gradQuery' | 'gradKey' | 'gradValue';

/** Where things lie, from the operation's numbers. */
class Shape {
  constructor(private readonly numbers: Omit<Numbers, never> & Readonly<Record<string, number>>) {}

  /** Where the headSize elements of an operand begin for batch element b, head h, position t. */
  start(part: Part, b: number, h: number, t: number): number {
    const { numbers } = this;
    return (
      numbers[`${part}Offset`] + b * numbers[`${part}BatchStride`] + t * numbers[`${part}RowStride`] + h * numbers[`${part}HeadStride`]
    );
  }

  /** Distance between positions of an operand. */
  rowStride(part: Part): number {
    return this.numbers[`${part}RowStride`];
  }

  /** Of output, gradOutput: [batch queryLength, heads headSize]. */
  outputStart(b: number, h: number, i: number): number {
    return ((b * this.numbers.queryLength + i) * this.numbers.heads + h) * this.numbers.headSize;
  }

  /** How many keys query i sees. */
  visibleKeys(i: number): number {
    return this.numbers.causal ? i + this.numbers.keyLength - this.numbers.queryLength + 1 : this.numbers.keyLength;
  }

  /** scores[j] = query_i . key_j / sqrt(headSize) + mask, for the keys that query i of (b, h) sees. */
  scores(scores: Float64Array, query: Floats, key: Floats, paddingMask: Integers | undefined, b: number, h: number, i: number): void {
    const scale = 1 / Math.sqrt(this.numbers.headSize);
    const queryStart = this.start('query', b, h, i);
    const keyStart = this.start('key', b, h, 0);
    const keyStride = this.rowStride('key');
    const visible = this.visibleKeys(i);
    for (let j = 0; j < visible; j++) {
      const padding = paddingMask && paddingMask[b * this.numbers.keyLength + j] === 0;
      scores[j] = scale * dot(query, queryStart, key, keyStart + j * keyStride, this.numbers.headSize) + (padding ? paddingScore : 0);
    }
  }

  /** What dropout multiplies the probability of key j for query i of (b, h) by. */
  dropoutFactor(b: number, h: number, i: number, j: number): number {
    if (this.numbers.probability === 0) return 1;
    return dropoutFactor(
      ((b * this.numbers.heads + h) * this.numbers.queryLength + i) * this.numbers.keyLength + j,
      this.numbers.probability,
      this.numbers.key,
    );
  }
}

/** Scaled dot-product attention (arXiv 1706.03762, equation 1). Shapes as in the operation attention. */
export const attention: Implementation<typeof operations.attention> = (operands, numbers) => {
  const { paddingMask, output, logSumExp } = operands;
  const { batch, heads, headSize, queryLength, keyLength, precision } = numbers;
  const shape = new Shape(numbers);
  const rounded = roundingTo(precision);
  const [query, key, value] = roundedTo(precision, operands.query, operands.key, operands.value);
  const scores = new Float64Array(keyLength);
  const sums = new Float64Array(headSize);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const valueStart = shape.start('value', b, h, 0);
      const valueStride = shape.rowStride('value');
      for (let i = 0; i < queryLength; i++) {
        const visible = shape.visibleKeys(i);
        shape.scores(scores, query, key, paddingMask, b, h, i);
        let maximum = Number.NEGATIVE_INFINITY;
        for (let j = 0; j < visible; j++) maximum = Math.max(maximum, scores[j]);
        let total = 0;
        for (let j = 0; j < visible; j++) total += Math.exp(scores[j] - maximum);
        const rowLogSumExp = maximum + Math.log(total);

        sums.fill(0);
        for (let j = 0; j < visible; j++) {
          const weight = rounded(Math.exp(scores[j] - maximum)) / total;
          addScaled(sums, weight * shape.dropoutFactor(b, h, i, j), value, valueStart + j * valueStride, headSize);
        }
        output.set(sums, shape.outputStart(b, h, i));
        if (logSumExp) logSumExp[(b * heads + h) * queryLength + i] = rowLogSumExp;
      }
    }
  }
};

/**
 * With probabilities P = exp(scores - logSumExp) and dropout's factors M:
 * gradValue_j = sum over i of P_ij M_ij gradOutput_i, gradScore_ij = P_ij (M_ij gradOutput_i . value_j - gradOutput_i . output_i),
 * gradQuery_i = sum over j of gradScore_ij key_j / sqrt(headSize), gradKey_j = sum over i of gradScore_ij query_i / sqrt(headSize).
 * In bf16 operands are rounded where they enter a product: P_ij M_ij and gradScore_ij / sqrt(headSize) too, but output_i not.
 */
export const attentionBackward: Implementation<typeof operations.attentionBackward> = (operands, numbers) => {
  const { paddingMask, output, logSumExp, gradQuery, gradKey, gradValue } = operands;
  const { batch, heads, headSize, queryLength, keyLength, precision } = numbers;
  const shape = new Shape(numbers);
  const rounded = roundingTo(precision);
  const [query, key, value, gradOutput] = roundedTo(precision, operands.query, operands.key, operands.value, operands.gradOutput);
  const scale = 1 / Math.sqrt(headSize);
  const scores = new Float64Array(keyLength);
  const querySums = new Float64Array(headSize);
  const keySums = Array.from({ length: keyLength }, () => new Float64Array(headSize));
  const valueSums = Array.from({ length: keyLength }, () => new Float64Array(headSize));
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (const sums of keySums) sums.fill(0);
      for (const sums of valueSums) sums.fill(0);
      const keyStart = shape.start('key', b, h, 0);
      const keyStride = shape.rowStride('key');
      const valueStart = shape.start('value', b, h, 0);
      const valueStride = shape.rowStride('value');
      for (let i = 0; i < queryLength; i++) {
        const visible = shape.visibleKeys(i);
        shape.scores(scores, query, key, paddingMask, b, h, i);
        const queryStart = shape.start('query', b, h, i);
        const outputStart = shape.outputStart(b, h, i);
        const rowLogSumExp = logSumExp[(b * heads + h) * queryLength + i];
        const gradWithOutput = dot(gradOutput, outputStart, output, outputStart, headSize);

        querySums.fill(0);
        for (let j = 0; j < visible; j++) {
          const probability = Math.exp(scores[j] - rowLogSumExp);
          const factor = shape.dropoutFactor(b, h, i, j);
          const gradProbability = factor * dot(gradOutput, outputStart, value, valueStart + j * valueStride, headSize);
          const gradScore = rounded(scale * probability * (gradProbability - gradWithOutput));
          addScaled(valueSums[j], rounded(probability * factor), gradOutput, outputStart, headSize);
          addScaled(keySums[j], gradScore, query, queryStart, headSize);
          addScaled(querySums, gradScore, key, keyStart + j * keyStride, headSize);
        }
        gradQuery.set(querySums, shape.start('gradQuery', b, h, i));
      }
      for (let j = 0; j < keyLength; j++) {
        gradKey.set(keySums[j], shape.start('gradKey', b, h, j));
        gradValue.set(valueSums[j], shape.start('gradValue', b, h, j));
      }
    }
  }
};
