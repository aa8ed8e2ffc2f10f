import { ceilDivide, checkStage, type Kernel, type Numbers, type Variant } from '../kernel.ts';
import { dropoutNumbers, dropoutTypes } from '../prelude.ts';

/** Added to the scores of padding. */
const paddingScore = '-10000.0';
/** Less than any score. */
const nothing = '-3.4028234e38';

const rounded = ({ precision }: Numbers, value: string) => (precision === 1 ? `to_bf16(${value})` : value);

/** The sequences, where their elements are in strided operands, how many keys a query sees, and what dropout does. */
const places = (numbers: Numbers, parts: readonly string[]) => `
  struct Sequence { b: u32, first_query: u32, queries: u32, first_key: u32, keys: u32 }
  fn sequence_of(b: u32) -> Sequence {
    if (!has_sequences) { return Sequence(b, b * p.queryLength, p.queryLength, b * p.keyLength, p.keyLength); }
    return Sequence(b, u32(get_sequences(4u * b)), u32(get_sequences(4u * b + 1u)), u32(get_sequences(4u * b + 2u)), u32(get_sequences(4u * b + 3u)));
  }
  ${parts
    .map((part) => {
      const first = /query/i.test(part) ? 'first_query' : 'first_key';
      return `fn ${part}_start(s: Sequence, h: u32, t: u32) -> u32 {
    return p.${part}Offset + select(s.b * p.${part}BatchStride, s.${first} * p.${part}RowStride, has_sequences) + t * p.${part}RowStride + h * p.${part}HeadStride;
  }`;
    })
    .join('\n')}
  // The head of keys and values that a head of queries has.
  fn key_head(h: u32) -> u32 { return h / (p.heads / p.keyValueHeads); }
  fn visible_keys(s: Sequence, i: u32) -> u32 { return ${numbers.causal ? 'i + s.keys - s.queries + 1u' : 's.keys'}; }
  fn padding_of(s: Sequence, j: u32) -> f32 { return select(0.0, ${paddingScore}, has_paddingMask && get_paddingMask(s.b * p.keyLength + j) == 0); }
  fn dropout_at(s: Sequence, h: u32, i: u32, j: u32) -> f32 {
    return ${numbers.probability > 0 ? 'dropout_factor(((s.b * p.heads + h) * p.queryLength + i) * p.keyLength + j)' : '1.0'};
  }
  fn output_start(s: Sequence, h: u32, i: u32) -> u32 { return ((s.first_query + i) * p.heads + h) * ${numbers.headSize}u; }
  fn sum_at(s: Sequence, h: u32, i: u32) -> u32 { return (s.first_query + i) * p.heads + h; }
  const scale = ${1 / Math.sqrt(numbers.headSize)};`;

/** A sequence that reaches beyond the operands. */
const checkSequences = checkStage(
  `fn bad(b: u32) -> bool {
     let at = 4u * b;
     let first_query = get_sequences(at);
     let queries = get_sequences(at + 1u);
     let first_key = get_sequences(at + 2u);
     let keys = get_sequences(at + 3u);
     return min(first_query, first_key) < 0 || min(queries, keys) <= 0 || u32(queries) > p.queryLength || u32(keys) > p.keyLength
       || u32(first_query) + u32(queries) > p.queryRows || u32(first_key) + u32(keys) > p.keyRows || (p.causality != 0u && queries > keys);
   }
   fn culprit(b: u32) -> vec2i { return vec2i(get_sequences(4u * b + 1u), get_sequences(4u * b + 3u)); }`,
  ['sequences'],
  { onlyWith: ['sequences'] },
);

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
      if (origin + j < s.keys) { x = ${rounded(numbers, `get_${part}(${part}_start(s, key_head(h), origin + j) + d)`)}; }
      tile[j * ${headSize + 1}u + d] = x;
    }
    workgroupBarrier();`;
  const score = `
    workgroupBarrier();
    ${load('key')}
    for (var j = sub; j < ${keys}u; j += ${lanes}u) {
      var score = ${nothing};
      if (origin + j < visible) {
        score = 0.0;
        for (var d = 0u; d < ${headSize}u; d++) { score += query_tile[q * ${headSize}u + d] * tile[j * ${headSize + 1}u + d]; }
        score = score * scale + padding_of(s, origin + j);
      }
      scores[q * ${keys}u + j] = score;
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
      let s = sequence_of(group / blocks / p.heads);
      let h = group / blocks % p.heads;
      if (first >= s.queries) { return; }
      for (var e = lane; e < ${queries * headSize}u; e += 64u) {
        let i = first + e / ${headSize}u;
        if (i < s.queries) { query_tile[e] = ${rounded(numbers, `get_query(query_start(s, h, i) + e % ${headSize}u)`)}; }
      }
      let q = lane / ${lanes}u;
      let sub = lane % ${lanes}u;
      let i = first + q;
      let visible = min(visible_keys(s, i), s.keys);
      let end = min(visible_keys(s, first + ${queries - 1}u), s.keys);
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
          scores[q * ${keys}u + j] = select(0.0, exponential(scores[q * ${keys}u + j] - largest), origin + j < visible);
        }
        workgroupBarrier();
        let factor = exponential(maximum - largest);
        maximum = largest;
        total *= factor;
        for (var f = 0u; f < ${features}u; f++) { sums[f] *= factor; }
        for (var j = 0u; j < ${keys}u; j++) {
          let probability = scores[q * ${keys}u + j];
          total += probability;
          let weight = ${rounded(numbers, 'probability')} * dropout_at(s, h, i, origin + j);
          for (var f = 0u; f < ${features}u; f++) { sums[f] += weight * tile[j * ${headSize + 1}u + min(sub + f * ${lanes}u, ${headSize - 1}u)]; }
        }
      }
      if (i >= s.queries) { return; }
      for (var f = 0u; f < ${features}u; f++) {
        let d = sub + f * ${lanes}u;
        if (d < ${headSize}u) { set_output(output_start(s, h, i) + d, sums[f] / total); }
      }
      if (sub == 0u) { set_logSumExp(sum_at(s, h, i), maximum + logarithm(total)); }
    }`;
}

const uses = ({ precision, probability }: Numbers) => [
  ...['exponential', 'logarithm'],
  ...(precision === 1 ? ['to_bf16'] : []),
  ...(probability > 0 ? ['dropout_factor'] : []),
];

const shared = {
  constants: ['headSize', 'causal', 'precision', 'drops'],
  types: dropoutTypes,
  derive: (numbers: Numbers) => ({
    ...dropoutNumbers(numbers),
    ...{ drops: numbers.probability > 0 ? 1 : 0, causality: numbers.causal, checks: numbers.batch },
  }),
  error: (_: Numbers, position: number, queries: number, keys: number) =>
    `attention: sequence ${position} has ${queries} queries and ${keys} keys, or places, that do not fit the operands`,
};

/** How many queries a workgroup has depends on its memory, of which there is at least this much; more would not make it faster by much. */
const storage = 16384;

export const attention: Kernel = {
  ...shared,
  stages: (numbers) => [
    checkSequences,
    {
      name: 'queries',
      groups: ({ batch, heads, headSize, queryLength }) => batch * heads * ceilDivide(queryLength, tilesOf(headSize, storage).queries),
      uses: uses(numbers),
      code: (numbers, variant) => forward(numbers, { ...variant, workgroupStorage: storage }),
    },
  ],
};

/** What a score's gradient is made of, for query i and key j of a sequence's head, where i sees j. */
const scoreGradient = (numbers: Numbers) => {
  const { headSize } = numbers;
  const dot = (left: string, right: string, into: string) => `
    var ${into} = 0.0;
    for (var d = 0u; d < ${headSize}u; d++) { ${into} += ${left} * ${right}; }`;
  const value = (part: string, start: string) => rounded(numbers, `get_${part}(${start} + d)`);
  return `
    fn with_output(s: Sequence, h: u32, i: u32) -> f32 {
      let at = output_start(s, h, i);
      ${dot(value('gradOutput', 'at'), 'get_output(at + d)', 'sum')}
      return sum;
    }
    /** The probability after dropout, and the gradient of the score. */
    fn gradients(s: Sequence, h: u32, i: u32, j: u32, sum_with_output: f32) -> vec2f {
      let query_at = query_start(s, h, i);
      let key_at = key_start(s, key_head(h), j);
      let value_at = value_start(s, key_head(h), j);
      let at = output_start(s, h, i);
      ${dot(value('query', 'query_at'), value('key', 'key_at'), 'score')}
      ${dot(value('gradOutput', 'at'), value('value', 'value_at'), 'with_value')}
      let probability = exponential(score * scale + padding_of(s, j) - get_logSumExp(sum_at(s, h, i)));
      let factor = dropout_at(s, h, i, j);
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
      let s = sequence_of(group / p.queryLength / p.heads);
      if (i >= s.queries) { return; }
      let sum_with_output = with_output(s, h, i);
      let visible = visible_keys(s, i);
      var sums: array<f32, ${features}>;
      for (var origin = 0u; origin < visible; origin += 64u) {
        parts[lane] = 0.0;
        if (origin + lane < visible) { parts[lane] = gradients(s, h, i, origin + lane, sum_with_output).y; }
        workgroupBarrier();
        for (var j = origin; j < min(origin + 64u, visible); j++) {
          for (var f = 0u; f < ${features}u; f++) {
            let d = min(lane + 64u * f, ${headSize - 1}u);
            sums[f] += parts[j - origin] * ${rounded(numbers, 'get_key(key_start(s, key_head(h), j) + d)')};
          }
        }
        workgroupBarrier();
      }
      for (var f = 0u; f < ${features}u; f++) {
        let d = lane + 64u * f;
        if (d < ${headSize}u) { set_gradQuery(gradQuery_start(s, h, i) + d, sums[f]); }
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
      let shared_head = group / p.keyLength % p.keyValueHeads;
      let s = sequence_of(group / p.keyLength / p.keyValueHeads);
      if (j >= s.keys) { return; }
      let share = p.heads / p.keyValueHeads;
      var key_sums: array<f32, ${features}>;
      var value_sums: array<f32, ${features}>;
      for (var h = shared_head * share; h < (shared_head + 1u) * share; h++) {
        for (var origin = 0u; origin < s.queries; origin += 64u) {
          let own = origin + lane;
          parts[lane] = vec2f();
          if (own < s.queries && j < visible_keys(s, own)) { parts[lane] = gradients(s, h, own, j, with_output(s, h, own)); }
          workgroupBarrier();
          for (var i = origin; i < min(origin + 64u, s.queries); i++) {
            for (var f = 0u; f < ${features}u; f++) {
              let d = min(lane + 64u * f, ${headSize - 1}u);
              value_sums[f] += parts[i - origin].x * ${rounded(numbers, 'get_gradOutput(output_start(s, h, i) + d)')};
              key_sums[f] += parts[i - origin].y * ${rounded(numbers, 'get_query(query_start(s, h, i) + d)')};
            }
          }
          workgroupBarrier();
        }
      }
      for (var f = 0u; f < ${features}u; f++) {
        let d = lane + 64u * f;
        if (d < ${headSize}u) {
          set_gradKey(gradKey_start(s, shared_head, j) + d, key_sums[f]);
          set_gradValue(gradValue_start(s, shared_head, j) + d, value_sums[f]);
        }
      }
    }`;
};

export const attentionBackward: Kernel = {
  ...shared,
  stages: (numbers) => {
    const inputs = ['query', 'key', 'value', 'paddingMask', 'sequences', 'output', 'logSumExp', 'gradOutput'];
    return [
      checkSequences,
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
        groups: ({ batch, keyValueHeads, keyLength }) => batch * keyValueHeads * keyLength,
        uses: uses(numbers),
        code: ofKeys,
      },
    ];
  },
};
