import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';

afterEach(() => vi.unstubAllEnvs());

/** A cache as huggingface_hub leaves it behind transformers: what that read, and no word on what the model lacks. */
function writeCache(): string {
  const cache = join(temporaryFolder(), 'hub');
  const commit = '0123456789abcdef0123456789abcdef01234567';
  const repository = join(cache, 'models--acme--tiny');
  rmSync(cache, { recursive: true, force: true });
  cpSync(new URL('../fixtures/python-tools/base', import.meta.url).pathname, join(repository, 'snapshots', commit), { recursive: true });
  mkdirSync(join(repository, 'refs'));
  writeFileSync(join(repository, 'refs', 'main'), commit);
  vi.stubEnv('HF_HUB_CACHE', cache);
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  return join(repository, 'snapshots', commit);
}

test('a whole snapshot is opened, and said what is not known of it', async () => {
  writeCache();
  const said: string[] = [];
  const open = { device: new ReferenceDevice(), notice: (line: string) => said.push(line) };
  using fill = await pipeline('fill-mask', 'acme/tiny', open);
  const [best] = await fill('the cat sat on the [MASK] in paris .');
  expect(best.token).toBe(39);
  using embed = await pipeline('feature-extraction', 'acme/tiny', open);
  expect((await embed('the cat', { pooling: 'mean' })).dims).toEqual([1, 32]);
  expect(said).toHaveLength(2);
  for (const line of said)
    expect(line).toMatch(
      /^acme\/tiny: HF_HUB_OFFLINE is set, and the cache does not tell whether the model has special_tokens_map\.json, added_tokens\.json, modules\.json/,
    );
});

test.each(['config.json', 'tokenizer.json', 'model.safetensors'])(
  'one without %s is refused, and opened again when it is back',
  async (file) => {
    const snapshot = writeCache();
    const content = readFileSync(join(snapshot, file));
    rmSync(join(snapshot, file));
    const open = { device: new ReferenceDevice(), notice: () => {} };
    await expect(pipeline('fill-mask', 'acme/tiny', open)).rejects.toThrow(
      /HF_HUB_OFFLINE is set, and the cache (does not hold|holds) revision main/,
    );
    writeFileSync(join(snapshot, file), content);
    await (await pipeline('fill-mask', 'acme/tiny', open)).dispose();
  },
);
