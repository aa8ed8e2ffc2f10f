import type * as operations from '../operations/attention.ts';
import type { Implementation } from '../operations/operation.ts';
import { addScaled, dot, type Floats, type Integers } from './arrays.ts';
import { dropoutFactor } from './dropout.ts';
import { roundedTo, roundingTo } from './rounding.ts';

/** Added to the scores of padding, as crammedBERT and BERT do; a row of nothing but padding stays a distribution. */
const paddingScore = -10000;

type Numbers = Parameters<typeof attention>[1];
type Part = 'query' | 'key' | 'value' | 'gradQuery' | 'gradKey' | 'gradValue';

/** One of the sequences: the rows of its queries, and of its keys and values. */
interface Sequence {
  b: number;
  firstQuery: number;
  queries: number;
  firstKey: number;
  keys: number;
}

/** Where things lie, from the operation's numbers. */
class Shape {
  constructor(
    private readonly numbers: Omit<Numbers, never> & Readonly<Record<string, number>>,
    private readonly rows: Integers | undefined,
  ) {}

  /** @throws RangeError if one does not fit the operands */
  *sequences(): Generator<Sequence> {
    const { batch, queryLength, keyLength, queryRows, keyRows, causal } = this.numbers;
    for (let b = 0; b < batch; b++) {
      const [firstQuery, queries, firstKey, keys] = this.rows?.subarray(4 * b, 4 * b + 4) ?? [
        ...[b * queryLength, queryLength],
        ...[b * keyLength, keyLength],
      ];
      const fits =
        Math.min(firstQuery, firstKey) >= 0 &&
        Math.min(queries, keys) > 0 &&
        queries <= queryLength &&
        keys <= keyLength &&
        firstQuery + queries <= queryRows &&
        firstKey + keys <= keyRows &&
        !(causal && queries > keys);
      if (!fits)
        throw new RangeError(`attention: sequence ${b} has ${queries} queries and ${keys} keys, or places, that do not fit the operands`);
      yield { b, firstQuery, queries, firstKey, keys };
    }
  }

  /** Where the headSize elements of an operand begin for a sequence, head h, position t. */
  start(part: Part, { b, firstQuery, firstKey }: Sequence, h: number, t: number): number {
    const { numbers } = this;
    const first = part === 'query' || part === 'gradQuery' ? firstQuery : firstKey;
    const sequence = this.rows ? first * this.rowStride(part) : b * numbers[`${part}BatchStride`];
    return numbers[`${part}Offset`] + sequence + t * this.rowStride(part) + h * numbers[`${part}HeadStride`];
  }

  /** Distance between positions of an operand. */
  rowStride(part: Part): number {
    return this.numbers[`${part}RowStride`];
  }

  /** The head of keys and values that a head of queries has. */
  keyValueHead(h: number): number {
    return Math.floor(h / (this.numbers.heads / this.numbers.keyValueHeads));
  }

  /** Of output, gradOutput: [queryRows, heads headSize]. */
  outputStart({ firstQuery }: Sequence, h: number, i: number): number {
    return ((firstQuery + i) * this.numbers.heads + h) * this.numbers.headSize;
  }

  /** Of logSumExp: [queryRows, heads]. */
  logSumExpAt({ firstQuery }: Sequence, h: number, i: number): number {
    return (firstQuery + i) * this.numbers.heads + h;
  }

  /** How many keys query i sees. */
  visibleKeys({ queries, keys }: Sequence, i: number): number {
    return this.numbers.causal ? i + keys - queries + 1 : keys;
  }

  /** scores[j] = query_i . key_j / sqrt(headSize) + mask, for the keys that query i of head h sees. */
  scores(scores: Float64Array, query: Floats, key: Floats, paddingMask: Integers | undefined, of: Sequence, h: number, i: number): void {
    const scale = 1 / Math.sqrt(this.numbers.headSize);
    const queryStart = this.start('query', of, h, i);
    const keyStart = this.start('key', of, this.keyValueHead(h), 0);
    const keyStride = this.rowStride('key');
    const visible = this.visibleKeys(of, i);
    for (let j = 0; j < visible; j++) {
      const padding = paddingMask && paddingMask[of.b * this.numbers.keyLength + j] === 0;
      scores[j] = scale * dot(query, queryStart, key, keyStart + j * keyStride, this.numbers.headSize) + (padding ? paddingScore : 0);
    }
  }

  /** What dropout multiplies the probability of key j for query i of (b, h) by. */
  dropoutFactor({ b }: Sequence, h: number, i: number, j: number): number {
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
  const { heads, headSize, keyLength, precision } = numbers;
  const shape = new Shape(numbers, operands.sequences);
  const rounded = roundingTo(precision);
  const [query, key, value] = roundedTo(precision, operands.query, operands.key, operands.value);
  const scores = new Float64Array(keyLength);
  const sums = new Float64Array(headSize);
  for (const of of [...shape.sequences()]) {
    for (let h = 0; h < heads; h++) {
      const valueStart = shape.start('value', of, shape.keyValueHead(h), 0);
      const valueStride = shape.rowStride('value');
      for (let i = 0; i < of.queries; i++) {
        const visible = shape.visibleKeys(of, i);
        shape.scores(scores, query, key, paddingMask, of, h, i);
        let maximum = Number.NEGATIVE_INFINITY;
        for (let j = 0; j < visible; j++) maximum = Math.max(maximum, scores[j]);
        let total = 0;
        for (let j = 0; j < visible; j++) total += Math.exp(scores[j] - maximum);
        const rowLogSumExp = maximum + Math.log(total);

        sums.fill(0);
        for (let j = 0; j < visible; j++) {
          const weight = rounded(Math.exp(scores[j] - maximum)) / total;
          addScaled(sums, weight * shape.dropoutFactor(of, h, i, j), value, valueStart + j * valueStride, headSize);
        }
        output.set(sums, shape.outputStart(of, h, i));
        if (logSumExp) logSumExp[shape.logSumExpAt(of, h, i)] = rowLogSumExp;
      }
    }
  }
};

/**
 * With probabilities P = exp(scores - logSumExp) and dropout's factors M:
 * gradValue_j = sum over i of P_ij M_ij gradOutput_i, gradScore_ij = P_ij (M_ij gradOutput_i . value_j - gradOutput_i . output_i),
 * gradQuery_i = sum over j of gradScore_ij key_j / sqrt(headSize), gradKey_j = sum over i of gradScore_ij query_i / sqrt(headSize).
 * The sums over i are over all heads that share a head of keys and values. In bf16 operands are rounded where they enter a product:
 * P_ij M_ij and gradScore_ij / sqrt(headSize) too, but output_i not.
 */
export const attentionBackward: Implementation<typeof operations.attentionBackward> = (operands, numbers) => {
  const { paddingMask, output, logSumExp, gradQuery, gradKey, gradValue } = operands;
  const { heads, keyValueHeads, headSize, keyLength, precision } = numbers;
  const shape = new Shape(numbers, operands.sequences);
  const rounded = roundingTo(precision);
  const [query, key, value, gradOutput] = roundedTo(precision, operands.query, operands.key, operands.value, operands.gradOutput);
  const scale = 1 / Math.sqrt(headSize);
  const scores = new Float64Array(keyLength);
  const querySums = new Float64Array(headSize);
  const keySums = Array.from({ length: keyLength }, () => new Float64Array(headSize));
  const valueSums = Array.from({ length: keyLength }, () => new Float64Array(headSize));
  for (const of of [...shape.sequences()]) {
    for (let shared = 0; shared < keyValueHeads; shared++) {
      for (const sums of [...keySums, ...valueSums]) sums.fill(0);
      const keyStart = shape.start('key', of, shared, 0);
      const keyStride = shape.rowStride('key');
      const valueStart = shape.start('value', of, shared, 0);
      const valueStride = shape.rowStride('value');
      for (let h = 0; h < heads; h++) {
        if (shape.keyValueHead(h) !== shared) continue;
        for (let i = 0; i < of.queries; i++) {
          const visible = shape.visibleKeys(of, i);
          shape.scores(scores, query, key, paddingMask, of, h, i);
          const queryStart = shape.start('query', of, h, i);
          const outputStart = shape.outputStart(of, h, i);
          const rowLogSumExp = logSumExp[shape.logSumExpAt(of, h, i)];
          const gradWithOutput = dot(gradOutput, outputStart, output, outputStart, headSize);

          querySums.fill(0);
          for (let j = 0; j < visible; j++) {
            const probability = Math.exp(scores[j] - rowLogSumExp);
            const factor = shape.dropoutFactor(of, h, i, j);
            const gradProbability = factor * dot(gradOutput, outputStart, value, valueStart + j * valueStride, headSize);
            const gradScore = rounded(scale * probability * (gradProbability - gradWithOutput));
            addScaled(valueSums[j], rounded(probability * factor), gradOutput, outputStart, headSize);
            addScaled(keySums[j], gradScore, query, queryStart, headSize);
            addScaled(querySums, gradScore, key, keyStart + j * keyStride, headSize);
          }
          gradQuery.set(querySums, shape.start('gradQuery', of, h, i));
        }
      }
      for (let j = 0; j < of.keys; j++) {
        gradKey.set(keySums[j], shape.start('gradKey', of, shared, j));
        gradValue.set(valueSums[j], shape.start('gradValue', of, shared, j));
      }
    }
  }
};
