import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/backend/native_loader.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const built = `${root}build/allocation-failures/ufb.node`;

/**
 * A child process opens a build of the add-on in which allocations can be made to fail, those of the C++ library and those of blocks. `use`
 * goes through all that a backend does, and gives what it computed.
 */
const opened = `
  const addon = require(${JSON.stringify(built)});
  const code = (name) => addon.kernelNames.indexOf(name);
  const staged = new Float32Array(1 << 16).fill(2);
  async function use(threads, end = (handle) => addon.dispose(handle)) {
    const handle = addon.create(addon.instructionSets.at(-1), threads);
    try {
      const [a, b, c] = [0, 1, 2].map(() => addon.allocate(handle, 4 << 16));
      const numbers = [-3, 2, a, addon.stage(handle, staged), 1, staged.byteLength]; // writes a
      numbers.push(code('fill'), 1, b, 2, 1 << 16, 3);
      numbers.push(code('linear'), 5, a, b, 0, c, 0, 6, 256, 256, 256, 0, 0, 0);
      addon.submit(handle, Float64Array.from(numbers), numbers.length);
      const result = new Float32Array(1 << 16);
      const sum = [code('add'), 3, c, a, c, 1, 1 << 16];
      await addon.finish(handle, Float64Array.from(numbers), 0, undefined, 0);
      const values = await addon.finish(handle, new Float64Array(1), 0, result, c);
      addon.blockCount(handle);
      addon.kernelTimes(handle);
      return values[0];
    } finally {
      end(handle);
    }
  }
`;
const node = (code: string) => spawnSync(process.execPath, ['--expose-gc', '-e', opened + code], { encoding: 'utf8', timeout: 250_000 });

describe.skipIf(!loadAddon().addon)('without memory the native backend ends in an error, never in the end of the process', () => {
  beforeAll(() => {
    const script = `${root}scripts/build_native.mjs`;
    const { status, stderr } = spawnSync(process.execPath, [script, '--out', `${root}build/allocation-failures`, '--allocation-failures'], {
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  test.each([
    ['one allocation', 1],
    ['each from one on', Number.MAX_SAFE_INTEGER],
  ])('%s fails: wherever that is, the call or its promise says so, or the result is right', (_, fail) => {
    const { status, stdout, stderr } = node(`
      (async () => {
        await use(2);
        addon.failAllocations(0, 0);
        const right = await use(2);
        const count = addon.failAllocations(0, 0);
        const seen = {};
        for (let skip = 0; skip <= count; skip++) {
          addon.failAllocations(skip, ${fail});
          let answer;
          try {
            answer = await use(2);
          } catch ({ message }) {
            answer = message.replace(/\\d+/g, 'N');
          }
          addon.failAllocations(0, 0);
          seen[answer] = (seen[answer] ?? 0) + 1;
          if (await use(2) !== right) throw new Error('another result after ' + answer);
        }
        gc();
        console.log(JSON.stringify({ right, count, seen }));
      })();`);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const { right, count, seen } = JSON.parse(stdout);
    expect(right).toBe(256 * 2 * 3);
    expect(count).toBeGreaterThan(20);
    for (const [answer, times] of Object.entries(seen)) {
      expect(answer).toMatch(
        /^1536$|no thread or memory|no memory for a tensor|no memory to stage|no memory for the native backend's own lists|no memory for N bytes of scratch/,
      );
      expect(times).toBeGreaterThan(0);
    }
    // Every place where it can fail is among them.
    expect(Object.keys(seen).length).toBeGreaterThanOrEqual(5);
  });

  test('a list that was lost is told again by the next reading', () => {
    const { stdout, stderr } = node(`
      const handle = addon.create(addon.instructionSets[0], 1);
      addon.failAllocations(0, 1);
      try { addon.submit(handle, new Float64Array(100), 0); } catch ({ message }) { console.log(message); }
      addon.finish(handle, new Float64Array(1), 0, undefined, 0).catch(({ message }) => console.log(message));`);
    expect(stderr).toBe('');
    expect(stdout).toMatch(
      /^no memory for the native backend's own lists .*\na list of 0 numbers was lost, for there was no memory for it\n$/,
    );
  });

  test('disposing, collecting, and the end of the environment need no memory, with work queued and promises open', () => {
    const queue = `
      const handle = addon.create(addon.instructionSets.at(-1), 2);
      const [a, b, c] = [0, 1, 2].map(() => addon.allocate(handle, 4 << 20));
      const linear = [code('linear'), 5, a, b, 0, c, 0, 6, 1024, 1024, 1024, 0, 0, 0];
      const list = Float64Array.from({ length: 200 * linear.length }, (_, i) => linear[i % linear.length]);
      const promises = [];
      for (let i = 0; i < 600; i++) {
        addon.submit(handle, list, list.length);
        promises.push(addon.finish(handle, list, list.length, undefined, 0).catch(({ message }) => message));
      }
      addon.failAllocations(0, Number.MAX_SAFE_INTEGER);`;
    const disposed = node(
      `${queue} addon.dispose(handle); Promise.all(promises).then((all) => console.log(new Set(all).size, all.at(-1)));`,
    );
    expect(disposed).toMatchObject({ status: 0, stderr: '', stdout: '1 the native backend was disposed before this had run\n' });
    expect(node(`${queue} process.exit(3);`)).toMatchObject({ status: 3, stderr: '' });
    const worker = `
      const { Worker, isMainThread, parentPort } = require('node:worker_threads');
      const worker = new Worker(${JSON.stringify(`${opened}${queue} require('node:worker_threads').parentPort.postMessage(1);`)}, { eval: true });
      worker.once('message', async () => { await worker.terminate(); console.log('ended'); });`;
    expect(node(worker)).toMatchObject({ status: 0, stderr: '', stdout: 'ended\n' });
    const collected = node(`(() => { const handle = addon.create(addon.instructionSets[0], 2); addon.allocate(handle, 100); })();
      addon.failAllocations(0, Number.MAX_SAFE_INTEGER); gc(); setTimeout(() => { gc(); console.log('collected'); }, 10);`);
    expect(collected).toMatchObject({ status: 0, stderr: '', stdout: 'collected\n' });
  });
});
