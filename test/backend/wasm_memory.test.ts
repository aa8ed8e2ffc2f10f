import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { WasmDevice } from '../../src/backend/wasm.ts';
import { FailureError } from '../../src/errors.ts';
import { createMaskedLanguageModel, loadMaskedLanguageModel, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { wasmMissing } from '../../src/platform/node.ts';
import { temporaryFolder } from '../temporary.ts';

const folder = temporaryFolder();

describe.skipIf(wasmMissing())('what does not fit into 4 GiB of WASM memory', () => {
  test('a model is refused before its weights are read', async () => {
    using reference = new ReferenceDevice();
    const feedforward = { kind: 'fff', trees: 1, depth: 1 } as const;
    const shape = { hiddenSize: 768, heads: 12, layers: 1, positions: 16, initialDeviation: 0.02 };
    const small = createMaskedLanguageModel(crammedBertConfig({ vocabSize: 120, ...shape, feedforward }), reference, 1);
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

    using device = new WasmDevice();
    const error = await loadMaskedLanguageModel(folder, device).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(FailureError);
    expect((error as Error).message).toMatch(/6442450944 bytes .* WASM reaches 4 GiB; take /);
  });

  test('tensors are refused one by one, and what there was stays usable', async () => {
    using device = new WasmDevice({ threads: 1 });
    const kept = device.tensor('kept', [3], 'f32', Float32Array.of(1, 2, 3));
    expect(() => device.tensor('large', [2 ** 30], 'f32')).toThrow(/4 GiB/);
    expect([...(await device.read(kept))]).toEqual([1, 2, 3]);
  });

  test('beyond 2 GiB, where addresses are negative to some, all is as before', async () => {
    using device = new WasmDevice({ threads: 2 });
    using _large = device.tensor('never written', [2 ** 29 + 2 ** 26], 'f32');
    using input = device.tensor(
      'input',
      [300, 40],
      'f32',
      Float32Array.from({ length: 12000 }, (_, i) => i % 7),
    );
    using weight = device.tensor('weight', [9, 40], 'f32', new Float32Array(360).fill(1));
    using output = device.tensor('output', [300, 9]);
    device.linear({ input, weight, output });
    const sums = await device.read(output);
    for (let r = 0; r < 300; r++) expect(sums[9 * r]).toBe(Array.from({ length: 40 }, (_, i) => (40 * r + i) % 7).reduce((a, b) => a + b));
    // What a failing kernel says comes from there as well.
    device.gather({ table: weight, indices: device.tensor('indices', [1], 'i32', [9]), output: device.tensor('row', [1, 40]) });
    await expect(device.finish()).rejects.toThrow(/gather.*9/);
  });
});

describe.skipIf(wasmMissing())('when memory runs out', () => {
  const maximumPages = 1024;
  const total = maximumPages * 65536;
  test.each([1, 2, 3])('a kernel without scratch is a late error, and what else was asked for is done: %s threads', async (threads) => {
    using device = new WasmDevice({ threads, maximumPages });
    const neighbor = device.tensor('neighbor', [1000], 'f32', new Float32Array(1000).fill(2));
    const first = device.tensor('first', [1000], 'f32', new Float32Array(1000).fill(1));
    const input = device.tensor('input', [512, 1024], 'f32');
    const weight = device.tensor('weight', [3000, 1024], 'f32');
    const gradWeight = device.tensor('gradient', [3000, 1024], 'f32');
    const output = device.tensor('output', [512, 3000], 'f32');
    await device.finish();
    // Blocks of the size classes that are left, until nothing is.
    const fillers = [];
    for (let size = 2 ** 23; size >= 2 ** 14; size /= 2) {
      for (;;) {
        const filler = device.tensor('filler', [size / 4]);
        try {
          await device.finish();
        } catch {
          filler.dispose();
          break;
        }
        fillers.push(filler);
      }
    }
    await device.finish();
    // So often that a stack would be used up of which every failure keeps a piece.
    for (let round = 0; round < 1500; round++) {
      device.linear({ input, weight, output });
      device.linearBackwardWeight({ input, gradOutput: output, gradWeight });
      if (round === 0) first.dispose();
      const second = device.tensor('second', [3], 'f32', Float32Array.of(3, 4, 5));
      await expect(device.finish()).rejects.toThrow(/no memory for \d+ bytes of scratch/);
      expect([...(await device.read(second))]).toEqual([3, 4, 5]);
      expect((await device.read(neighbor)).every((value) => value === 2)).toBe(true);
      second.dispose();
    }
    for (const filler of fillers) filler.dispose();
    await device.finish();
    device.fill({ output: neighbor, value: 7 });
    expect((await device.read(neighbor)).every((value) => value === 7)).toBe(true);
  });

  test('a kernel does not go on without what a helper had no scratch for', { timeout: 60_000 }, async () => {
    using device = new WasmDevice({ threads: 3, maximumPages });
    // Each tree's tokens are sorted by whoever is free, in 1.5 MB of scratch.
    const [rows, trees] = [2 ** 17, 8];
    const integers = (...shape: number[]) => device.zeros('integers', shape, 'i32');
    const [input, gradOutput, gradInput] = ['input', 'gradOutput', 'gradInput'].map((name) => device.zeros(name, [rows, 1]));
    const backward = (count: number) => {
      using pathNodes = integers(rows, count, 1);
      using logits = device.zeros('logits', [rows, count, 1]);
      using nodes = device.zeros('nodes', [count, 2]);
      device.fffBackward({ input, nodes, trees: count, depth: 0, pathNodes, logits, gradOutput, gradInput });
      return device.finish();
    };
    await backward(1); // with which the first thread has its scratch
    device.fill({ output: gradInput, value: 5 });
    // Memory for what the kernel takes as a whole and for its operands, and else for nothing.
    const reserve = [12 * 2 ** 20 + 192, 4 * 2 ** 20, 4 * 2 ** 20].map((bytes) => device.tensor('reserve', [bytes / 4]));
    await device.finish();
    for (let size = 2 ** 23; size >= 2 ** 14; size /= 2) {
      const filled = () =>
        device.finish().then(
          () => true,
          () => false,
        );
      do device.tensor('filler', [size / 4]);
      while (await filled());
    }
    for (const tensor of reserve) tensor.dispose();
    let refused = 0;
    for (let round = 0; round < 1000 && refused < 3; round++) {
      await backward(trees).then(
        () => device.fill({ output: gradInput, value: 5 }), // the first thread has done it all
        (error: Error) => {
          expect(error.message).toMatch(/no memory for \d+ bytes of scratch/);
          refused++;
        },
      );
      expect((await device.read(gradInput)).every((value) => value === 5)).toBe(true);
    }
    expect(refused).toBe(3);
  });

  test('scratch of more than 4 GiB is refused, however its size would wrap around', async () => {
    using device = new WasmDevice({ threads: 1 });
    // One query over 10^9 keys, all the same one.
    const one = { tensor: device.zeros('one', [1]), offset: 0, batchStride: 0, rowStride: 0, headStride: 0 };
    const shape = { batch: 1, heads: 1, headSize: 1, queryLength: 1, keyLength: 1e9 };
    device.attention({ query: one, key: one, value: one, ...shape, output: device.tensor('output', [1, 1]) });
    await expect(device.finish()).rejects.toThrow(/^no memory for \d{11} bytes of scratch$/);
  });

  test('a tensor that found no memory cannot be used, and no other is harmed', async () => {
    using device = new WasmDevice({ threads: 1, maximumPages });
    const kept = device.tensor('kept', [1000], 'f32', new Float32Array(1000).fill(1));
    const without = device.tensor('without', [total / 4]);
    await expect(device.finish()).rejects.toThrow(/no memory for a tensor of \d+ bytes/);
    await expect(device.read(without)).rejects.toThrow(/found no memory/);
    device.fill({ output: without, value: 9 });
    await expect(device.finish()).rejects.toThrow('a tensor found no memory');
    device.write(without, new Float32Array(total / 4));
    await expect(device.finish()).rejects.toThrow(/no memory/);
    without.dispose();
    expect((await device.read(kept)).every((value) => value === 1)).toBe(true);
  });

  test('a worker that cannot start says so, to those who wait too', async () => {
    using device = new WasmDevice({ threads: 1, maximumPages: 16 });
    const tensor = device.tensor('x', [2], 'f32', Float32Array.of(1, 2));
    await expect(device.read(tensor)).rejects.toThrow();
    await expect(device.finish()).rejects.toThrow();
  });
});
