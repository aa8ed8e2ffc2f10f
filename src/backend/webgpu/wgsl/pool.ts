import { elementStage, type Kernel, type Numbers } from '../kernel.ts';

/** `is_left`: the mask does not leave the position out. */
const left = 'fn is_left(b: u32, t: u32) -> bool { return !has_mask || get_mask(b * p.length + t) != 0; }';

/** What becomes of the feature `column` of sequence b, by the kinds' numbers: first, mean, max, logSumExp. */
const forward = [
  'set_output(to, get_input(start));',
  `var sum = 0.0;
  var count = 0u;
  for (var t = 0u; t < p.length; t++) { if (is_left(b, t)) { sum += get_input(start + t * p.width); count++; } }
  set_output(to, sum / f32(max(count, 1u)));`,
  'set_selected(to, i32(best % p.length)); set_output(to, maximum);',
  `var sum = 0.0;
  for (var t = 0u; t < p.length; t++) { if (is_left(b, t)) { sum += exponential(get_input(start + t * p.width) - maximum); } }
  if (best < p.length) { maximum += logarithm(sum); }
  set_output(to, maximum);`,
];

const findMaximum = `
  var best = p.length;
  var maximum = bitcast<f32>(p.minus_infinity);
  for (var t = 0u; t < p.length; t++) {
    if (!is_left(b, t)) { continue; }
    let x = get_input(start + t * p.width);
    if (best == p.length || x > maximum) { best = t; maximum = x; }
  }`;

const pooled = ({ batch, width }: Numbers) => batch * width;

export const pool: Kernel = {
  constants: ['kind'],
  derive: (numbers) => ({ elements: pooled(numbers), minus_infinity: 0xff800000 }),
  stages: () => [
    elementStage(
      pooled,
      ({ kind }) => `
        ${left}
        fn element(to: u32) {
          let b = to / p.width;
          let start = b * p.length * p.width + to % p.width;
          ${kind >= 2 ? findMaximum : ''}
          ${forward[kind]}
        }`,
      { uses: ['exponential', 'logarithm'] },
    ),
  ],
};

/** A position's share of the gradient. */
const shares = [
  'if (t == 0u) { gradient = get_gradOutput(origin); }',
  `var count = 0u;
  for (var s = 0u; s < p.length; s++) { if (is_left(b, s)) { count++; } }
  if (is_left(b, t)) { gradient = get_gradOutput(origin) / f32(count); }`,
  'if (is_left(b, t) && i32(t) == get_selected(origin)) { gradient = get_gradOutput(origin); }',
  'if (is_left(b, t)) { gradient = exponential(get_input(to) - get_output(origin)) * get_gradOutput(origin); }',
];

const positions = ({ batch, length, width }: Numbers) => batch * length * width;

export const poolBackward: Kernel = {
  constants: ['kind'],
  derive: (numbers) => ({ elements: positions(numbers) }),
  stages: () => [
    elementStage(
      positions,
      ({ kind }) => `
        ${left}
        fn element(to: u32) {
          let t = (to / p.width) % p.length;
          let b = to / (p.width * p.length);
          let origin = b * p.width + to % p.width;
          var gradient = 0.0;
          ${shares[kind]}
          set_gradInput(to, gradient);
        }`,
      { uses: ['exponential'] },
    ),
  ],
};
