import { expect, test } from 'vitest';
import { fixed } from '../../src/cli/common.ts';

test('what rounds to nothing has no sign', () => {
  expect([-0.0004, -0, 0, 0.0004].map((value) => fixed(value, 1))).toEqual(['0.0', '0.0', '0.0', '0.0']);
  expect([-0.04, -0.05, -0.06, -10, 1.25].map((value) => fixed(value, 1))).toEqual(['0.0', '-0.1', '-0.1', '-10.0', '1.3']);
  expect([-0.4, -0.6].map((value) => fixed(value, 0))).toEqual(['0', '-1']);
});
