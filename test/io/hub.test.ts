import { randomBytes } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { FailureError, InputError } from '../../src/errors.ts';
import { type DownloadProgress, downloadModel } from '../../src/io/hub.ts';
import { modelFiles } from '../../src/io/model_files.ts';
import { resolveModelFolder } from '../../src/io/model_folder.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
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
  'modules.json': Buffer.from('[]'),
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
  expect(progress.at(-1)).toEqual({ status: 'progress', name, file: 'model.safetensors', loaded: 300_000, total: 300_000, progress: 100 });
  expect(ofStorage().map(({ path }) => path)).toEqual([`/${sha256(weights)}`]);
  hub.requests.length = 0;
  expect(await downloadModel(name)).toBe(found);
  expect(hub.requests.every(({ path }) => path.startsWith('/api/'))).toBe(true);
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
    expect(blobs().filter((blob) => blob.includes('.'))).toEqual([`${sha256(weights)}.incomplete`]);
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

  test('of another tool, with more than the file', async () => {
    await start();
    mkdirSync(join(repository(), 'blobs'), { recursive: true });
    writeFileSync(join(repository(), 'blobs', `${sha256(weights)}.incomplete`), Buffer.concat([weights, Buffer.from('x')]));
    const found = await downloadModel(name);
    expect(readFileSync(join(found, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test('by a process that was killed', async () => {
    await start();
    mkdirSync(join(repository(), 'blobs'), { recursive: true });
    writeFileSync(join(repository(), 'blobs', `${sha256(weights)}.incomplete`), weights.subarray(0, 200_000));
    // No process has this number: Linux counts to 2^22 at most.
    writeFileSync(join(repository(), 'blobs', `${sha256(weights)}.incomplete.lock`), String(2 ** 30));
    await downloadModel(name);
    expect(ofStorage()[0].range).toBe('bytes=200000-');
    expect(blobs().every((blob) => /^[\da-f]+$/.test(blob))).toBe(true);
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
    await expect(downloadModel(name)).rejects.toThrow(/what came is damaged: hash [\da-f]{64}, expected/);
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
  const without = (...names: string[]) => Object.fromEntries(Object.entries(files).filter(([path]) => !names.includes(path)));
  test.each([
    ['pickled weights', without('model.safetensors'), /pytorch_model\.bin, a format that can run code/],
    ['no weights', without('model.safetensors', 'pytorch_model.bin'), /lacks model\.safetensors on the hub/],
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

test('two at once download once', async () => {
  await start();
  const found = await Promise.all([downloadModel(name), downloadModel(name), downloadModel(name)]);
  expect(new Set(found).size).toBe(1);
  expect(ofStorage()).toHaveLength(1);
  expect(readFileSync(join(found[0], 'model.safetensors')).equals(weights)).toBe(true);
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
