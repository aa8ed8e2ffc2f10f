import { describe, expect, test } from 'vitest';
import { commandCodes } from '../../src/backend/command_list.ts';
import { startComputeWorker, wasmFile, wasmMissing } from '../../src/platform/node.ts';

/** A worker, and what it says next. */
function start() {
  let tell: (message: unknown) => void = () => {};
  const worker = startComputeWorker(
    (message) => tell(message),
    (error) => tell(error),
  );
  worker.hold(true);
  const next = () =>
    new Promise((resolve) => {
      tell = resolve;
    });
  return { worker, next };
}

describe.skipIf(wasmMissing())('nobody waits for ever for a worker', () => {
  test('a helper that cannot begin says so', async () => {
    const { worker, next } = start();
    worker.post({ kind: 'help', module: 'no module', memory: undefined, stack: 0, worker: 1 });
    expect(await next()).toEqual({ kind: 'failed', error: expect.stringMatching(/./) });
    worker.end();
  });

  test('what fails while an answer is made is the answer', async () => {
    const { worker, next } = start();
    worker.post({ kind: 'start', wasm: wasmFile('ufb-simd'), threads: 1, maximumPages: 64 });
    expect(await next()).toMatchObject({ kind: 'ready' });
    // A tensor of 64 bytes, of which a thousand million are wanted.
    const address = 2 ** 32;
    const commands = Float64Array.of(commandCodes.allocateBlock, 1, address, 1, 64).buffer;
    const job = { kind: 'run', commands, names: [], staged: [], read: { address, bytes: 1e9 } };
    worker.post({ ...job, id: 1 });
    expect(await next()).toMatchObject({ kind: 'done', id: 1, error: expect.stringMatching(/./) });

    worker.post({ ...job, commands: new ArrayBuffer(0), id: 2 });
    expect(await next()).toMatchObject({ kind: 'done', id: 2, error: expect.stringMatching(/./) });
    worker.end();
  });
});
