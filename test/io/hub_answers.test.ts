import { randomBytes } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { FailureError, InputError } from '../../src/errors.ts';
import { downloadModel } from '../../src/io/hub.ts';
import { openHubCache } from '../../src/platform/node.ts';
import { blobs, cache, commit, files, hub, lackingIn, name, older, repository, start, useHub, without } from './hub_setup.ts';

useHub();

describe('answers', () => {
  test('429 is asked again when the hub says', async () => {
    await start();
    let refused = 0;
    hub.fault = ({ path }) =>
      path.startsWith('/api/') && refused++ < 2 ? { kind: 'status', status: 429, headers: { 'retry-after': '0' } } : undefined;
    await downloadModel(name);
    expect(refused).toBeGreaterThan(2);
  });

  test('429 with a long wait is said', async () => {
    await start();
    hub.fault = () => ({ kind: 'status', status: 429, headers: { 'retry-after': '4000' } });
    await expect(downloadModel(name)).rejects.toThrow(/too many requests \(429\); try again in 4000 s/);
    expect(hub.requests).toHaveLength(1);
  });

  test('404 for a file that the hub lists', async () => {
    await start();
    hub.fault = ({ host }) => (host === 'storage' ? { kind: 'status', status: 404 } : undefined);
    await expect(downloadModel(name)).rejects.toThrow(InputError);
    expect(existsSync(join(repository(), 'refs', 'main'))).toBe(false);
  });

  test('a list longer than any', async () => {
    await start();
    hub.fault = ({ path }) => (path.includes('/tree/') ? { kind: 'json', value: 'x'.repeat(2 ** 25) } : undefined);
    await expect(downloadModel(name)).rejects.toThrow(/answers with more than 33554432 bytes, which no list/);
    expect(hub.requests.filter(({ path }) => path.includes('/tree/'))).toHaveLength(1);
  });

  test.each([
    ['the commit', 'revision', null, /does not answer as a hub does/],
    ['the commit', 'revision', {}, /names the commit undefined/],
    ['the commit', 'revision', { sha: 'main' }, /names the commit "main"/],
    ['the files', 'tree', null, /does not answer as a hub does/],
    ['the files', 'tree', {}, /does not answer as a hub does/],
    ['the commit', 'revision', { sha: 'x', more: new Array(400_000).fill([]) }, /the answer of \S+ holds more than 1000000 values/],
    ['the files', 'tree', new Array(400_000).fill({}), /the answer of \S+ holds more than 1000000 values/],
    ['the files', 'tree', [null, 1, {}], /lacks config\.json and model\.safetensors and tokenizer\.json/],
  ])('JSON that is not %s: %s %.40j', async (_, part, value, message) => {
    await start();
    hub.fault = ({ path }) => (path.includes(`/${part}/`) ? { kind: 'json', value } : undefined);
    const error = await downloadModel(name).catch((reason: unknown) => reason);
    expect((error as Error).name).toMatch(/^(InputError|FailureError)$/);
    expect((error as Error).message).toMatch(message);
  });

  test('that are no JSON', async () => {
    await start();
    hub.fault = ({ path }) => (path.includes('/revision/') ? { kind: 'status', status: 200 } : undefined);
    await expect(downloadModel(name)).rejects.toThrow(/does not answer as a hub does/);
    hub.fault = ({ path }) => (path.includes('/revision/') ? { kind: 'status', status: 204 } : undefined);
    await expect(downloadModel(name)).rejects.toThrow(/does not answer as a hub does/);
  });

  test('a list that never ends', async () => {
    await start();
    const folders = Array.from({ length: 1000 }, (_, i) => ({ type: 'directory', path: `folder-${i}`, size: 0, oid: older }));
    for (const [value, message] of [
      [[], /more than 1000 pages/],
      [folders, /more than 100000 files and folders/],
    ] as const) {
      const headers = { link: `<${hub.url}/api/models/${name}/tree/${commit}?cursor=x>; rel="next"` };
      hub.fault = ({ path }) => (path.includes('/tree/') ? { kind: 'json', value, headers } : undefined);
      await expect(downloadModel(name)).rejects.toThrow(message);
    }
  });

  test('a configuration too large to be one', async () => {
    await start();
    const value = Object.entries(files).map(([path, { length }]) => ({
      type: 'file',
      path,
      size: path === 'tokenizer.json' ? 2 ** 40 : length,
      oid: older,
    }));
    hub.fault = ({ path }) => (path.includes('/tree/') ? { kind: 'json', value } : undefined);
    await expect(downloadModel(name)).rejects.toThrow(/tokenizer\.json has 1099511627776 bytes on the hub, expected at most 268435456/);
    expect(existsSync(cache)).toBe(false);
  });

  test('of no hub at all', async () => {
    await start();
    hub.fault = ({ path }) => (path.startsWith('/api/') ? { kind: 'content', bytes: Buffer.from('') } : undefined);
    vi.stubEnv('HF_ENDPOINT', 'ftp://example.org');
    await expect(downloadModel(name)).rejects.toThrow(/the hub's address "ftp:/);
  });

  test('a commit that would lead out of the cache', async () => {
    await start({ commit: '../../../../somewhere' });
    await expect(downloadModel(name)).rejects.toThrow(/expected 40 hexadecimal digits/);
    expect(existsSync(cache)).toBe(false);
  });

  test('a listing that would lead out of the cache', async () => {
    await start({
      files: {
        ...files,
        '../config.json': Buffer.from('{}'),
        '/etc/config.json': Buffer.from('{}'),
        '1_Pooling/../../config.json': Buffer.from('{}'),
      },
    });
    const found = await downloadModel(name);
    expect(readdirSync(found)).toHaveLength(5);
    expect(blobs()).toHaveLength(5);
  });
});

describe('without the hub', () => {
  test('HF_HUB_OFFLINE asks for nothing', async () => {
    await start();
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    await expect(downloadModel(name)).rejects.toThrow(/HF_HUB_OFFLINE is set, and the cache does not hold revision main/);
    vi.stubEnv('HF_HUB_OFFLINE', '0');
    const found = await downloadModel(name);
    hub.requests.length = 0;
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    expect(await downloadModel(name)).toBe(found);
    expect(await downloadModel(name, { revision: commit })).toBe(found);
    await expect(downloadModel(name, { revision: older })).rejects.toThrow(FailureError);
    expect(hub.requests).toEqual([]);
  });

  test.each([
    ['config.json', 'without config.json'],
    ['tokenizer.json', 'without tokenizer.json'],
    ['1_Pooling/config.json', 'without 1_Pooling/config.json'],
    ['model.safetensors', 'without model.safetensors.index.json'],
  ])('a model of which another tool left out %s is not whole', async (path, lacking) => {
    await start();
    const found = await downloadModel(name);
    rmSync(join(found, path));
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    await expect(downloadModel(name)).rejects.toThrow(lacking);
    await expect(downloadModel(name, { revision: commit })).rejects.toThrow(lacking.replace('main', commit));
    vi.stubEnv('HF_HUB_OFFLINE', '');
    await downloadModel(name);
    expect(readFileSync(join(found, path)).equals(files[path])).toBe(true);
  });

  test('what the hub lacks is noted, as other tools note it', async () => {
    await start({ files: without('modules.json', '1_Pooling/config.json') });
    const found = await downloadModel(name);
    const notes = join(repository(), '.no_exist', commit);
    expect(readdirSync(notes).sort()).toEqual(lackingIn(without('modules.json')));
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    expect(await downloadModel(name)).toBe(found);
    rmSync(join(notes, 'modules.json'));
    const said: string[] = [];
    expect(await downloadModel(name, { notice: (line) => said.push(line) })).toBe(found);
    expect(said).toEqual([
      `${name}: HF_HUB_OFFLINE is set, and the cache does not tell whether the model has modules.json: it is opened without; if it is one of sentence-transformers, open it once online, or its vectors may be others`,
    ]);
    vi.stubEnv('HF_HUB_OFFLINE', '0');
    await downloadModel(name);
    expect(existsSync(join(notes, 'modules.json'))).toBe(true);
  });

  test('weights in several files are whole with each that the index names', async () => {
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    const index = Buffer.from(JSON.stringify({ weight_map: { a: shards[0], b: shards[1], c: shards[1] } }));
    const ofShards = Object.fromEntries(shards.map((shard) => [shard, randomBytes(1500)]));
    await start({ files: { ...without('model.safetensors'), ...ofShards, 'model.safetensors.index.json': index } });
    const found = await downloadModel(name);
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    expect(await downloadModel(name)).toBe(found);
    rmSync(join(found, shards[1]));
    await expect(downloadModel(name)).rejects.toThrow(/without model-00002-of-00002\.safetensors/);
  });

  test('a cache that cannot be written does, where it has everything', async () => {
    await start();
    const found = await downloadModel(name);
    // In the way of everything that would be written; root may write where permissions say no.
    rmSync(join(repository(), 'refs'), { recursive: true });
    rmSync(join(repository(), '.no_exist'), { recursive: true });
    for (const path of ['refs', '.no_exist']) writeFileSync(join(repository(), path), '');
    expect(await downloadModel(name)).toBe(found);
  });

  test('what cannot be remembered leaves nothing behind', async () => {
    await start();
    const handle = await open('package.json', 'r');
    const full = vi.spyOn(Object.getPrototypeOf(handle), 'sync').mockRejectedValue(new Error('no space left'));
    onTestFinished(() => full.mockRestore());
    await handle.close();
    await expect((await openHubCache(name, hub.url)).remember('main', commit)).rejects.toThrow('no space left');
    expect(existsSync(join(repository(), 'refs'))).toBe(false);
  });

  test('what is remembered is not written again', async () => {
    await start();
    await downloadModel(name);
    const written = () => lstatSync(join(repository(), 'refs', 'main')).ino;
    const before = written();
    await downloadModel(name);
    expect(written()).toBe(before);
  });

  test('what the cache has is used when it cannot be reached', async () => {
    await start();
    const found = await downloadModel(name);
    await hub.stop();
    expect(await downloadModel(name)).toBe(found);
    await expect(downloadModel('some-owner/other')).rejects.toThrow(/cannot be reached.*the cache does not hold/);
  });

  test.each([503, 429])('what the cache has is used, at once, when it answers %i', async (status) => {
    await start();
    const found = await downloadModel(name);
    hub.fault = () => ({ kind: 'status', status, headers: { 'retry-after': '200' } });
    hub.requests.length = 0;
    expect(await downloadModel(name)).toBe(found);
    expect(hub.requests).toHaveLength(1);
  });

  test.each([503, 429])('or says that there is none, when it answers %i', async (status) => {
    await start();
    hub.fault = () => ({ kind: 'status', status, headers: { 'retry-after': '0' } });
    const error = await downloadModel(name).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FailureError);
    expect((error as Error).message).toMatch(/\b(503|429)\b.*try again .*; the cache does not hold revision main of this model$/);
    expect(hub.requests).toHaveLength(4);
  });
});
