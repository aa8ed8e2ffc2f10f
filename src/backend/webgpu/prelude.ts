/** WGSL that kernels share, a piece a name; pieces of a shader's `uses` are put before its code, with what they use themselves. */
import type { Variant } from './kernel.ts';

interface Piece {
  uses?: readonly string[];
  code: (threads: number, variant: Variant) => string;
}

/** The values of a workgroup's threads as one, which all of them get. In a fixed order, so that it does not depend on timing. */
const reduction = (name: string, type: string, none: string, join: (a: string, b: string) => string, subgroup: string): Piece => ({
  code: (threads, { subgroups }) => `
    var<workgroup> ${name}_parts: array<${type}, ${threads}>;
    fn ${name}(value: ${type}, lane: u32) -> ${type} {
      workgroupBarrier();
      ${
        subgroups
          ? // Whichever threads make up a subgroup: its first one has the sum, the others nothing.
            `let part = ${subgroup}(value);
      ${name}_parts[lane] = select(${none}, part, subgroup_lane == 0u);`
          : `${name}_parts[lane] = value;`
      }
      workgroupBarrier();
      var all = ${name}_parts[0];
      for (var i = 1u; i < ${threads}u; i++) { all = ${join('all', `${name}_parts[i]`)}; }
      return all;
    }`,
});

export const prelude: Readonly<Record<string, Piece>> = {
  workgroup_sum: reduction('workgroup_sum', 'f32', '0.0', (a, b) => `${a} + ${b}`, 'subgroupAdd'),
  workgroup_integer_sum: reduction('workgroup_integer_sum', 'i32', '0', (a, b) => `${a} + ${b}`, 'subgroupAdd'),
  // Bits of a magnitude: as integers they are ordered as the numbers are, with NaN above infinity.
  workgroup_max_bits: reduction('workgroup_max_bits', 'u32', '0u', (a, b) => `max(${a}, ${b})`, 'subgroupMax'),
  workgroup_max: reduction('workgroup_max', 'f32', '-3.4028234e38', (a, b) => `max(${a}, ${b})`, 'subgroupMax'),
  is_finite: { code: () => 'fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }' },
  to_bf16: {
    code: () => `
    // The nearest bf16, ties to even, as a float.
    fn to_bf16(x: f32) -> f32 {
      let bits = bitcast<u32>(x);
      if ((bits & 0x7fffffffu) > 0x7f800000u) { return x; }
      return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
    }`,
  },
  dot4: {
    code: (_, { packedProducts }) =>
      packedProducts
        ? 'fn dot4(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }'
        : `
    fn byte_of(word: u32, i: u32) -> i32 { return bitcast<i32>(word << (24u - 8u * i)) >> 24u; }
    fn dot4(a: u32, b: u32) -> i32 {
      return byte_of(a, 0u) * byte_of(b, 0u) + byte_of(a, 1u) * byte_of(b, 1u) + byte_of(a, 2u) * byte_of(b, 2u) + byte_of(a, 3u) * byte_of(b, 3u);
    }`,
  },
  round_to_i8: {
    code: () => `
    // What a row's values are multiplied by; 0 where all are as good as zeros. most: the bits of the largest magnitude.
    fn inverse_scale(most: u32) -> f32 {
      let inverse = 127.0 / bitcast<f32>(most);
      return select(inverse, 0.0, most < 0x00800000u || (bitcast<u32>(inverse) & 0x7fffffffu) == 0x7f800000u);
    }
    fn row_scale(most: u32) -> f32 { return bitcast<f32>(most) / 127.0; }
    fn round_to_i8(x: f32, inverse: f32) -> u32 { return bitcast<u32>(i32(round(x * inverse))) & 0xffu; }`,
  },
  gelu: {
    code: () => `
    // Phi(-|x|) = e^(-x^2 / 2) g(t), t = 1 / (1 + 0.21 |x|), with the polynomial of kernels/simd_math.h.
    fn normal_distribution(x: f32) -> f32 {
      let t = 1.0 / (0.21 * abs(x) + 1.0);
      var g = -0.0716556087;
      g = g * t + 0.28358525;
      g = g * t - 0.330246687;
      g = g * t + 0.349393368;
      g = g * t - 0.0939198434;
      g = g * t + 0.12487036;
      g = g * t + 0.0691928118;
      g = g * t + 0.0850687623;
      g = g * t + 0.0837115794;
      let tail = exp(-0.5 * x * x) * (g * t);
      return select(tail, 1.0 - tail, x > 0.0);
    }
    fn gelu(x: f32) -> f32 { return x * normal_distribution(x); }
    fn gelu_slope(x: f32) -> f32 { return normal_distribution(x) + x * 0.398942280 * exp(-0.5 * x * x); }`,
  },
  exponential: {
    code: () => `
    // e^x = 2^n e^r, |r| <= ln(2) / 2, as in kernels/simd_math.h: the built-in function may be off by more, and more the larger x is.
    fn exponential(x: f32) -> f32 {
      let within = clamp(x, -104.0, 89.0);
      let n = round(within * 1.44269504);
      // ln 2 in two parts, the first short enough for n times it to be exact.
      let r = (within - n * 0.693359375) + n * 2.12194440e-4;
      var p = 0.000197902496;
      p = p * r + 0.00139447593;
      p = p * r + 0.00833349768;
      p = p * r + 0.0416662954;
      p = p * r + 0.166666657;
      p = p * r + 0.5;
      if (x < -104.0) { return 0.0; }
      // What is no number stays so, whatever shaders make of comparisons with it.
      return select(ldexp(p * (r * r) + r + 1.0, i32(n)), x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
    }`,
  },
  logarithm: {
    code: () => `
    // The built-in function makes a number of what is none on some systems.
    fn logarithm(x: f32) -> f32 { return select(log(x), x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u); }`,
  },
  logistic: {
    code: () => `
    fn logistic(x: f32) -> f32 {
      let e = exp(-abs(x));
      return select(e / (1.0 + e), 1.0 / (1.0 + e), x > 0.0);
    }`,
  },
  gelu_tanh: {
    uses: ['logistic'],
    code: () => `
    fn twice_inner(x: f32) -> f32 { return 1.5957691216 * (x + 0.044715 * x * x * x); }
    fn gelu_tanh(x: f32) -> f32 { return x * logistic(twice_inner(x)); }
    fn gelu_tanh_slope(x: f32) -> f32 {
      let share = logistic(twice_inner(x));
      let complement = logistic(-twice_inner(x));
      // An infinite x has no slope beside the share's.
      if (share * complement == 0.0) { return share; }
      return share + x * share * complement * 1.5957691216 * (1.0 + 0.134145 * x * x);
    }`,
  },
  tanh: {
    code: () => `
    // The built-in function may lose small values, and overflow.
    fn tangent(x: f32) -> f32 {
      let square = x * x;
      if (square < 0.09) {
        // The series x - x^3/3 + 2 x^5/15 - 17 x^7/315 + 62 x^9/2835, to 2e-9 here.
        return x * (1.0 + square * (-0.333333333 + square * (0.133333333 + square * (-0.0539682540 + square * 0.0218694885))));
      }
      let e = exp(-2.0 * abs(x));
      return sign(x) * (1.0 - e) / (1.0 + e);
    }`,
  },
  dropout_factor: {
    code: () => `
    fn fmix32(value: u32) -> u32 {
      var h = value;
      h = (h ^ (h >> 16u)) * 0x85ebca6bu;
      h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
      return h ^ (h >> 16u);
    }
    // p.kept_from: the least of 2^24 numbers that are kept; p.kept_factor: what is kept is multiplied by it.
    fn dropout_factor(index: u32) -> f32 {
      return select(0.0, p.kept_factor, (fmix32(fmix32(index) ^ p.key) >> 8u) >= p.kept_from);
    }`,
  },
};

/** What {@link prelude}'s dropout_factor needs. */
export const dropoutNumbers = ({ probability }: Readonly<Record<string, number>>) => ({
  kept_from: Math.ceil(probability * 2 ** 24),
  kept_factor: 1 / (1 - probability),
});
export const dropoutTypes = { kept_factor: 'f32', probability: 'f32' } as const;

/** The pieces' code, each once. */
export function preludeOf(names: readonly string[], threads: number, variant: Variant): string {
  const taken = new Set<string>();
  const take = (name: string): string => {
    if (taken.has(name)) return '';
    taken.add(name);
    const { uses = [], code } = prelude[name];
    return uses.map(take).join('') + code(threads, variant);
  };
  return names.map(take).join('\n');
}
