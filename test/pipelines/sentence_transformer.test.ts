import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { writeSafetensors } from '../../src/io/safetensors.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';

/** Figures of sentence-transformers; make_sentences.py beside them made them. */
const fixtures = new URL('../fixtures/python-tools/', import.meta.url).pathname;
interface Case {
  name: string;
  files: Record<string, unknown>;
  text: string;
  options: { prompt?: string; prompt_name?: string };
  vectors: number[][];
}
const cases: Case[] = JSON.parse(readFileSync(join(fixtures, 'sentences.json'), 'utf8'));
const backend = new ReferenceBackend();

async function write(name: string, files: Record<string, unknown>): Promise<string> {
  const folder = join(temporaryFolder(), name);
  rmSync(folder, { recursive: true, force: true });
  cpSync(join(fixtures, 'base'), folder, { recursive: true });
  chmodSync(folder, 0o755);
  for (const [path, content] of Object.entries(files)) {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    if (path.endsWith('.safetensors')) await writeSafetensors(file, tensorsOf(content as Record<string, number[] | number[][]>), {});
    else writeFileSync(file, JSON.stringify(content));
  }
  return folder;
}

function tensorsOf(lists: Record<string, number[] | number[][]>) {
  return Object.entries(lists).map(([name, list]) => {
    const shape = Array.isArray(list[0]) ? [list.length, list[0].length] : [list.length];
    return { name, dtype: 'F32' as const, shape, values: Float32Array.from(list.flat()) };
  });
}

test.each(cases)('$name', async ({ files, text, options, vectors }) => {
  const folder = await write('model', files);
  const isModel = 'config_sentence_transformers.json' in files ? !JSON.stringify(files).includes('CrossEncoder') : true;
  using embed = await pipeline('feature-extraction', folder, { backend, notice: () => {} });
  const pooling = isModel ? undefined : 'mean';
  const { dims, tolist } = await embed([text, 'a dog'], { ...options, pooling });
  expect(dims).toEqual([2, vectors[0].length]);
  expect(embed.width).toBe(vectors[0].length);
  const difference = (tolist() as number[][]).flatMap((row, i) => row.map((value, j) => Math.abs(value - vectors[i][j])));
  expect(Math.max(...difference)).toBeLessThan(2e-5);
});
