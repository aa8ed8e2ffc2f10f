/** A hub of one model for tests, and a cache of its own for each. */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, vi } from 'vitest';
import { sentenceFiles, tokenizerFiles } from '../../src/io/model_files.ts';
import { temporaryFolder } from '../temporary.ts';
import { HubServer, type Repository } from './hub_server.ts';

export const folder = temporaryFolder();
export const name = 'some-owner/some_model.v1';
export const commit = '0123456789abcdef0123456789abcdef01234567';
export const older = 'f'.repeat(40);
export const weights = randomBytes(300_000);
export const files: Repository['files'] = {
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
/** What HF_HOME says. */
export let home: string;
export let cache: string;
export let hub: HubServer;
export const blobs = () => readdirSync(join(repository(), 'blobs')).sort();
export const repository = () => join(cache, 'models--some-owner--some_model.v1');
export const snapshot = (path = '', revision = commit) => join(repository(), 'snapshots', revision, path);
export const without = (...names: string[]) => Object.fromEntries(Object.entries(files).filter(([path]) => !names.includes(path)));
export const lackingIn = (some: Repository['files']) => [...tokenizerFiles, ...sentenceFiles].filter((path) => !(path in some)).sort();
export const ofStorage = () => hub.requests.filter(({ host }) => host === 'storage');

export async function start(changes: Partial<Repository> = {}): Promise<void> {
  hub = await HubServer.start({ [name]: { commit, files, ...changes } });
  vi.stubEnv('HF_ENDPOINT', hub.url);
}

/** To be called once by a file of tests. */
export function useHub(): void {
  beforeEach(() => {
    home = join(folder, String(++count));
    cache = join(home, 'hub');
    vi.stubEnv('HF_HUB_CACHE', cache);
    vi.stubEnv('HF_HOME', home);
    for (const variable of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'])
      vi.stubEnv(variable, undefined);
  });

  afterEach(async () => {
    vi.unstubAllEnvs();
    await hub.stop();
  });
}
