/** What browsers may lack or refuse, with Node's own Blob and Response; test/browser has the rest, in one. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { FailureError } from '../../src/errors.ts';
import { keptResponse, openHubCache, WrongContentError } from '../../src/platform/browser_hub.ts';
import { gitHash } from '../io/hub_server.ts';

const commit = '0123456789abcdef0123456789abcdef01234567';
const bytes = Buffer.from('{"model_type": "bert"}');
const file = { path: 'config.json', size: bytes.length, gitHash: gitHash(bytes) };
const sending = (...blocks: Uint8Array[]) =>
  vi.fn(async () => ({
    offset: 0,
    blocks: (async function* () {
      yield* blocks;
    })(),
  }));
/** Each test has a model of its own, for what a page keeps it keeps. */
let model = 0;
const open = () => openHubCache(`some-owner/model-${model}`, 'https://hub.example');

beforeEach(() => void model++);
afterEach(() => void vi.unstubAllGlobals());

const full = {
  open: async () => ({
    match: async () => undefined,
    put: () => Promise.reject(new DOMException('Quota exceeded.', 'QuotaExceededError')),
  }),
};
describe.each([
  ['without caches', undefined],
  ['that may not open one', { open: () => Promise.reject(new DOMException('The operation is insecure.', 'SecurityError')) }],
  ['without room', full],
])('a page %s', (_, caches) => {
  beforeEach(() => {
    vi.stubGlobal('caches', caches);
    // What may keep nothing may have no locks either.
    vi.stubGlobal(
      'navigator',
      caches === full ? { locks: { request: (_name: string, _options: object, work: () => unknown) => work() } } : {},
    );
  });

  test('keeps itself what it has checked, and asks for it once', async () => {
    const cache = await open();
    const download = sending(bytes.subarray(0, 5), bytes.subarray(5));
    for (let time = 0; time < 2; time++) await cache.add(commit, file, download);
    expect(download).toHaveBeenCalledOnce();
    expect(await cache.has(commit, file.path)).toBe(true);
    for (let time = 0; time < 2; time++) {
      const kept = await keptResponse(`${cache.folder(commit)}/${file.path}`);
      expect(Buffer.from((await kept?.arrayBuffer()) as ArrayBuffer).equals(bytes)).toBe(true);
    }
    await cache.remember('main', commit);
    await cache.addMissing(commit, 'modules.json');
    const again = await open();
    expect(await again.commitOf('main')).toBe(commit);
    expect([await again.has(commit, 'modules.json'), await again.lacks(commit, 'modules.json')]).toEqual([false, true]);
  });

  test('keeps nothing that is wrong', async () => {
    const cache = await open();
    await expect(cache.add(commit, file, sending(bytes.map((byte) => byte ^ 1)))).rejects.toThrow(WrongContentError);
    expect(await cache.has(commit, file.path)).toBe(false);
    expect(await keptResponse(`${cache.folder(commit)}/${file.path}`)).toBeUndefined();
  });
});

test('a page that cannot check is refused before it asks for anything', async () => {
  vi.stubGlobal('crypto', {});
  await expect(open()).rejects.toThrow(FailureError);
  await expect(open()).rejects.toThrow(/cannot check the hashes .* came over HTTPS or from localhost/);
});
