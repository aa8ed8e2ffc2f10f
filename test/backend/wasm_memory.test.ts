import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { WasmBackend } from '../../src/backend/wasm.ts';
import { FailureError } from '../../src/errors.ts';
import { createMaskedLanguageModel, loadMaskedLanguageModel, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { wasmMissing } from '../../src/platform/node.ts';
import { temporaryFolder } from '../temporary.ts';

const folder = temporaryFolder();

describe.skipIf(wasmMissing())('what does not fit into 4 GiB of WASM memory', () => {
  test('a model is refused before its weights are read', async () => {
    using reference = new ReferenceBackend();
    const feedforward = { kind: 'fff', trees: 1, depth: 1 } as const;
    const shape = { hiddenSize: 768, heads: 12, layers: 1, positions: 16, initialDeviation: 0.02 };
    const small = createMaskedLanguageModel(crammedBertConfig({ vocabularySize: 120, ...shape, feedforward }), reference, 1);
    await saveCheckpoint(folder, small, { dtype: 'F32' });
    // The embedding becomes 6 GB, all but its beginning a hole in the file.
    const rows = 2 ** 21;
    const configPath = join(folder, 'config.json');
    const config = JSON.parse(readFileSync(configPath, 'utf8'));
    const vocabularySize: number = config.arch.embedding.vocab_size;
    config.arch.embedding.vocab_size = rows;
    writeFileSync(configPath, JSON.stringify(config));
    const modelPath = join(folder, 'model.safetensors');
    const bytes = readFileSync(modelPath);
    const headerBytes = Number(bytes.readBigUInt64LE(0));
    const header: Record<string, { shape?: number[]; data_offsets: [number, number] }> = JSON.parse(
      bytes.toString('utf8', 8, 8 + headerBytes),
    );
    let end = 0;
    for (const entry of Object.values(header).filter(({ shape }) => shape)) {
      const shape = entry.shape as number[];
      if (shape[0] === vocabularySize) shape[0] = rows;
      const size = 4 * shape.reduce((product, extent) => product * extent, 1);
      entry.data_offsets = [end, end + size];
      end += size;
    }
    expect(end).toBeGreaterThan(2 ** 32);
    const text = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(modelPath, Buffer.concat([prefix, text]));
    truncateSync(modelPath, 8 + text.length + end);

    using backend = new WasmBackend();
    const error = await loadMaskedLanguageModel(folder, backend).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(FailureError);
    expect((error as Error).message).toMatch(/6442450944 bytes .* WASM reaches 4 GiB; take /);
  });

  test('tensors are refused one by one, and what there was stays usable', async () => {
    using backend = new WasmBackend({ threads: 1 });
    const kept = backend.tensor('kept', [3], 'f32', Float32Array.of(1, 2, 3));
    expect(() => backend.tensor('large', [2 ** 30], 'f32')).toThrow(/4 GiB/);
    expect([...(await backend.read(kept))]).toEqual([1, 2, 3]);
  });

  test('beyond 2 GiB, where addresses are negative to some, all is as before', async () => {
    using backend = new WasmBackend({ threads: 2 });
    using _large = backend.tensor('never written', [2 ** 29 + 2 ** 26], 'f32');
    using input = backend.tensor(
      'input',
      [300, 40],
      'f32',
      Float32Array.from({ length: 12000 }, (_, i) => i % 7),
    );
    using weight = backend.tensor('weight', [9, 40], 'f32', new Float32Array(360).fill(1));
    using output = backend.tensor('output', [300, 9]);
    backend.linear({ input, weight, output });
    const sums = await backend.read(output);
    for (let r = 0; r < 300; r++) expect(sums[9 * r]).toBe(Array.from({ length: 40 }, (_, i) => (40 * r + i) % 7).reduce((a, b) => a + b));
    // What a failing kernel says comes from there as well.
    backend.gather({ table: weight, indices: backend.tensor('indices', [1], 'i32', [9]), output: backend.tensor('row', [1, 40]) });
    await expect(backend.finish()).rejects.toThrow(/gather.*9/);
  });
});

describe.skipIf(wasmMissing())('when memory runs out', () => {
  const maximumPages = 1024;
  const total = maximumPages * 65536;
  test.each([1, 2, 3])('a kernel without scratch is a late error, and what else was asked for is done: %s threads', async (threads) => {
    using backend = new WasmBackend({ threads, maximumPages });
    const neighbour = backend.tensor('neighbour', [1000], 'f32', new Float32Array(1000).fill(2));
    const first = backend.tensor('first', [1000], 'f32', new Float32Array(1000).fill(1));
    const input = backend.tensor('input', [512, 1024], 'f32');
    const weight = backend.tensor('weight', [3000, 1024], 'f32');
    const gradWeight = backend.tensor('gradient', [3000, 1024], 'f32');
    const output = backend.tensor('output', [512, 3000], 'f32');
    await backend.finish();
    // Blocks of the size classes that are left, until nothing is.
    const fillers = [];
    for (let size = 2 ** 23; size >= 2 ** 14; size /= 2) {
      for (;;) {
        const filler = backend.tensor('filler', [size / 4]);
        try {
          await backend.finish();
        } catch {
          filler.dispose();
          break;
        }
        fillers.push(filler);
      }
    }
    await backend.finish();
    // So often that a stack would be used up of which every failure keeps a piece.
    for (let round = 0; round < 1500; round++) {
      backend.linear({ input, weight, output });
      backend.linearBackwardWeight({ input, gradOutput: output, gradWeight });
      if (round === 0) first.dispose();
      const second = backend.tensor('second', [3], 'f32', Float32Array.of(3, 4, 5));
      await expect(backend.finish()).rejects.toThrow(/no memory for \d+ bytes of scratch/);
      expect([...(await backend.read(second))]).toEqual([3, 4, 5]);
      expect((await backend.read(neighbour)).every((value) => value === 2)).toBe(true);
      second.dispose();
    }
    for (const filler of fillers) filler.dispose();
    await backend.finish();
    backend.fill({ output: neighbour, value: 7 });
    expect((await backend.read(neighbour)).every((value) => value === 7)).toBe(true);
  });

  test('a kernel does not go on without what a helper had no scratch for', { timeout: 60_000 }, async () => {
    using backend = new WasmBackend({ threads: 3, maximumPages });
    // Each tree's tokens are sorted by whoever is free, in 1.5 MB of scratch.
    const [rows, trees] = [2 ** 17, 8];
    const integers = (...shape: number[]) => backend.zeros('integers', shape, 'i32');
    const [input, gradOutput, gradInput] = ['input', 'gradOutput', 'gradInput'].map((name) => backend.zeros(name, [rows, 1]));
    const backward = (count: number) => {
      using visited = integers(rows, count, 1);
      using logits = backend.zeros('logits', [rows, count, 1]);
      using nodes = backend.zeros('nodes', [count, 2]);
      backend.fffBackward({ input, nodes, trees: count, depth: 0, visited, logits, gradOutput, gradInput });
      return backend.finish();
    };
    await backward(1); // with which the first thread has its scratch
    backend.fill({ output: gradInput, value: 5 });
    // Memory for what the kernel takes as a whole and for its operands, and else for nothing.
    const reserve = [12 * 2 ** 20 + 192, 4 * 2 ** 20, 4 * 2 ** 20].map((bytes) => backend.tensor('reserve', [bytes / 4]));
    await backend.finish();
    for (let size = 2 ** 23; size >= 2 ** 14; size /= 2) {
      const filled = () =>
        backend.finish().then(
          () => true,
          () => false,
        );
      do backend.tensor('filler', [size / 4]);
      while (await filled());
    }
    for (const tensor of reserve) tensor.dispose();
    let refused = 0;
    for (let round = 0; round < 1000 && refused < 3; round++) {
      await backward(trees).then(
        () => backend.fill({ output: gradInput, value: 5 }), // the first thread has done it all
        (error: Error) => {
          expect(error.message).toMatch(/no memory for \d+ bytes of scratch/);
          refused++;
        },
      );
      expect((await backend.read(gradInput)).every((value) => value === 5)).toBe(true);
    }
    expect(refused).toBe(3);
  });

  test('scratch of more than 4 GiB is refused, however its size would wrap around', async () => {
    using backend = new WasmBackend({ threads: 1 });
    // One query over 10^9 keys, all the same one.
    const one = { tensor: backend.zeros('one', [1]), offset: 0, batchStride: 0, rowStride: 0, headStride: 0 };
    const shape = { batch: 1, heads: 1, headSize: 1, queryLength: 1, keyLength: 1e9 };
    backend.attention({ query: one, key: one, value: one, ...shape, output: backend.tensor('output', [1, 1]) });
    await expect(backend.finish()).rejects.toThrow(/^no memory for \d{11} bytes of scratch$/);
  });

  test('a tensor that found no memory cannot be used, and no other is harmed', async () => {
    using backend = new WasmBackend({ threads: 1, maximumPages });
    const kept = backend.tensor('kept', [1000], 'f32', new Float32Array(1000).fill(1));
    const without = backend.tensor('without', [total / 4]);
    await expect(backend.finish()).rejects.toThrow(/no memory for a tensor of \d+ bytes/);
    await expect(backend.read(without)).rejects.toThrow(/found no memory/);
    backend.fill({ output: without, value: 9 });
    await expect(backend.finish()).rejects.toThrow('a tensor found no memory');
    backend.write(without, new Float32Array(total / 4));
    await expect(backend.finish()).rejects.toThrow(/no memory/);
    without.dispose();
    expect((await backend.read(kept)).every((value) => value === 1)).toBe(true);
  });

  test('a worker that cannot start says so, to those who wait too', async () => {
    using backend = new WasmBackend({ threads: 1, maximumPages: 16 });
    const tensor = backend.tensor('x', [2], 'f32', Float32Array.of(1, 2));
    await expect(backend.read(tensor)).rejects.toThrow();
    await expect(backend.finish()).rejects.toThrow();
  });
});
