import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import { NativeDevice } from '../../src/backend/native.ts';
import { type Pipelines, pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyClassifier, writeTinyModel } from '../tiny_model.ts';
import { candidates, describeOnEach } from './backends.ts';
import { watchBlocks } from './blocks.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** The process's memory, in MiB, without what JavaScript no longer needs: the engine gives back the space for young objects, 16 MiB, by and by. */
function residentMegabytes(): number {
  for (let i = 0; i < 4; i++) collectGarbage();
  return process.memoryUsage.rss() / 2 ** 20;
}

/**
 * How much the process may grow while nothing is kept: the engine's heap and the allocator's arenas settle by some MiB (up to 4
 * measured). A leak is beyond it: of one tensor of the loop's hundred thousand 400 MiB, of 100 bytes a call 95 MiB, of 3 kB an answer 17 MiB.
 */
const settling = 16;

/**
 * Does the work once to settle, then again, up to three times, until the memory grew by less than `settling`. A leak grows every time; the heap
 * of WASM's worker, which nobody tells to collect, may swing by 30 MiB.
 */
async function expectFlat(work: () => Promise<void>, blocks: () => number[]): Promise<void> {
  await work();
  const held = blocks();
  let growth = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3 && growth >= settling; round++) {
    const before = residentMegabytes();
    await work();
    growth = residentMegabytes() - before;
    expect(blocks()).toEqual(held);
  }
  expect(growth).toBeLessThan(settling);
}

/** Eleven calls: a tensor made, written, used by eight operations of several kinds, and given back. */
function smallCalls(device: Device, kept: ReturnType<typeof keep>): void {
  const { a, b, output, weight, projected, gamma, indices, rows } = kept;
  const values = device.tensor('values', [1024]);
  device.fill({ output: values, value: 0.5 });
  device.write(a, smallArray);
  device.add({ a, b, output });
  device.gelu({ input: output, output });
  device.layerNorm({ input: output, gamma, beta: gamma, epsilon: 1e-12, output: b });
  device.linear({ input: b, weight, output: projected });
  device.gather({ table: weight, indices, output: rows });
  device.copy({ input: projected, output: rows });
  device.sumOfSquares({ input: values, output: a.view([1]) });
  values.dispose();
}
const callsAtOnce = 11;
const smallArray = new Float32Array(32).fill(1);

const keep = (device: Device) => ({
  a: device.zeros('a', [4, 8]),
  b: device.zeros('b', [4, 8]),
  output: device.zeros('output', [4, 8]),
  weight: device.zeros('weight', [8, 8]),
  projected: device.zeros('projected', [4, 8]),
  gamma: device.zeros('gamma', [8]),
  indices: device.zeros('indices', [4], 'i32'),
  rows: device.zeros('rows', [4, 8]),
});

/** Tells how many blocks a backend has handed out and not got back, from now on; of native's runtime also how many it has in all. */
function blocksOf(device: Device): () => number[] {
  const watch = watchBlocks(device);
  return () => (device instanceof NativeDevice ? [watch.held, device.blocks] : [watch.held]);
}

type Input = string | { text: string; text_pair: string };
/** What the pipelines have in common, of one input and of a stream. */
interface Answering {
  (input: Input, options?: object): Promise<unknown>;
  (inputs: AsyncIterable<Input>, options?: object): AsyncGenerator<unknown>;
  dispose(): Promise<void>;
}
const text = (i: number) => `the cat sees [MASK] ${'and the dog '.repeat(i % 4)}`;
const poolings = ['mean', 'cls', 'max', 'none'];
/** Inputs of all lengths. */
const tasks: { task: keyof Pipelines; model: string; input: (i: number) => Input; options: (i: number) => object }[] = [
  { task: 'fill-mask', model: 'model', input: text, options: () => ({}) },
  { task: 'feature-extraction', model: 'model', input: text, options: (i) => ({ pooling: poolings[i % 4], normalize: i % 3 === 0 }) },
  {
    task: 'text-classification',
    model: 'classifier',
    input: (i) => (i % 2 === 0 ? text(i) : { text: text(i), text_pair: 'a dog' }),
    options: () => ({ top_k: null }),
  },
];
async function* stream(input: (i: number) => Input, count: number): AsyncGenerator<Input> {
  for (let i = 0; i < count; i++) yield input(i);
}

// One of native's instruction sets and one of WASM's builds: memory is the runtime's, and the same for all of them.
const measured = ['native', 'wasm'].flatMap((name) => candidates.filter(({ label }) => label.startsWith(name)).slice(0, 1));

describeOnEach(measured, ({ create }) => {
  const folder = temporaryFolder();
  beforeAll(async () => {
    await writeTinyModel(join(folder, 'model'));
    await writeTinyClassifier(join(folder, 'model'), join(folder, 'classifier'));
  });

  test('memory is flat over a million calls', async () => {
    using device = create(2);
    const blocks = blocksOf(device);
    const kept = keep(device);
    await expectFlat(async () => {
      for (let call = 0; call < 1_000_000; call += callsAtOnce) {
        smallCalls(device, kept);
        if (call % (1000 * callsAtOnce) === 0) await device.read(kept.projected);
      }
      await device.finish();
    }, blocks);
  });

  test('memory is flat over tensors of a megabyte: made, written, computed and given back', async () => {
    using device = create(2);
    const values = new Float32Array(1 << 18).fill(1);
    await expectFlat(async () => {
      for (let i = 0; i < 200; i++) {
        using input = device.tensor('input', [values.length], 'f32', values);
        using output = device.tensor('output', [values.length]);
        device.add({ a: input, b: input, output });
        using sum = device.tensor('sum', [1]);
        device.sum({ input: output, output: sum });
        expect((await device.read(sum))[0]).toBe(2 * values.length);
      }
      await device.finish();
    }, blocksOf(device));
  });

  test('memory is flat over tensors that are written and given back without anything being run', async () => {
    using device = create(1);
    const values = new Float32Array(1 << 20);
    await expectFlat(async () => {
      for (let i = 0; i < 100; i++) device.tensor('upload', [values.length], 'f32', values).dispose();
      await device.finish();
    }, blocksOf(device));
  });

  describe.each(tasks)('$task', ({ task, model, input, options }) => {
    const open = async (device: Device, dtype?: 'i8') =>
      (await pipeline(task, join(folder, model), { device, dtype })) as unknown as Answering;

    test('memory is flat over answers, one by one and of streams, some of them left', async () => {
      using device = create(2);
      const blocks = blocksOf(device);
      const answer = await open(device);
      const inputs = 3000;
      await expectFlat(async () => {
        for (let i = 0; i < inputs; i++) await answer(input(i), options(i));
        let answers = 0;
        for await (const _ of answer(stream(input, inputs), options(0))) answers++;
        expect(answers).toBe(inputs);
        for (let i = 0; i < 50; i++) for await (const _ of answer(stream(input, 5), options(0))) break;
      }, blocks);
      await answer.dispose();
      expect(blocks()[0]).toBe(0);
    });

    test('opening, using and closing a model gives everything back', async () => {
      using device = create(2);
      const blocks = blocksOf(device);
      const openAndClose = async () => {
        const answer = await open(device, 'i8');
        await answer(input(1), options(1));
        for await (const _ of answer(stream(input, 3), options(0))) break;
        await answer.dispose();
        await device.finish();
      };
      await openAndClose();
      const held = blocks();
      expect(held[0]).toBe(0);
      for (let i = 0; i < 20; i++) await openAndClose();
      expect(blocks()).toEqual(held);
    });
  });
});
