import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { type DownloadProgress, downloadModel } from '../../src/io/hub.ts';
import { modelFiles } from '../../src/io/model_files.ts';
import { resolveModelFolder } from '../../src/io/model_folder.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { openHubCache } from '../../src/platform/node.ts';
import { ufb } from '../cli/ufb.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { gitHash, sha256 } from './hub_server.ts';
import {
  blobs,
  cache,
  commit,
  files,
  folder,
  home,
  hub,
  lackingIn,
  name,
  ofStorage,
  older,
  repository,
  start,
  useHub,
  weights,
  without,
} from './hub_setup.ts';

useHub();

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
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, 'token'), 'kept\n');
    await downloadModel(name);
  });

  test('that none can be are not printed', async () => {
    await start();
    for (const token of ['sec\nret', 'sec ret', 'sécret']) {
      const error = await downloadModel(name, { accessToken: token }).catch((reason) => reason);
      expect(error).toBeInstanceOf(InputError);
      expect(error.message).toMatch(/^the hub's token .* has characters that none has/);
      expect(error.message).not.toContain('ret');
    }
    expect(hub.requests).toEqual([]);
  });

  test('that are missing or wrong', async () => {
    await start({ token: 'secret' });
    await expect(downloadModel(name)).rejects.toThrow(/answers 401: there is no such model, or it is not public: set HF_TOKEN/);
    await expect(downloadModel(name, { accessToken: 'other' })).rejects.toThrow(/the token given does not open it/);
    await expect(downloadModel('some-owner/unknown')).rejects.toThrow(InputError);
    await downloadModel(name, { accessToken: 'secret' });
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
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, 'token'), 'kept\n');
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
  using fill = await pipeline('fill-mask', name, { device: 'reference' });
  using expected = await pipeline('fill-mask', model, { device: 'reference' });
  expect(await fill('The cat sees [MASK].')).toEqual(await expected('The cat sees [MASK].'));
  expect(realpathSync(join(repository(), 'snapshots', commit, 'config.json'))).toContain('blobs');
});
