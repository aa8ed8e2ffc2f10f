import { existsSync, lstatSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { downloadModel, type HubOptions } from '../../src/io/hub.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { openHubCache } from '../../src/platform/node.ts';
import { sha256 } from './hub_server.ts';
import { commit, folder, hub, name, ofStorage, older, repository, snapshot, start, useHub, weights } from './hub_setup.ts';

useHub();

/** Of the program's clock, which is then the machine's again. */
const advance = (seconds: number) => {
  vi.advanceTimersByTime(seconds * 1000);
  vi.useRealTimers();
};

describe('a hub that accepts and says nothing more', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
  afterEach(() => void vi.useRealTimers());

  test.each(['revision', 'tree'])('is not waited for by who has the model (%s)', async (part) => {
    await start();
    const found = await downloadModel(name);
    writeFileSync(join(repository(), 'refs', 'main'), older);
    renameSync(found, snapshot('', older));
    renameSync(join(repository(), '.no_exist', commit), join(repository(), '.no_exist', older));
    hub.requests.length = 0;
    hub.fault = ({ path }) => {
      if (!path.includes(`/${part}/`)) return undefined;
      advance(10);
      return { kind: 'stall', after: 0 };
    };
    expect(await downloadModel(name)).toBe(snapshot('', older));
    expect(hub.requests).toHaveLength(part === 'tree' ? 2 : 1);
  });

  test('is asked again', async () => {
    await start();
    let stalls = 0;
    hub.fault = ({ path }) => {
      if (!path.includes('/revision/') || stalls++ > 0) return undefined;
      advance(60);
      return { kind: 'stall', after: 0 };
    };
    await downloadModel(name);
    expect(stalls).toBe(2);
  });

  test('half way through a file, is asked for the rest', async () => {
    await start();
    hub.fault = ({ host, range }) => (host === 'storage' && !range ? { kind: 'stall', after: 100_000 } : undefined);
    const part = join(repository(), 'blobs', `${sha256(weights)}.ufb.incomplete`);
    const hasAllThatComes = () => existsSync(part) && lstatSync(part).size === 100_000;
    const looking = setInterval(() => vi.isFakeTimers() && hasAllThatComes() && vi.getTimerCount() > 0 && advance(60), 5);
    onTestFinished(() => clearInterval(looking));
    const found = await downloadModel(name);
    expect(ofStorage().map(({ range }) => range)).toEqual([undefined, 'bytes=100000-']);
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
  });
});

describe('a signal', () => {
  let controller: AbortController;
  const reason = new Error('enough');
  const opening = (options: HubOptions = {}) => downloadModel(name, { signal: controller.signal, ...options });
  const part = () => join(repository(), 'blobs', `${sha256(weights)}.ufb.incomplete`);
  beforeEach(() => {
    controller = new AbortController();
  });

  test.each(['revision', 'tree', 'resolve'])('stops the waiting for an answer (%s)', async (what) => {
    await start();
    hub.fault = ({ path }) => {
      if (!path.includes(`/${what}/`)) return undefined;
      controller.abort(reason);
      return { kind: 'stall', after: 0 };
    };
    await expect(opening()).rejects.toBe(reason);
    expect(hub.requests.filter(({ path }) => path.includes(`/${what}/`))).toHaveLength(1);
  });

  test('stops the waiting that the hub asks for', async () => {
    await start();
    hub.fault = () => ({ kind: 'status', status: 429, headers: { 'retry-after': '200' } });
    const timers = vi.spyOn(globalThis, 'setTimeout');
    onTestFinished(() => timers.mockRestore());
    const refused = expect(opening()).rejects.toBe(reason);
    await vi.waitFor(() => expect(timers).toHaveBeenCalledWith(expect.anything(), 200_000), { timeout: 60_000 });
    controller.abort(reason);
    await refused;
    expect(hub.requests).toHaveLength(1);
  });

  test('stops a download, of which is kept what came', async () => {
    await start();
    hub.fault = ({ host, range }) => (host === 'storage' && !range ? { kind: 'stall', after: 100_000 } : undefined);
    const stopped = opening({
      progress_callback: ({ file, loaded }) => void (file === 'model.safetensors' && loaded > 0 && controller.abort(reason)),
    });
    await expect(stopped).rejects.toBe(reason);
    expect(lstatSync(part()).size).toBeGreaterThan(0);
    expect(existsSync(`${part()}.lock`)).toBe(false);
    const found = await downloadModel(name);
    expect(ofStorage().at(-1)?.range).toMatch(/^bytes=[1-9]\d*-$/);
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test('stops the waiting for another process that downloads it', async () => {
    await start();
    mkdirSync(dirname(part()), { recursive: true });
    writeFileSync(`${part()}.lock`, '1 elsewhere x');
    const timers = vi.spyOn(globalThis, 'setTimeout');
    onTestFinished(() => timers.mockRestore());
    const refused = expect(opening()).rejects.toBe(reason);
    await vi.waitFor(() => expect(timers).toHaveBeenCalledWith(expect.anything(), 200), { timeout: 60_000 });
    controller.abort(reason);
    await refused;
    expect(readFileSync(`${part()}.lock`, 'utf8')).toBe('1 elsewhere x');
  });

  test('stops the waiting for this process, which downloads on', async () => {
    await start();
    const hubCache = await openHubCache(name, hub.url);
    const file = { path: 'model.safetensors', size: weights.length, gitHash: '', sha256: sha256(weights) };
    let goOn = () => {};
    const begun = new Promise<void>((begin) => {
      const download = async () => {
        begin();
        await new Promise<void>((resolve) => {
          goOn = resolve;
        });
        return {
          offset: 0,
          blocks: (async function* () {
            yield weights;
          })(),
        };
      };
      void hubCache.add(commit, file, download);
    });
    await begun;
    const listening = vi.spyOn(controller.signal, 'addEventListener');
    const refused = expect(hubCache.add(commit, file, () => Promise.reject(new Error('asked')), controller.signal)).rejects.toBe(reason);
    await vi.waitFor(() => expect(listening).toHaveBeenCalled(), { timeout: 60_000 });
    controller.abort(reason);
    await refused;
    goOn();
    await hubCache.add(commit, file, () => Promise.reject(new Error('asked')));
    expect(readFileSync(snapshot('model.safetensors')).equals(weights)).toBe(true);
  });

  test('that was given before stops everything, of folders too', async () => {
    await start();
    controller.abort(reason);
    await expect(opening()).rejects.toBe(reason);
    for (const model of [name, join(folder, 'nowhere')])
      await expect(pipeline('fill-mask', model, { device: 'reference', signal: controller.signal })).rejects.toBe(reason);
    expect(hub.requests).toEqual([]);
  });
});

test('what a callback throws comes through as it is, and nothing is tried again', async () => {
  await start();
  // As a connection's error, and as one of the disk.
  for (const mine of [Object.assign(new Error('mine'), { code: 'ECONNRESET' }), Object.assign(new Error('full'), { syscall: 'write' })]) {
    hub.requests.length = 0;
    const progress_callback = () => {
      throw mine;
    };
    await expect(downloadModel(name, { progress_callback })).rejects.toBe(mine);
    expect(hub.requests.filter(({ path }) => path.includes('/resolve/'))).toHaveLength(1);
  }
});
