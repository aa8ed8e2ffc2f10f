import { expect, test } from 'vitest';
import { ufb } from './ufb.ts';

const small = ['bench', 'depth', '--backend', 'reference', '--width', '8', '--batch', '16', '--batches', '1', '--rounds', '1'];

test('ufb bench depth prints a line a depth and the ratio', async () => {
  const { code, stdout, stderr } = await ufb([...small, '--from', '1', '--to', '3']);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^ +1 +3 .*\n +2 +7 .*\n +3 +15 .*$/m);
  expect(stdout).toMatch(/depth 3 over depth 1: forward [\d.]+, backward [\d.]+, both [\d.]+ \(nodes a token: 2\.00\)/);
});

test('ufb bench depth --json', async () => {
  const { code, stdout } = await ufb([...small, '--from', '2', '--to', '2', '--json']);
  const report = JSON.parse(stdout);
  expect(code).toBe(0);
  expect(report.results[0]).toMatchObject({ depth: 2, neurons: 7, bytes: 7 * 17 * 4 });
  expect(report.ratios).toEqual({ forward: 1, backward: 1, forwardAndBackward: 1 });
});

test('depths that are none are refused', async () => {
  const { code, stderr } = await ufb([...small, '--from', '3', '--to', '2']);
  expect(code).toBe(2);
  expect(stderr).toBe('ufb: depths from 3 to 2: expected --from at most --to, and --to at most 20\n');
});
