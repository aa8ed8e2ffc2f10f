import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { NativeBackend } from '../../src/backend/native.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { candidates } from './backends.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** The process's memory, in MiB, without what JavaScript no longer needs. */
function residentMegabytes(): number {
  collectGarbage();
  return process.memoryUsage.rss() / 2 ** 20;
}

/**
 * How much the process may grow while nothing is kept: the engine's heap and the allocator's arenas settle by some MiB. A leak is far
 * beyond it: of one tensor of the loop's hundred thousand 400 MiB, of 100 bytes a call 95 MiB.
 */
const settling = 32;

/** Eleven calls: a tensor made, written, used by eight operations of several kinds, and given back. */
function smallCalls(backend: Backend, kept: ReturnType<typeof keep>): void {
  const { a, b, output, weight, projected, gamma, indices, rows } = kept;
  const values = backend.tensor('values', [1024]);
  backend.fill({ output: values, value: 0.5 });
  backend.write(a, smallArray);
  backend.add({ a, b, output });
  backend.gelu({ input: output, output });
  backend.layerNorm({ input: output, gamma, beta: gamma, epsilon: 1e-12, output: b });
  backend.linear({ input: b, weight, output: projected });
  backend.embedding({ table: weight, indices, output: rows });
  backend.copy({ input: projected, output: rows });
  backend.sumOfSquares({ input: values, output: a.view([1]) });
  values.dispose();
}
const callsAtOnce = 11;
const smallArray = new Float32Array(32).fill(1);

const keep = (backend: Backend) => ({
  a: backend.zeros('a', [4, 8]),
  b: backend.zeros('b', [4, 8]),
  output: backend.zeros('output', [4, 8]),
  weight: backend.zeros('weight', [8, 8]),
  projected: backend.zeros('projected', [4, 8]),
  gamma: backend.zeros('gamma', [8]),
  indices: backend.zeros('indices', [4], 'i32'),
  rows: backend.zeros('rows', [4, 8]),
});

const blocksOf = (backend: Backend) => (backend instanceof NativeBackend ? backend.blocks : undefined);

// One of native's instruction sets and one of WASM's builds: memory is the runtime's, and the same for all of them.
const measured = ['native', 'wasm'].flatMap((name) => candidates.filter(({ label }) => label.startsWith(name)).slice(0, 1));

describe.each(measured)('$label', ({ create, unavailable }) => {
  const folder = join(temporaryFolder(), 'model');
  beforeAll(() => writeTinyModel(folder));

  test.skipIf(unavailable)('memory is flat over a million calls', async () => {
    using backend = create(2);
    const kept = keep(backend);
    const run = async (calls: number) => {
      for (let call = 0; call < calls; call += callsAtOnce) {
        smallCalls(backend, kept);
        if (call % (1000 * callsAtOnce) === 0) await backend.read(kept.projected);
      }
      await backend.finish();
    };
    await run(100_000);
    const [before, blocks] = [residentMegabytes(), blocksOf(backend)];
    await run(1_000_000);
    expect(blocksOf(backend)).toBe(blocks);
    expect(residentMegabytes() - before).toBeLessThan(settling);
  });

  test.skipIf(unavailable)('memory is flat over answers to texts of all lengths', async () => {
    using backend = create(2);
    const fill = await pipeline('fill-mask', folder, { backend });
    const run = async (texts: number) => {
      for (let i = 0; i < texts; i++) await fill(`the cat sees [MASK] ${'and the dog '.repeat(i % 4)}`);
    };
    await run(100);
    const [before, blocks] = [residentMegabytes(), blocksOf(backend)];
    await run(1000);
    expect(blocksOf(backend)).toBe(blocks);
    expect(residentMegabytes() - before).toBeLessThan(settling);
    await fill.dispose();
  });

  test.skipIf(unavailable)('opening and closing a model gives everything back', async () => {
    using backend = create(2);
    const open = async () => {
      const fill = await pipeline('fill-mask', folder, { backend, dtype: 'i8' });
      await fill('the cat sees [MASK]');
      await fill.dispose();
      await backend.finish();
    };
    await open();
    const blocks = blocksOf(backend);
    for (let i = 0; i < 20; i++) await open();
    expect(blocksOf(backend)).toBe(blocks);
  });
});
