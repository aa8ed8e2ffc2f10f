import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { homedir, hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { FailureError, InputError } from '../../src/errors.ts';
import { type DownloadProgress, downloadModel, type HubOptions } from '../../src/io/hub.ts';
import { modelFiles, sentenceFiles } from '../../src/io/model_files.ts';
import { resolveModelFolder } from '../../src/io/model_folder.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { openHubCache } from '../../src/platform/node.ts';
import { ufb } from '../cli/ufb.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { gitHash, HubServer, type Repository, sha256 } from './hub_server.ts';

const folder = temporaryFolder();
const name = 'some-owner/some_model.v1';
const commit = '0123456789abcdef0123456789abcdef01234567';
const older = 'f'.repeat(40);
const weights = randomBytes(300_000);
const files: Repository['files'] = {
  'config.json': Buffer.from('{"model_type": "bert"}'),
  'tokenizer.json': Buffer.from('{}'),
  'model.safetensors': weights,
  'modules.json': Buffer.from(
    JSON.stringify([
      { path: '', type: 'sentence_transformers.models.Transformer' },
      { path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
      { path: '2_Normalize', type: 'sentence_transformers.models.Normalize' },
    ]),
  ),
  '1_Pooling/config.json': Buffer.from('{"pooling_mode_mean_tokens": true}'),
  'README.md': Buffer.from('# A model'),
  'pytorch_model.bin': randomBytes(2000),
  'onnx/model.onnx': randomBytes(2000),
};

let count = 0;
let cache: string;
let hub: HubServer;
const blobs = () => readdirSync(join(repository(), 'blobs')).sort();
const repository = () => join(cache, 'models--some-owner--some_model.v1');
const snapshot = (path = '', revision = commit) => join(repository(), 'snapshots', revision, path);
const without = (...names: string[]) => Object.fromEntries(Object.entries(files).filter(([path]) => !names.includes(path)));
const lackingIn = (some: Repository['files']) => sentenceFiles.filter((path) => !(path in some)).sort();
const ofStorage = () => hub.requests.filter(({ host }) => host === 'storage');

async function start(changes: Partial<Repository> = {}): Promise<void> {
  hub = await HubServer.start({ [name]: { commit, files, ...changes } });
  vi.stubEnv('HF_ENDPOINT', hub.url);
}

beforeEach(() => {
  cache = join(folder, String(++count), 'hub');
  vi.stubEnv('HF_HUB_CACHE', cache);
  vi.stubEnv('HF_HOME', join(folder, String(count)));
  for (const variable of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'])
    vi.stubEnv(variable, undefined);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
});

test('a model is downloaded once, into the layout that other tools share', async () => {
  await start();
  const progress: DownloadProgress[] = [];
  const found = await downloadModel(name, { progress_callback: (report) => progress.push(report) });
  expect(found).toBe(join(repository(), 'snapshots', commit));
  expect(readdirSync(found).sort()).toEqual(['1_Pooling', 'config.json', 'model.safetensors', 'modules.json', 'tokenizer.json']);
  expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
  expect(lstatSync(join(found, 'model.safetensors')).isSymbolicLink()).toBe(true);
  expect(readlinkSync(join(found, 'model.safetensors'))).toBe(`../../blobs/${sha256(weights)}`);
  expect(readlinkSync(join(found, '1_Pooling', 'config.json'))).toBe(`../../../blobs/${gitHash(files['1_Pooling/config.json'])}`);
  expect(blobs()).toHaveLength(5);
  expect(readFileSync(join(repository(), 'refs', 'main'), 'utf8')).toBe(commit);
  expect(readdirSync(join(repository(), '.no_exist', commit))).toEqual(lackingIn(files));
  expect(progress.at(-1)).toEqual({ status: 'progress', name, file: 'model.safetensors', loaded: 300_000, total: 300_000, progress: 100 });
  expect(ofStorage().map(({ path }) => path)).toEqual([`/${sha256(weights)}`]);
  hub.requests.length = 0;
  expect(await downloadModel(name)).toBe(found);
  expect(hub.requests.map(({ path }) => path)).toEqual([`/api/models/${name}/revision/main`]);
  hub.requests.length = 0;
  expect(await downloadModel(name, { revision: commit })).toBe(found);
  expect(hub.requests).toEqual([]);
});

test('a revision is a branch, a tag or a commit', async () => {
  await start({ revisions: { 'refs/pr/1': older, v2: older } });
  for (const revision of ['v2', 'refs/pr/1']) {
    expect(await downloadModel(name, { revision })).toBe(join(repository(), 'snapshots', older));
    expect(readFileSync(join(repository(), 'refs', revision), 'utf8')).toBe(older);
  }
  expect(await downloadModel(name, { revision: commit })).toBe(join(repository(), 'snapshots', commit));
  await expect(downloadModel(name, { revision: 'v3' })).rejects.toThrow(/no revision "v3" of it/);
  for (const revision of ['../../x', '', '-x', 'a/../b', 'aaa?'])
    await expect(downloadModel(name, { revision })).rejects.toThrow(InputError);
});

describe('tokens', () => {
  test('go to the hub and not to where it leads', async () => {
    await start({ token: 'secret' });
    vi.stubEnv('HF_TOKEN', 'secret');
    await downloadModel(name);
    expect(hub.requests.filter(({ host }) => host === 'hub').every(({ authorization }) => authorization === 'Bearer secret')).toBe(true);
    expect(ofStorage()).toHaveLength(1);
    expect(ofStorage()[0].authorization).toBeUndefined();
  });

  test('are found where the login keeps them', async () => {
    await start({ token: 'kept' });
    mkdirSync(join(folder, String(count)), { recursive: true });
    writeFileSync(join(folder, String(count), 'token'), 'kept\n');
    await downloadModel(name);
  });

  test('that are missing or wrong', async () => {
    await start({ token: 'secret' });
    await expect(downloadModel(name)).rejects.toThrow(/answers 401: there is no such model, or it is not public: set HF_TOKEN/);
    await expect(downloadModel(name, { accessToken: 'other' })).rejects.toThrow(/the token given does not open it/);
    await expect(downloadModel('some-owner/unknown')).rejects.toThrow(InputError);
    await downloadModel(name, { accessToken: 'secret' });
  });
});

describe('a connection cut half way', () => {
  test('goes on where it broke off', async () => {
    await start();
    let cuts = 0;
    hub.fault = ({ host }) => (host === 'storage' && cuts++ < 2 ? { kind: 'cut', after: 100_000 } : undefined);
    const found = await downloadModel(name);
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
    const ranges = ofStorage().map(({ range }) => Number(range?.match(/\d+/)?.[0] ?? 0));
    expect(ranges[0]).toBe(0);
    expect(ranges[1]).toBeGreaterThan(0);
    expect(ranges[2]).toBeGreaterThan(ranges[1]);
  });

  test('leaves what came for the next time, and no model that is half there', async () => {
    await start();
    hub.fault = ({ host, range }) =>
      host === 'storage'
        ? range
          ? { kind: 'status', status: 503, headers: { 'retry-after': '0' } }
          : { kind: 'cut', after: 100_000 }
        : undefined;
    await expect(downloadModel(name)).rejects.toThrow(/answers 503; try again later/);
    expect(existsSync(join(repository(), 'snapshots', commit, 'model.safetensors'))).toBe(false);
    expect(existsSync(join(repository(), 'refs', 'main'))).toBe(false);
    expect(blobs().filter((blob) => blob.includes('.'))).toEqual([`${sha256(weights)}.ufb.incomplete`]);
    hub.fault = () => undefined;
    hub.requests.length = 0;
    const found = await downloadModel(name);
    expect(ofStorage()[0].range).toMatch(/^bytes=[1-9]\d*-$/);
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
    expect(blobs().every((blob) => /^[\da-f]+$/.test(blob))).toBe(true);
  });

  test('starts anew where ranges are not answered', async () => {
    await start();
    let first = true;
    hub.fault = ({ host }) => {
      if (host !== 'storage') return undefined;
      if (!first) return { kind: 'no ranges' };
      first = false;
      return { kind: 'cut', after: 100_000 };
    };
    const found = await downloadModel(name);
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test('with more than the file', async () => {
    await start();
    mkdirSync(join(repository(), 'blobs'), { recursive: true });
    writeFileSync(join(repository(), 'blobs', `${sha256(weights)}.ufb.incomplete`), Buffer.concat([weights, Buffer.from('x')]));
    const found = await downloadModel(name);
    expect(ofStorage()).toHaveLength(1);
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test('of another tool is left to it', async () => {
    await start();
    const theirs = join(repository(), 'blobs', `${sha256(weights)}.incomplete`);
    mkdirSync(dirname(theirs), { recursive: true });
    writeFileSync(theirs, weights.subarray(0, 200_000));
    const found = await downloadModel(name);
    expect(ofStorage()[0].range).toBeUndefined();
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
    expect(readFileSync(theirs)).toHaveLength(200_000);
  });
});

describe('the lock of a download', () => {
  const part = () => join(repository(), 'blobs', `${sha256(weights)}.ufb.incomplete`);
  const lock = () => `${part()}.lock`;
  const anHourAgo = Date.now() / 1000 - 3600;
  const leave = (holder: string) => {
    mkdirSync(dirname(part()), { recursive: true });
    writeFileSync(part(), weights.subarray(0, 200_000));
    writeFileSync(lock(), holder);
  };

  test.each([
    ['that was made and not yet written', ''],
    ['of a process that always runs', `1 ${hostname()} x`],
    ['of another machine', '1 elsewhere x'],
    ['that says nothing we know', 'x'],
  ])('%s does not hold when nobody has touched it for long', async (_, holder) => {
    await start();
    leave(holder);
    utimesSync(lock(), anHourAgo, anHourAgo);
    const found = await Promise.all([downloadModel(name), downloadModel(name)]);
    expect(ofStorage().map(({ range }) => range)).toEqual(['bytes=200000-']);
    expect(readFileSync(join(found[0], 'model.safetensors')).equals(weights)).toBe(true);
    expect(blobs().every((blob) => /^[\da-f]+$/.test(blob))).toBe(true);
  });

  test('of a process that was killed does not hold', async () => {
    await start();
    // No process has this number: Linux counts to 2^22 at most.
    leave(`${2 ** 30} ${hostname()} x`);
    await downloadModel(name);
    expect(ofStorage()[0].range).toBe('bytes=200000-');
    expect(blobs().every((blob) => /^[\da-f]+$/.test(blob))).toBe(true);
  });

  test('of others is waited for, until it goes or grows old', async () => {
    await start();
    for (const end of [() => rmSync(lock()), () => utimesSync(lock(), anHourAgo, anHourAgo)]) {
      hub.requests.length = 0;
      rmSync(repository(), { recursive: true, force: true });
      leave('1 elsewhere x');
      const download = downloadModel(name);
      await vi.waitFor(() => expect(existsSync(snapshot('1_Pooling/config.json'))).toBe(true), { timeout: 60_000 });
      expect(ofStorage()).toEqual([]);
      end();
      await download;
      expect(ofStorage()).toHaveLength(1);
    }
  });

  test('that somebody else took meanwhile stays theirs', async () => {
    await start();
    let touched = 0;
    hub.fault = ({ host }) => {
      if (host === 'storage') {
        writeFileSync(lock(), 'theirs');
        touched = lstatSync(lock()).mtimeMs;
      }
      return undefined;
    };
    await downloadModel(name);
    expect(readFileSync(lock(), 'utf8')).toBe('theirs');
    expect(lstatSync(lock()).mtimeMs).toBe(touched);
  });
});

describe('wrong content', () => {
  const wrong = Buffer.from(weights);
  wrong[1234] ^= 1;

  test('once is fetched again', async () => {
    await start();
    let first = true;
    hub.fault = ({ host }) => {
      if (host !== 'storage' || !first) return undefined;
      first = false;
      return { kind: 'content', bytes: wrong };
    };
    const found = await downloadModel(name);
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test.each([
    ['another byte', wrong],
    ['too long', Buffer.concat([weights, wrong])],
  ])('always: %s is never kept', async (_, bytes) => {
    await start();
    hub.fault = ({ host }) => (host === 'storage' ? { kind: 'content', bytes } : undefined);
    await expect(downloadModel(name)).rejects.toThrow(/what came is damaged: (hash [\da-f]{64}, expected|more than 300000 bytes)/);
    expect(existsSync(join(repository(), 'snapshots', commit, 'model.safetensors'))).toBe(false);
    expect(blobs().some((blob) => blob.startsWith(sha256(weights)))).toBe(false);
  });

  test('of a small file', async () => {
    await start();
    hub.fault = ({ path }) =>
      path.endsWith('/config.json') ? { kind: 'content', bytes: Buffer.from('{"model_type": "evil"}') } : undefined;
    await expect(downloadModel(name)).rejects.toThrow(FailureError);
    expect(blobs()).toEqual([]);
  });
});

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

  test.each([
    ['the commit', 'revision', null, /does not answer as a hub does/],
    ['the commit', 'revision', {}, /names the commit undefined/],
    ['the commit', 'revision', { sha: 'main' }, /names the commit "main"/],
    ['the files', 'tree', null, /does not answer as a hub does/],
    ['the files', 'tree', {}, /does not answer as a hub does/],
    ['the files', 'tree', [null, 1, {}], /lacks config\.json and model\.safetensors and tokenizer\.json/],
  ])('JSON that is not %s: %s %j', async (_, part, value, message) => {
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

describe('models that cannot be opened are not downloaded', () => {
  test.each([
    ['pickled weights', without('model.safetensors'), /pytorch_model\.bin, a format that can run code/],
    ['no weights', without('model.safetensors', 'pytorch_model.bin', 'onnx/model.onnx'), /lacks model\.safetensors on the hub/],
    [
      'ONNX graphs alone',
      without('model.safetensors', 'pytorch_model.bin'),
      /for transformers\.js, and lacks model\.safetensors; name the repository of the original model/,
    ],
    ['no tokenizer', without('tokenizer.json'), /lacks tokenizer\.json on the hub/],
  ])('%s', async (_, some, message) => {
    await start({ files: some });
    await expect(downloadModel(name)).rejects.toThrow(message);
    expect(hub.requests.every(({ path }) => path.startsWith('/api/'))).toBe(true);
    expect(existsSync(cache)).toBe(false);
  });

  test('but weights in several files are', async () => {
    const shards = { 'model-00001-of-00002.safetensors': randomBytes(1500), 'model-00002-of-00002.safetensors': randomBytes(1500) };
    await start({ files: { ...without('model.safetensors'), ...shards, 'model.safetensors.index.json': Buffer.from('{}') } });
    const found = await downloadModel(name);
    for (const [shard, bytes] of Object.entries(shards)) expect(readFileSync(join(found, shard)).equals(bytes)).toBe(true);
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
    ['config.json', 'the cache does not hold revision main'],
    ['tokenizer.json', 'without tokenizer.json'],
    ['modules.json', 'without modules.json'],
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
    await expect(downloadModel(name)).rejects.toThrow(/without modules\.json: open it once online, which completes it$/);
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
      await expect(pipeline('fill-mask', model, { backend: 'reference', signal: controller.signal })).rejects.toBe(reason);
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

describe('the environment', () => {
  test('a ~ is the home folder', async () => {
    await start();
    for (const [variable, rest] of [
      ['HF_HUB_CACHE', ''],
      ['HF_HOME', 'hub/'],
    ]) {
      vi.stubEnv('HF_HUB_CACHE', undefined);
      vi.stubEnv(variable, '~/of-models');
      const expected = join(homedir(), 'of-models', rest, 'models--some-owner--some_model.v1');
      expect(dirname(dirname((await openHubCache(name, '')).folder(commit)))).toBe(expected);
    }
    vi.stubEnv('HF_HUB_CACHE', 'a~b');
    expect((await openHubCache(name, '')).folder(commit)).toMatch(/^a~b/);
  });

  test('what is set to nothing hides nothing', async () => {
    await start({ token: 'kept' });
    mkdirSync(join(folder, String(count)), { recursive: true });
    writeFileSync(join(folder, String(count), 'token'), 'kept\n');
    for (const variable of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE']) vi.stubEnv(variable, '');
    await downloadModel(name);
    vi.stubEnv('TRANSFORMERS_OFFLINE', '1');
    await expect(downloadModel('some-owner/other')).rejects.toThrow(/OFFLINE is set/);
  });

  test('a cache that cannot be', async () => {
    await start();
    writeFileSync(join(folder, 'a-file'), '');
    for (const place of ['/proc/nope', join(folder, 'a-file')]) {
      vi.stubEnv('HF_HUB_CACHE', place);
      const error = await downloadModel(name).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(InputError);
      expect((error as Error).message).toMatch(/: cannot write: .*; the variable HF_HUB_CACHE names another folder/);
      expect((error as Error).message).toContain(place);
    }
  });
});

test('links: a good one is left, a broken one replaced', async () => {
  await start();
  const found = join(await downloadModel(name), 'config.json');
  const hubCache = await openHubCache(name, hub.url);
  const bytes = files['config.json'];
  const add = () =>
    hubCache.add(commit, { path: 'config.json', size: bytes.length, gitHash: gitHash(bytes) }, async () => {
      throw new Error('is there');
    });
  const { ino } = lstatSync(found);
  await add();
  expect(lstatSync(found).ino).toBe(ino);
  rmSync(found);
  symlinkSync('../../blobs/nothing', found);
  await add();
  expect(readFileSync(found).equals(bytes)).toBe(true);
  expect(readdirSync(dirname(found))).toHaveLength(5);
});

test('two at once download once', async () => {
  await start();
  const found = await Promise.all([downloadModel(name), downloadModel(name), downloadModel(name)]);
  expect(new Set(found).size).toBe(1);
  expect(ofStorage()).toHaveLength(1);
  expect(readFileSync(join(found[0], 'model.safetensors')).equals(weights)).toBe(true);
});

test('who cannot be given a model by its name hears that there is no such folder either', async () => {
  await start();
  const here = /^some-owner\/unknown: .*no such folder here, /;
  await expect(downloadModel('some-owner/unknown')).rejects.toThrow(here); // 401
  for (const status of [403, 404, 418, 429, 503]) {
    hub.fault = () => ({ kind: 'status', status, headers: { 'retry-after': '0' } });
    await expect(downloadModel('some-owner/unknown')).rejects.toThrow(here);
  }
  await hub.stop();
  await expect(downloadModel('some-owner/unknown')).rejects.toThrow(here);
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  await expect(downloadModel('some-owner/unknown')).rejects.toThrow(here);
});

test('folders are never asked of the hub, and come before it', async () => {
  await start();
  await expect(resolveModelFolder(`./${name}`)).rejects.toThrow(/no such folder/);
  await expect(resolveModelFolder(join(folder, 'nowhere'))).rejects.toThrow(/no such folder/);
  await expect(resolveModelFolder('a/b/c')).rejects.toThrow(/no such folder/);
  await expect(resolveModelFolder('test/io')).rejects.toThrow(/lacks config\.json/);
  await expect(resolveModelFolder(undefined, { revision: 'main' })).rejects.toThrow(/has no revision "main"/);
  expect(hub.requests).toEqual([]);
});

test('the program opens a model by its name, and says in one line why not', async () => {
  const model = join(folder, 'for-the-program');
  await writeTinyModel(model);
  await start({ files: Object.fromEntries(modelFiles.map((path) => [path, readFileSync(join(model, path))])) });
  const inspect = (...args: string[]) => ufb(['inspect', '--json', '--model', ...args]);
  const found = await inspect(name, '--revision', commit);
  expect(found.stderr).toBe('');
  expect(JSON.parse(found.stdout).parameters).toBe(JSON.parse((await inspect(model)).stdout).parameters);
  const unknown = await inspect('some-owner/unknown');
  expect(unknown.code).toBe(2);
  expect(unknown.stderr).toMatch(/^ufb: some-owner\/unknown: .*set HF_TOKEN.*\n$/);
  vi.stubEnv('HF_HUB_CACHE', '/proc/nope');
  const nowhere = await inspect(name);
  expect(nowhere.code).toBe(2);
  expect(nowhere.stderr).toMatch(/^ufb: \/proc\/nope: cannot write: .*HF_HUB_CACHE.*\n$/);
});

test('a pipeline opens a model by its name', async () => {
  const model = join(folder, 'tiny');
  await writeTinyModel(model);
  const tiny = Object.fromEntries(modelFiles.map((path) => [path, readFileSync(join(model, path))]));
  await start({ files: tiny });
  using fill = await pipeline('fill-mask', name, { backend: 'reference' });
  using expected = await pipeline('fill-mask', model, { backend: 'reference' });
  expect(await fill('The cat sees [MASK].')).toEqual(await expected('The cat sees [MASK].'));
  expect(realpathSync(join(repository(), 'snapshots', commit, 'config.json'))).toContain('blobs');
});
