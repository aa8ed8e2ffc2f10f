import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import { NativeDevice } from '../../src/backend/native.ts';
import { loadAddon } from '../../src/backend/native_loader.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { Random } from './random.ts';

const { addon, path, reason } = loadAddon();

const longWorkCalls = 10;

/** A hundred milliseconds of work at least, on one tensor. */
function longWork(device: Device): Tensor {
  const size = 1024;
  const a = device.zeros('a', [size, size]);
  const b = device.zeros('b', [size, size]);
  const output = device.tensor('output', [size, size]);
  for (let i = 0; i < longWorkCalls; i++) device.linear({ input: a, weight: b, output });
  return output;
}

const normals = new Random(7).normals(250_000);

/** One of each kind of kernel that divides its work, on shapes that divide evenly by nothing; a hash of every result. */
async function manyResults(device: Device): Promise<string[]> {
  let seed = 0;
  const tensor = (...shape: number[]) => {
    const size = shape.reduce((a, b) => a * b, 1);
    return device.tensor('operand', shape, 'f32', normals.slice(++seed, seed + size));
  };
  const [rows, inputs, outputs] = [301, 523, 389];
  const input = tensor(rows, inputs);
  const weight = tensor(outputs, inputs);
  const gradOutput = tensor(rows, outputs);
  const bias = tensor(outputs);
  const output = tensor(rows, outputs);
  const preActivation = tensor(rows, outputs);
  const gradInput = tensor(rows, inputs);
  const gradWeight = tensor(outputs, inputs);
  const gradBias = tensor(outputs);
  device.linear({ input, weight, bias, output, activation: 'gelu', preActivation });
  device.linearBackwardInput({ gradOutput, weight, gradInput });
  device.linearBackwardWeight({ input, gradOutput, gradWeight, gradBias });

  const [gamma, beta, mean, rstd] = [tensor(inputs), tensor(inputs), tensor(rows), tensor(rows)];
  const [normed, gradNormed, gradGamma, gradBeta] = [tensor(rows, inputs), tensor(rows, inputs), tensor(inputs), tensor(inputs)];
  device.layerNorm({ input, gamma, beta, epsilon: 1e-5, output: normed, mean, rstd });
  device.layerNormBackward({ input, gamma, mean, rstd, gradOutput: normed, gradInput: gradNormed, gradGamma, gradBeta });

  const labels = device.tensor(
    'labels',
    [rows],
    'i32',
    Int32Array.from({ length: rows }, (_, r) => (r % 5 === 0 ? -100 : r)),
  );
  const [losses, gradLogits, total, squares] = [tensor(rows), tensor(rows, outputs), tensor(1), tensor(1)];
  device.crossEntropy({ logits: output, labels, losses, gradLogits, scale: 0.5 });
  device.sum({ input: output, output: total });
  device.sumOfSquares({ input: gradWeight, output: squares });
  const [parameter, first, second] = [tensor(outputs, inputs), tensor(outputs, inputs), device.zeros('second', [outputs, inputs])];
  device.adamw({
    parameter,
    gradient: gradWeight,
    mean: first,
    variance: second,
    learningRate: 1e-2,
    beta1: 0.9,
    beta2: 0.98,
    epsilon: 1e-12,
    weightDecay: 0.01,
    step: 3,
  });
  const results = [
    output,
    preActivation,
    gradInput,
    gradWeight,
    gradBias,
    normed,
    gradNormed,
    gradGamma,
    gradBeta,
    losses,
    gradLogits,
    total,
    squares,
    parameter,
    first,
    second,
  ];
  return Promise.all(
    results.map(async (result) =>
      createHash('sha256')
        .update(await device.read(result))
        .digest('hex'),
    ),
  );
}

afterEach(() => vi.unstubAllEnvs());

describe.skipIf(!addon)(`the native backend${reason ? ` (${reason})` : ''}`, () => {
  test('leaves the event loop free while it works', async () => {
    using device = new NativeDevice({ threads: 1 });
    const output = longWork(device);
    let finished = false;
    let turns = 0;
    const turn = () => {
      turns++;
      if (!finished) setImmediate(turn);
    };
    setImmediate(turn);
    const values = device.read(output).finally(() => {
      finished = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(finished).toBe(false);
    await values;
    expect(turns).toBeGreaterThan(10);
  });

  test('values arrive bit by bit, and as they were at the call', async () => {
    using device = new NativeDevice();
    for (const length of [1, 3, 1024, 1025, 300_000]) {
      const integers = Int32Array.from({ length }, (_, i) => (i % 3 === 0 ? -1 : Math.imul(i, 0x9e3779b1)));
      const expected = integers.slice();
      const tensor = device.tensor('integers', [length], 'i32', integers);
      integers.fill(5);
      expect(Buffer.compare(Buffer.from((await device.readIntegers(tensor)).buffer), Buffer.from(expected.buffer))).toBe(0);
    }
  });

  test('a late error rejects, and what follows runs', async () => {
    using device = new NativeDevice();
    const table = device.zeros('table', [4, 2]);
    const output = device.zeros('output', [1, 2]);
    device.gather({ table, indices: device.tensor('indices', [1], 'i32', [9]), output });
    device.submit();
    device.fill({ output, value: 1 });
    await expect(device.finish()).rejects.toThrow('index 9');
    device.fill({ output, value: 2 });
    expect(await device.read(output)).toEqual(Float32Array.of(2, 2));
  });

  test('memory that is not there is an error at the call', async () => {
    using device = new NativeDevice();
    expect(() => device.tensor('huge', [2 ** 48])).toThrow('no memory for a tensor of 1125899906842624 bytes');
    expect(await device.read(device.zeros('small', [2]))).toEqual(new Float32Array(2));
  });

  test('use after dispose names the tensor; what waits is rejected; disposing again does nothing', async () => {
    const device = new NativeDevice();
    const weights = device.zeros('weights', [3]);
    const released = device.zeros('released', [3]);
    released.dispose();
    released.dispose();
    expect(() => device.fill({ output: released, value: 1 })).toThrow("tensor 'released' was disposed");
    const pending = device.read(longWork(device));
    device.dispose();
    device.dispose();
    weights.dispose();
    await expect(pending).rejects.toThrow('the native backend was disposed before this had run');
    expect(() => device.fill({ output: weights, value: 1 })).toThrow("tensor 'weights' was disposed");
    expect(() => device.tensor('late', [1])).toThrow('the native backend was disposed');
    await expect(device.finish()).rejects.toThrow('the native backend was disposed');
  });

  test('results do not depend on the number of threads, bit for bit', async () => {
    using one = new NativeDevice({ threads: 1 });
    const expected = await manyResults(one);
    for (const threads of [2, 3, 7]) {
      using device = new NativeDevice({ threads });
      expect(await manyResults(device)).toEqual(expected);
    }
  });

  test.each(addon?.instructionSets ?? [])('%s: a row answers the same bits alone as in any batch', async (instructionSet) => {
    using device = new NativeDevice({ threads: 2, instructionSet });
    const random = new Random(3);
    const [rows, inputs, outputs] = [130, 300, 77];
    const values = random.normals(rows * inputs);
    const weight = device.tensor('weight', [outputs, inputs], 'f32', random.normals(outputs * inputs));
    const bias = device.tensor('bias', [outputs], 'f32', random.normals(outputs));
    const answer = (from: number, to: number) => {
      const input = device.tensor('input', [to - from, inputs], 'f32', values.slice(from * inputs, to * inputs));
      const output = device.tensor('output', [to - from, outputs]);
      device.linear({ input, weight, bias, output, activation: 'gelu' });
      return device.read(output);
    };
    const all = await answer(0, rows);
    for (const [from, to] of [
      [0, 1],
      [5, 6],
      [129, 130],
      [3, 8],
      [100, 130],
      [1, 78],
    ]) {
      expect(await answer(from, to)).toEqual(all.slice(from * outputs, to * outputs));
    }
  });

  test('the instruction set can be named, by the environment too', () => {
    vi.stubEnv('UFB_INSTRUCTION_SET', addon?.instructionSets[0]);
    using device = new NativeDevice({ threads: 1 });
    expect(device.description).toBe(`${addon?.instructionSets[0]}, 1 thread`);
    expect(() => new NativeDevice({ instructionSet: 'mmx' })).toThrow("instruction set 'mmx' is not one of this processor's");
    expect(() => new NativeDevice({ threads: 0 })).toThrow('threads: 0 is not a count');
  });

  test('counts calls and time of each kernel', async () => {
    using device = new NativeDevice({ threads: 1 });
    await device.read(longWork(device));
    const times = device.kernelTimes();
    expect(times.linear.calls).toBe(longWorkCalls);
    expect(times.linear.milliseconds).toBeGreaterThan(0);
    expect(times.adamw).toEqual({ calls: 0, milliseconds: 0 });
  });

  /** JavaScript that opens the add-on by itself and queues `count` multiplications; `handle`, `list` and `addon` are in scope afterwards. */
  const script = (count: number) => `
    const addon = require(${JSON.stringify(path)});
    const handle = addon.create(addon.instructionSets.at(-1), 2);
    const [a, b, c] = [0, 1, 2].map(() => addon.allocate(handle, 4 << 20));
    const linear = [addon.kernelNames.indexOf('linear'), 5, a, b, 0, c, 0, 6, 1024, 1024, 1024, 0, 0, 0];
    const list = Float64Array.from({ length: ${count} * linear.length }, (_, i) => linear[i % linear.length]);
  `;
  const node = (code: string) => spawnSync(process.execPath, ['-e', code], { encoding: 'utf8', timeout: 60_000 });

  test('an idle backend does not keep the process, a promise does, and the end of the process drops queued work', () => {
    expect(node(script(1))).toMatchObject({ status: 0, stderr: '' });
    const waited = node(`${script(20)} addon.finish(handle, list, list.length, undefined, 0).then(() => console.log('done'));`);
    expect(waited).toMatchObject({ status: 0, stdout: 'done\n', stderr: '' });
    // Hours of work, if anything waited for it.
    const dropped = node(`${script(1000)} for (let i = 0; i < 1000; i++) addon.submit(handle, list, list.length);`);
    expect(dropped).toMatchObject({ status: 0, stderr: '' });
    expect(node(`${script(1000)} addon.finish(handle, list, list.length, undefined, 0); process.exit(3);`)).toMatchObject({
      status: 3,
      stderr: '',
    });
  });

  test.skipIf(process.platform !== 'linux')('scratch that is not there is a late error, not the end of the process', () => {
    // 100 million rows: 800 MB of operands, of which nothing is touched, then 2 GB of scratch; node itself takes about 1 GB of addresses.
    const rows = 1e8;
    const code = `${script(1)}
      const [indices, gradOutput] = [0, 1].map(() => addon.allocate(handle, 4 * ${rows}));
      const scatter = Float64Array.of(addon.kernelNames.indexOf('scatterAdd'), 5, indices, gradOutput, a, 0, 0, 4, ${rows}, 1, 1, -1);
      addon.finish(handle, scatter, scatter.length, undefined, 0).catch(({ message }) => console.log(message))
        .then(() => addon.finish(handle, list, list.length, undefined, 0)).then(() => console.log('goes on'));`;
    const limited = spawnSync('sh', ['-c', 'ulimit -v 3000000; exec "$0" -e "$1"', process.execPath, code], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect(limited).toMatchObject({ status: 0, stdout: 'no memory for 2000000000 bytes of scratch\ngoes on\n', stderr: '' });
  });

  test.skipIf(process.platform !== 'linux')('nor is scratch that is missing on several threads at once', () => {
    // Four sequences of one query and 10^9 keys, all the same one: no memory but the scratch for their scores, 4 GB or more each.
    const keys = 1e9;
    const code = `${script(1)}
      const numbers = [4, 1, 1, 1, ${keys}, 0, 0, 0, 0, 1, 4, ${4 * keys}, ...Array(12).fill(0)];
      const attention = Float64Array.of(addon.kernelNames.indexOf('attention'), 7, a, b, b, 0, 0, c, 0, numbers.length, ...numbers);
      addon.finish(handle, attention, attention.length, undefined, 0).catch(({ message }) => console.log(message.replace(/\\d+/, 'many')))
        .then(() => addon.finish(handle, list, list.length, undefined, 0)).then(() => console.log('goes on'));`;
    const limited = spawnSync('sh', ['-c', 'ulimit -v 3000000; exec "$0" -e "$1"', process.execPath, code], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect(limited).toMatchObject({ status: 0, stdout: 'no memory for many bytes of scratch\ngoes on\n', stderr: '' });
  });

  test.skipIf(process.platform !== 'linux')('threads that the system refuses are done without, all of them are an error', () => {
    // A thread's stack takes 8 MB of the 2 GB of addresses beside node's own: first blocks of 4 MB take them all, then threads do.
    const code = `${script(1)}
      const create = (threads) => addon.create(addon.instructionSets.at(-1), threads);
      try { for (;;) addon.allocate(handle, 4 << 20); } catch {}
      try { create(2); } catch ({ message }) { console.log(message); }
      try { addon.submit(handle, list, 1e9); } catch ({ message }) { console.log(message); } // for whose copy there is no memory
      addon.dispose(handle);
      const many = create(1000);
      console.log(addon.threads(many) > 1 && addon.threads(many) < 1000);
      const fill = Float64Array.of(addon.kernelNames.indexOf('fill'), 1, addon.allocate(many, 4096), 2, 1024, 3);
      addon.finish(many, fill, fill.length, undefined, 0).then(() => console.log('computes'));`;
    const limited = spawnSync('sh', ['-c', 'ulimit -s 8192; ulimit -v 3000000; exec "$0" -e "$1"', process.execPath, code], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect(limited).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(
        /^the system gives the native backend no thread or memory \(.*\): .*\nno memory for the native backend's own lists .*\ntrue\ncomputes\n$/,
      ),
      stderr: '',
    });
  });

  test('a backend whose promise is awaited outlives its last reference', () => {
    const code = `(() => { ${script(20)} return addon.finish(handle, list, list.length, undefined, 0); })().then(() => console.log('done')); gc();`;
    expect(spawnSync(process.execPath, ['--expose-gc', '-e', code], { encoding: 'utf8', timeout: 60_000 })).toMatchObject({
      status: 0,
      stdout: 'done\n',
    });
    expect(
      spawnSync(process.execPath, ['--expose-gc', '-e', `for (let i = 0; i < 20; i++) { (() => { ${script(1)} })(); gc(); }`], {
        timeout: 60_000,
      }).status,
    ).toBe(0);
  });

  test('runs in worker threads, and survives their being terminated in the middle of work', async () => {
    const start = (code: string) => new Worker(`${code} require('node:worker_threads').parentPort.postMessage('started');`, { eval: true });
    const message = (worker: Worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    const workers = [0, 1].map(() => start(`${script(1000)} addon.finish(handle, list, list.length, undefined, 0);`));
    await Promise.all(workers.map(message));
    await Promise.all(workers.map((worker) => worker.terminate()));
    using device = new NativeDevice();
    expect(await device.read(device.zeros('still here', [1]))).toEqual(new Float32Array(1));
  });
});
