import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { candidates, describeOnEach } from './backends.ts';
import { Random } from './random.ts';

const [heads, keyValueHeads, headSize] = [4, 2, 24];
const [width, keyWidth] = [heads * headSize, keyValueHeads * headSize];
const length = 300;
/** Where the sequence lies in a cache, and how far it is behind every step: whole blocks of queries, parts of them, one at a time. */
const offset = 37;
const steps = [1, 2, 130, 137, 138, 139, 260, 300];

describeOnEach(candidates, ({ create }) => {
  let device: Device;
  beforeAll(() => {
    device = create();
  });
  afterAll(() => device?.dispose());

  test.each(['f32', 'bf16'] as const)(
    'a query answers the same bits whatever goes with it, with all keys beside it or in a cache, %s',
    async (precision) => {
      const random = new Random(7);
      const query = random.normals(length * width, 1);
      const keyValue = random.normals(length * 2 * keyWidth, 1);
      const attend = async (queries: Tensor, keys: Tensor, rows: number[][]) => {
        const output = device.zeros('output', [queries.shape[0], width]);
        const key = { tensor: keys, offset: 0, batchStride: 0, rowStride: 2 * keyWidth, headStride: headSize };
        device.attention({
          query: { tensor: queries, offset: 0, batchStride: 0, rowStride: width, headStride: headSize },
          key,
          value: { ...key, offset: keyWidth },
          sequences: device.tensor('sequences', [rows.length, 4], 'i32', rows.flat()),
          ...{ heads, keyValueHeads, headSize, precision, output },
          causal: true,
          batch: rows.length,
          queryLength: Math.max(...rows.map(([, count]) => count)),
          keyLength: Math.max(...rows.map(([, , , count]) => count)),
        });
        return await device.read(output);
      };
      const whole = await attend(
        device.tensor('query', [length, width], 'f32', query),
        device.tensor('keys', [length, 2 * keyWidth], 'f32', keyValue),
        [[0, length, 0, length]],
      );

      const cache = device.zeros('cache', [600, 2 * keyWidth]);
      let before = 0;
      for (const end of steps) {
        const count = end - before;
        const part = device.tensor('keys', [count, 2 * keyWidth], 'f32', keyValue.slice(before * 2 * keyWidth, end * 2 * keyWidth));
        const indices = device.tensor(
          'places',
          [count],
          'i32',
          Array.from({ length: count }, (_, t) => offset + before + t),
        );
        device.scatterRows({ input: part, indices, table: cache });
        // Beside it, one of other lengths.
        const queries = device.tensor('query', [5 + count, width], 'f32', [
          ...query.slice(0, 5 * width),
          ...query.slice(before * width, end * width),
        ]);
        const output = await attend(queries, cache, [
          [0, 5, 400, 9],
          [5, count, offset, end],
        ]);
        expect(output.slice(5 * width), `${before} to ${end}`).toEqual(whole.slice(before * width, end * width));
        before = end;
      }
    },
  );
});
