import { ceilDivide, type Kernel, type Numbers, type Variant } from '../kernel.ts';
import { dropoutNumbers, dropoutTypes } from '../prelude.ts';

/** Added to the scores of padding. */
const paddingScore = '-10000.0';
/** Less than any score. */
const nothing = '-3.4028234e38';

const rounded = ({ precision }: Numbers, value: string) => (precision === 1 ? `to_bf16(${value})` : value);

/** Where the elements of strided operands are, how many keys a query sees, and what dropout does. */
const places = (numbers: Numbers, parts: readonly string[]) => `
  ${parts.map((part) => `fn ${part}_start(b: u32, h: u32, t: u32) -> u32 { return p.${part}Offset + b * p.${part}BatchStride + t * p.${part}RowStride + h * p.${part}HeadStride; }`).join('\n')}
  fn visible_keys(i: u32) -> u32 { return ${numbers.causal ? 'i + p.keyLength - p.queryLength + 1u' : 'p.keyLength'}; }
  fn padding_of(b: u32, j: u32) -> f32 { return select(0.0, ${paddingScore}, has_paddingMask && get_paddingMask(b * p.keyLength + j) == 0); }
  fn dropout_at(b: u32, h: u32, i: u32, j: u32) -> f32 {
    return ${numbers.probability > 0 ? 'dropout_factor(((b * p.heads + h) * p.queryLength + i) * p.keyLength + j)' : '1.0'};
  }
  fn output_start(b: u32, h: u32, i: u32) -> u32 { return ((b * p.queryLength + i) * p.heads + h) * ${numbers.headSize}u; }
  const scale = ${1 / Math.sqrt(numbers.headSize)};`;

/** Queries of a workgroup and keys that it takes at a time: as many as its memory holds. */
export function tilesOf(headSize: number, workgroupStorage: number): { queries: number; keys: number } {
  for (const queries of [16, 8, 4, 2, 1])
    for (const keys of queries > 1 ? [32, 16, 8] : [32, 16, 8, 4, 2, 1])
      if (4 * (queries * headSize + keys * (headSize + 1) + queries * keys) <= workgroupStorage) return { queries, keys };
  throw new Error(`attention: heads of ${headSize} are too large for ${workgroupStorage} bytes of a workgroup's memory`);
}

/**
 * Scores are not written out: a workgroup of 64 threads has some queries, several threads for each, and goes through the keys and values,
 * some at a time, with the sum of exponentials and the weighted values scaled anew where a larger score comes (arXiv 2112.05682, 2205.14135).
 */
function forward(numbers: Numbers, { workgroupStorage }: Variant): string {
  const { headSize, precision } = numbers;
  const { queries, keys } = tilesOf(headSize, workgroupStorage);
  const lanes = 64 / queries;
  const features = ceilDivide(headSize, lanes);
  const load = (part: 'key' | 'value') => `
    for (var e = lane; e < ${keys * headSize}u; e += 64u) {
      let j = e / ${headSize}u;
      let d = e % ${headSize}u;
      var x = 0.0;
      if (origin + j < p.keyLength) { x = ${rounded(numbers, `get_${part}(${part}_start(b, h, origin + j) + d)`)}; }
      tile[j * ${headSize + 1}u + d] = x;
    }
    workgroupBarrier();`;
  const score = `
    workgroupBarrier();
    ${load('key')}
    for (var j = sub; j < ${keys}u; j += ${lanes}u) {
      var s = ${nothing};
      if (origin + j < visible) {
        s = 0.0;
        for (var d = 0u; d < ${headSize}u; d++) { s += query_tile[q * ${headSize}u + d] * tile[j * ${headSize + 1}u + d]; }
        s = s * scale + padding_of(b, origin + j);
      }
      scores[q * ${keys}u + j] = s;
    }
    workgroupBarrier();
    var largest = maximum;
    for (var j = 0u; j < ${keys}u; j++) { largest = max(largest, scores[q * ${keys}u + j]); }`;
  return `
    ${places(numbers, ['query', 'key', 'value'])}
    var<workgroup> query_tile: array<f32, ${queries * headSize}>;
    var<workgroup> tile: array<f32, ${keys * (headSize + 1)}>;
    var<workgroup> scores: array<f32, ${queries * keys}>;
    fn run(group: u32, lane: u32) {
      let blocks = (p.queryLength + ${queries - 1}u) / ${queries}u;
      let first = (group % blocks) * ${queries}u;
      let b = group / blocks / p.heads;
      let h = group / blocks % p.heads;
      for (var e = lane; e < ${queries * headSize}u; e += 64u) {
        let i = first + e / ${headSize}u;
        if (i < p.queryLength) { query_tile[e] = ${rounded(numbers, `get_query(query_start(b, h, i) + e % ${headSize}u)`)}; }
      }
      let q = lane / ${lanes}u;
      let sub = lane % ${lanes}u;
      let i = first + q;
      let visible = min(visible_keys(i), p.keyLength);
      let end = min(visible_keys(first + ${queries - 1}u), p.keyLength);
      var maximum = ${nothing};
      ${
        precision === 1
          ? // What is rounded is measured origin the largest score of all, which has to be known first.
            `for (var origin = 0u; origin < end; origin += ${keys}u) { ${score} maximum = largest; }`
          : ''
      }
      var total = 0.0;
      var sums: array<f32, ${features}>;
      for (var origin = 0u; origin < end; origin += ${keys}u) {
        ${score}
        ${load('value')}
        for (var j = sub; j < ${keys}u; j += ${lanes}u) {
          scores[q * ${keys}u + j] = select(0.0, exp(scores[q * ${keys}u + j] - largest), origin + j < visible);
        }
        workgroupBarrier();
        let factor = exp(maximum - largest);
        maximum = largest;
        total *= factor;
        for (var f = 0u; f < ${features}u; f++) { sums[f] *= factor; }
        for (var j = 0u; j < ${keys}u; j++) {
          let probability = scores[q * ${keys}u + j];
          total += probability;
          let weight = ${rounded(numbers, 'probability')} * dropout_at(b, h, i, origin + j);
          for (var f = 0u; f < ${features}u; f++) { sums[f] += weight * tile[j * ${headSize + 1}u + min(sub + f * ${lanes}u, ${headSize - 1}u)]; }
        }
      }
      if (i >= p.queryLength) { return; }
      for (var f = 0u; f < ${features}u; f++) {
        let d = sub + f * ${lanes}u;
        if (d < ${headSize}u) { set_output(output_start(b, h, i) + d, sums[f] / total); }
      }
      if (sub == 0u) { set_logSumExp((b * p.heads + h) * p.queryLength + i, maximum + log(total)); }
    }`;
}

const uses = ({ precision, probability }: Numbers) => [
  ...(precision === 1 ? ['to_bf16'] : []),
  ...(probability > 0 ? ['dropout_factor'] : []),
];

const shared = {
  constants: ['headSize', 'causal', 'precision', 'drops'],
  types: dropoutTypes,
  derive: (numbers: Numbers) => ({ ...dropoutNumbers(numbers), drops: numbers.probability > 0 ? 1 : 0 }),
};

/** How many queries a workgroup has depends on its memory, of which there is at least this much; more would not make it faster by much. */
const storage = 16384;

export const attention: Kernel = {
  ...shared,
  stages: (numbers) => [
    {
      name: 'queries',
      groups: ({ batch, heads, headSize, queryLength }) => batch * heads * ceilDivide(queryLength, tilesOf(headSize, storage).queries),
      uses: uses(numbers),
      code: (numbers, variant) => forward(numbers, { ...variant, workgroupStorage: storage }),
    },
  ],
};

/** What a score's gradient is made of, for query i and key j of (b, h), where i sees j. */
const scoreGradient = (numbers: Numbers) => {
  const { headSize } = numbers;
  const dot = (left: string, right: string, into: string) => `
    var ${into} = 0.0;
    for (var d = 0u; d < ${headSize}u; d++) { ${into} += ${left} * ${right}; }`;
  const value = (part: string, start: string) => rounded(numbers, `get_${part}(${start} + d)`);
  return `
    fn with_output(b: u32, h: u32, i: u32) -> f32 {
      let at = output_start(b, h, i);
      ${dot(value('gradOutput', 'at'), 'get_output(at + d)', 'sum')}
      return sum;
    }
    /** The probability after dropout, and the gradient of the score. */
    fn gradients(b: u32, h: u32, i: u32, j: u32, sum_with_output: f32) -> vec2f {
      let query_at = query_start(b, h, i);
      let key_at = key_start(b, h, j);
      let value_at = value_start(b, h, j);
      let at = output_start(b, h, i);
      ${dot(value('query', 'query_at'), value('key', 'key_at'), 'score')}
      ${dot(value('gradOutput', 'at'), value('value', 'value_at'), 'with_value')}
      let probability = exp(score * scale + padding_of(b, j) - get_logSumExp((b * p.heads + h) * p.queryLength + i));
      let factor = dropout_at(b, h, i, j);
      return vec2f(${rounded(numbers, 'probability * factor')}, ${rounded(numbers, 'scale * probability * (factor * with_value - sum_with_output)')});
    }`;
};

/** A workgroup a query. */
const ofQueries = (numbers: Numbers) => {
  const { headSize } = numbers;
  const features = ceilDivide(headSize, 64);
  return `
    ${places(numbers, ['query', 'key', 'value', 'gradQuery'])}
    ${scoreGradient(numbers)}
    var<workgroup> parts: array<f32, 64>;
    fn run(group: u32, lane: u32) {
      let i = group % p.queryLength;
      let h = group / p.queryLength % p.heads;
      let b = group / p.queryLength / p.heads;
      let sum_with_output = with_output(b, h, i);
      let visible = visible_keys(i);
      var sums: array<f32, ${features}>;
      for (var origin = 0u; origin < visible; origin += 64u) {
        parts[lane] = 0.0;
        if (origin + lane < visible) { parts[lane] = gradients(b, h, i, origin + lane, sum_with_output).y; }
        workgroupBarrier();
        for (var j = origin; j < min(origin + 64u, visible); j++) {
          for (var f = 0u; f < ${features}u; f++) {
            let d = min(lane + 64u * f, ${headSize - 1}u);
            sums[f] += parts[j - origin] * ${rounded(numbers, 'get_key(key_start(b, h, j) + d)')};
          }
        }
        workgroupBarrier();
      }
      for (var f = 0u; f < ${features}u; f++) {
        let d = lane + 64u * f;
        if (d < ${headSize}u) { set_gradQuery(gradQuery_start(b, h, i) + d, sums[f]); }
      }
    }`;
};

/** A workgroup a key. */
const ofKeys = (numbers: Numbers) => {
  const { headSize } = numbers;
  const features = ceilDivide(headSize, 64);
  return `
    ${places(numbers, ['query', 'key', 'value', 'gradKey', 'gradValue'])}
    ${scoreGradient(numbers)}
    var<workgroup> parts: array<vec2f, 64>;
    fn run(group: u32, lane: u32) {
      let j = group % p.keyLength;
      let h = group / p.keyLength % p.heads;
      let b = group / p.keyLength / p.heads;
      var key_sums: array<f32, ${features}>;
      var value_sums: array<f32, ${features}>;
      for (var origin = 0u; origin < p.queryLength; origin += 64u) {
        let i = origin + lane;
        parts[lane] = vec2f();
        if (i < p.queryLength && j < visible_keys(i)) { parts[lane] = gradients(b, h, i, j, with_output(b, h, i)); }
        workgroupBarrier();
        for (var i = origin; i < min(origin + 64u, p.queryLength); i++) {
          for (var f = 0u; f < ${features}u; f++) {
            let d = min(lane + 64u * f, ${headSize - 1}u);
            value_sums[f] += parts[i - origin].x * ${rounded(numbers, 'get_gradOutput(output_start(b, h, i) + d)')};
            key_sums[f] += parts[i - origin].y * ${rounded(numbers, 'get_query(query_start(b, h, i) + d)')};
          }
        }
        workgroupBarrier();
      }
      for (var f = 0u; f < ${features}u; f++) {
        let d = lane + 64u * f;
        if (d < ${headSize}u) {
          set_gradKey(gradKey_start(b, h, j) + d, key_sums[f]);
          set_gradValue(gradValue_start(b, h, j) + d, value_sums[f]);
        }
      }
    }`;
};

export const attentionBackward: Kernel = {
  ...shared,
  stages: (numbers) => {
    const inputs = ['query', 'key', 'value', 'paddingMask', 'output', 'logSumExp', 'gradOutput'];
    return [
      {
        name: 'queries',
        operands: [...inputs, 'gradQuery'],
        groups: ({ batch, heads, queryLength }) => batch * heads * queryLength,
        uses: uses(numbers),
        code: ofQueries,
      },
      {
        name: 'keys',
        operands: [...inputs, 'gradKey', 'gradValue'],
        groups: ({ batch, heads, keyLength }) => batch * heads * keyLength,
        uses: uses(numbers),
        code: ofKeys,
      },
    ];
  },
};
