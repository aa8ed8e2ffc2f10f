import { elementStage, type Kernel, type Numbers } from '../kernel.ts';

/** Bits of a float32, by the types' numbers: F32, BF16, F16. */
const bits = [
  'get_input_byte(at) | (get_input_byte(at + 1u) << 8u) | (get_input_byte(at + 2u) << 16u) | (get_input_byte(at + 3u) << 24u)',
  '(get_input_byte(at) << 16u) | (get_input_byte(at + 1u) << 24u)',
  'from_half(get_input_byte(at) | (get_input_byte(at + 1u) << 8u))',
];

/** As integers: what is written to a float may lose its least values, or a NaN's bits. */
const half = `
  fn from_half(half: u32) -> u32 {
    let sign = (half & 0x8000u) << 16u;
    let exponent = (half >> 10u) & 0x1fu;
    let fraction = half & 0x3ffu;
    if (exponent == 0x1fu) { return sign | 0x7f800000u | (fraction << 13u); }
    if (exponent != 0u) { return sign | ((exponent + 112u) << 23u) | (fraction << 13u); }
    if (fraction == 0u) { return sign; }
    let shift = countLeadingZeros(fraction) - 21u; // up to where a normal one has its leading bit
    return sign | ((113u - shift) << 23u) | (((fraction << shift) & 0x3ffu) << 13u);
  }`;

const elements = ({ rows, columns }: Numbers) => rows * columns;

export const stridedCopy: Kernel = {
  constants: ['type'],
  derive: (numbers) => ({ elements: elements(numbers) }),
  error: () => 'stridedCopy: the input holds a value that is not finite',
  stages: () => [
    elementStage(
      elements,
      ({ type }) => `
        ${type === 2 ? half : ''}
        fn element(i: u32) {
          let at = i * ${type === 0 ? 4 : 2}u;
          let word = ${bits[type]};
          if ((word & 0x7f800000u) == 0x7f800000u) { report(i); }
          set_output(p.offset + (i / p.columns) * p.rowStride + (i % p.columns) * p.columnStride, bitcast<f32>(word));
        }`,
      { reports: 'each' },
    ),
  ],
};
