import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DeviceName } from '../../src/backend/create.ts';
import { nativeMissing } from '../../src/backend/create.ts';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { type Serving, serve } from './serving.ts';

const folder = join(temporaryFolder(), 'model');
const words = 'the cat sees house a dog my sister draws long road old man finds green apples'.split(' ');
const text = (count: number, from: number) => Array.from({ length: count }, (_, i) => words[(7 * i + from) % words.length]).join(' ');
const running: Serving[] = [];

beforeAll(() => writeTinyModel(folder, { ...tinyBert, hiddenSize: 64, numAttentionHeads: 4 }));
afterAll(() => Promise.all(running.map((serving) => serving.stop())));

async function largestDifference(device: DeviceName): Promise<number> {
  const serving = await serve([{ folder, pooling: 'mean' }], {}, { device });
  running.push(serving);
  let largest = 0;
  for (const length of [1, 5, 14, 30, 60]) {
    const [single] = (await serving.ask('/embed', { inputs: text(length, 0) })) as number[][];
    for (const count of [2, 3, 4, 8, 16, 32])
      for (const lengthOf of [() => length, (k: number) => 1 + ((13 * k) % 60)]) {
        const texts = [text(length, 0), ...Array.from({ length: count - 1 }, (_, k) => text(lengthOf(k + 1), k + 1))];
        const [first] = (await serving.ask('/embed', { inputs: texts })) as number[][];
        largest = Math.max(largest, ...first.map((value, i) => Math.abs(value - single[i])));
      }
  }
  return largest;
}

const noNative = nativeMissing();
test.skipIf(noNative)(
  `natively an answer is the same bit for bit, whatever it goes with${noNative ? ` (skipped: ${noNative})` : ''}`,
  async () => {
    expect(await largestDifference('native')).toBe(0);
  },
);

test('in WASM an answer is the same up to rounding, whatever it goes with', async () => {
  expect(await largestDifference('wasm')).toBeLessThan(1e-6);
});
