import { expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { candidates, describeOnEach } from './backends.ts';

describeOnEach(candidates, ({ create }) => {
  /** Counts what the arena takes from the backend. */
  function counting() {
    const counts = { allocated: 0, released: 0 };
    const counted = create();
    const { allocate, release } = counted;
    counted.allocate = (bytes) => {
      counts.allocated++;
      return allocate.call(counted, bytes);
    };
    counted.release = (storage) => {
      counts.released++;
      release.call(counted, storage);
    };
    return { counts, counted };
  }

  test('a second equal or smaller run allocates nothing', () => {
    const { counts, counted } = counting();
    const arena = new Arena(counted);
    const run = (rows: number) => {
      for (let i = 0; i < 5; i++) arena.tensor(`t${i}`, [rows, i + 1]);
      arena.tensor('indices', [rows], 'i32');
      arena.reset();
    };
    run(8);
    expect(counts).toEqual({ allocated: 6, released: 0 });
    const bytes = arena.bytes;
    run(8);
    run(3);
    expect(counts).toEqual({ allocated: 6, released: 0 });
    expect(arena.bytes).toBe(bytes);
    run(9);
    expect(arena.bytes).toBeGreaterThan(bytes);
    expect(counts.allocated - counts.released).toBe(6);
    arena.dispose();
    expect(counts.allocated).toBe(counts.released);
    expect(arena.bytes).toBe(0);
    counted.dispose();
  });

  test('release hands the scratch after a mark out again, in queue order', async () => {
    const { counts, counted } = counting();
    using arena = new Arena(counted);
    const kept = arena.tensor('kept', [4]);
    counted.fill({ output: kept, value: 0 });
    for (let i = 1; i <= 10; i++) {
      const mark = arena.mark();
      const scratch = arena.tensor('scratch', [4]);
      counted.fill({ output: scratch, value: i });
      counted.add({ a: kept, b: scratch, output: kept });
      arena.release(mark);
    }
    expect(counts.allocated).toBe(2);
    expect(await counted.read(kept)).toEqual(new Float32Array(4).fill(55));
    counted.dispose();
  });

  test('after a request for which there was no memory others are served', async () => {
    const { counted } = counting();
    using arena = new Arena(counted);
    arena.tensor('small', [4]);
    arena.reset();
    const { allocate } = counted;
    counted.allocate = () => {
      throw new Error('no memory');
    };
    expect(() => arena.tensor('large', [4000])).toThrow('no memory');
    counted.allocate = allocate;
    arena.reset();
    const small = arena.tensor('small', [4]);
    counted.fill({ output: small, value: 3 });
    expect(await counted.read(small)).toEqual(new Float32Array(4).fill(3));
  });

  test('a slot that grew is refused by its old name', () => {
    using device = create();
    const arena = new Arena(device);
    const small = arena.tensor('small', [4]);
    arena.reset();
    arena.tensor('large', [4000]);
    expect(() => device.fill({ output: small, value: 1 })).toThrow("tensor 'small' was disposed");
    arena.dispose();
  });
});
