import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { FailureError } from '../../src/errors.ts';
import { downloadModel } from '../../src/io/hub.ts';
import { sha256 } from './hub_server.ts';
import { blobs, commit, files, hub, name, ofStorage, repository, snapshot, start, useHub, weights, without } from './hub_setup.ts';

useHub();

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
    let rowMask = 0;
    hub.fault = ({ host }) => {
      if (host === 'storage') {
        writeFileSync(lock(), 'theirs');
        rowMask = lstatSync(lock()).mtimeMs;
      }
      return undefined;
    };
    await downloadModel(name);
    expect(readFileSync(lock(), 'utf8')).toBe('theirs');
    expect(lstatSync(lock()).mtimeMs).toBe(rowMask);
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

test('modules behind the pooling come with their weights, a vocabulary where there is no tokenizer.json', async () => {
  const modules = [
    ...JSON.parse(String(files['modules.json'])),
    { path: '3_Dense', type: 'sentence_transformers.models.Dense' },
    { path: '4_LayerNorm', type: 'sentence_transformers.models.LayerNorm' },
  ];
  const more = {
    'modules.json': Buffer.from(JSON.stringify(modules)),
    '3_Dense/config.json': Buffer.from('{"in_features": 4, "out_features": 2}'),
    '3_Dense/model.safetensors': Buffer.from('dense'),
    '3_Dense/pytorch_model.bin': Buffer.from('pickled'),
    '4_LayerNorm/config.json': Buffer.from('{"dimension": 2}'),
    '4_LayerNorm/model.safetensors': Buffer.from('norm'),
    'vocab.txt': Buffer.from('[PAD]\n'),
  };
  await start({ files: { ...without('tokenizer.json'), ...more } });
  const found = await downloadModel(name);
  for (const path of Object.keys(more).filter((path) => !path.endsWith('.bin')))
    expect(readFileSync(join(found, path)).equals(more[path as keyof typeof more]), path).toBe(true);
  expect(existsSync(join(found, '3_Dense', 'pytorch_model.bin'))).toBe(false);
  expect(existsSync(join(found, 'tokenizer.json'))).toBe(false);
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  expect(await downloadModel(name)).toBe(found);
  rmSync(join(found, '3_Dense', 'model.safetensors'));
  await expect(downloadModel(name)).rejects.toThrow('without 3_Dense/model.safetensors: open it once online');
});

test('a Transformer in a folder of its own, and modules of any name, come with what they need', async () => {
  const type = (name: string) => `sentence_transformers.models.${name}`;
  const list = [
    { path: '0_Transformer', type: type('Transformer') },
    { path: 'my modules/pooling', type: type('Pooling') },
    { path: 'dense', type: type('Dense') },
  ];
  const own = Object.fromEntries(
    ['config.json', 'tokenizer.json', 'model.safetensors'].map((path) => [`0_Transformer/${path}`, files[path]]),
  );
  const more = {
    'modules.json': Buffer.from(JSON.stringify(list)),
    '0_Transformer/sentence_roberta_config.json': Buffer.from('{"max_seq_length": 9}'),
    'my modules/pooling/config.json': Buffer.from('{"pooling_mode": "mean"}'),
    'dense/config.json': Buffer.from('{}'),
    'dense/model.safetensors': Buffer.from('x'),
  };
  await start({ files: { ...own, ...more, 'other/config.json': Buffer.from('{}') } });
  const found = await downloadModel(name);
  const come = readdirSync(found, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [] : [join(entry.parentPath, entry.name).slice(found.length + 1)],
  );
  expect(come.sort()).toEqual([...Object.keys(own), ...Object.keys(more)].sort());
  // What came is enough without the hub, and no less of it.
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  expect(await downloadModel(name)).toBe(found);
  rmSync(join(found, '0_Transformer/model.safetensors'));
  await expect(downloadModel(name)).rejects.toThrow('without 0_Transformer/model.safetensors');
});
