import { addScaled, dot, type Floats, type Integers } from './arrays.ts';
import { dropoutFactor } from './dropout.ts';
import { operands, roundingTo } from './rounding.ts';

/** Added to the scores of padding, as crammedBERT and BERT do; a row of nothing but padding stays a distribution. */
const paddingScore = -10000;

/** The numbers of the contract in their order, after the operands; `layout` is offset, batchStride, rowStride, headStride of each operand. */
class Shape {
  constructor(
    readonly batch: number,
    readonly heads: number,
    readonly headSize: number,
    readonly queryLength: number,
    readonly keyLength: number,
    readonly causal: number,
    readonly dropout: number,
    readonly dropoutKey: number,
    readonly layout: readonly number[],
  ) {}

  /** Where the headSize elements of operand `index` (query, key, value, gradQuery, ...) begin for batch element b, head h, position t. */
  start(index: number, b: number, h: number, t: number): number {
    const [offset, batchStride, rowStride, headStride] = this.layout.slice(4 * index, 4 * index + 4);
    return offset + b * batchStride + t * rowStride + h * headStride;
  }

  /** Distance between positions of operand `index`. */
  rowStride(index: number): number {
    return this.layout[4 * index + 2];
  }

  /** Of output, gradOutput: [batch queryLength, heads headSize]. */
  outputStart(b: number, h: number, i: number): number {
    return ((b * this.queryLength + i) * this.heads + h) * this.headSize;
  }

  /** How many keys query i sees. */
  visibleKeys(i: number): number {
    return this.causal ? i + this.keyLength - this.queryLength + 1 : this.keyLength;
  }

  /** scores[j] = query_i . key_j / sqrt(headSize) + mask, for the keys that query i of (b, h) sees. */
  scores(scores: Float64Array, query: Floats, key: Floats, paddingMask: Integers | undefined, b: number, h: number, i: number): void {
    const scale = 1 / Math.sqrt(this.headSize);
    const queryStart = this.start(0, b, h, i);
    const keyStart = this.start(1, b, h, 0);
    const keyStride = this.rowStride(1);
    const visible = this.visibleKeys(i);
    for (let j = 0; j < visible; j++) {
      const padding = paddingMask && paddingMask[b * this.keyLength + j] === 0;
      scores[j] = scale * dot(query, queryStart, key, keyStart + j * keyStride, this.headSize) + (padding ? paddingScore : 0);
    }
  }

  /** What dropout multiplies the probability of key j for query i of (b, h) by. */
  dropoutFactor(b: number, h: number, i: number, j: number): number {
    if (this.dropout === 0) return 1;
    return dropoutFactor(((b * this.heads + h) * this.queryLength + i) * this.keyLength + j, this.dropout, this.dropoutKey);
  }
}

/** Scaled dot-product attention (arXiv 1706.03762, equation 1). Shapes as in Backend.attention. */
export function attention(
  queryGiven: Floats,
  keyGiven: Floats,
  valueGiven: Floats,
  paddingMask: Integers | undefined,
  output: Floats,
  logSumExp: Floats | undefined,
  batch: number,
  heads: number,
  headSize: number,
  queryLength: number,
  keyLength: number,
  causal: number,
  dropout: number,
  dropoutKey: number,
  precision: number,
  ...layout: number[]
): void {
  const shape = new Shape(batch, heads, headSize, queryLength, keyLength, causal, dropout, dropoutKey, layout);
  const rounded = roundingTo(precision);
  const [query, key, value] = operands(precision, queryGiven, keyGiven, valueGiven);
  const scores = new Float64Array(keyLength);
  const sums = new Float64Array(headSize);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const valueStart = shape.start(2, b, h, 0);
      const valueStride = shape.rowStride(2);
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
}

/**
 * With probabilities P = exp(scores - logSumExp) and dropout's factors M:
 * gradValue_j = sum over i of P_ij M_ij gradOutput_i, gradScore_ij = P_ij (M_ij gradOutput_i . value_j - gradOutput_i . output_i),
 * gradQuery_i = sum over j of gradScore_ij key_j / sqrt(headSize), gradKey_j = sum over i of gradScore_ij query_i / sqrt(headSize).
 * In bf16 operands are rounded where they enter a product: P_ij M_ij and gradScore_ij / sqrt(headSize) too, but output_i not.
 */
export function attentionBackward(
  queryGiven: Floats,
  keyGiven: Floats,
  valueGiven: Floats,
  paddingMask: Integers | undefined,
  output: Floats,
  logSumExp: Floats,
  gradOutputGiven: Floats,
  gradQuery: Floats,
  gradKey: Floats,
  gradValue: Floats,
  batch: number,
  heads: number,
  headSize: number,
  queryLength: number,
  keyLength: number,
  causal: number,
  dropout: number,
  dropoutKey: number,
  precision: number,
  ...layout: number[]
): void {
  const shape = new Shape(batch, heads, headSize, queryLength, keyLength, causal, dropout, dropoutKey, layout);
  const rounded = roundingTo(precision);
  const [query, key, value, gradOutput] = operands(precision, queryGiven, keyGiven, valueGiven, gradOutputGiven);
  const scale = 1 / Math.sqrt(headSize);
  const scores = new Float64Array(keyLength);
  const querySums = new Float64Array(headSize);
  const keySums = Array.from({ length: keyLength }, () => new Float64Array(headSize));
  const valueSums = Array.from({ length: keyLength }, () => new Float64Array(headSize));
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (const sums of keySums) sums.fill(0);
      for (const sums of valueSums) sums.fill(0);
      const keyStart = shape.start(1, b, h, 0);
      const keyStride = shape.rowStride(1);
      const valueStart = shape.start(2, b, h, 0);
      const valueStride = shape.rowStride(2);
      for (let i = 0; i < queryLength; i++) {
        const visible = shape.visibleKeys(i);
        shape.scores(scores, query, key, paddingMask, b, h, i);
        const queryStart = shape.start(0, b, h, i);
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
        gradQuery.set(querySums, shape.start(3, b, h, i));
      }
      for (let j = 0; j < keyLength; j++) {
        gradKey.set(keySums[j], shape.start(4, b, h, j));
        gradValue.set(valueSums[j], shape.start(5, b, h, j));
      }
    }
  }
}
