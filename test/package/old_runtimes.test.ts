/** Runtimes that lack what the sources use: Safari and the first releases of Node 20 have no Symbol.dispose. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileFunction } from 'node:vm';
import { expect, test } from 'vitest';
import type * as Package from '../../src/index.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

/** Runs a CommonJS module with its own chunks, all of them with `symbol` in place of Symbol. */
function load(path: string, symbol: unknown, loaded = new Map<string, { exports: unknown }>()): unknown {
  const known = loaded.get(path);
  if (known) return known.exports;
  const module = { exports: {} as unknown };
  loaded.set(path, module);
  const names = ['exports', 'require', 'module', '__filename', '__dirname', 'Symbol'];
  const original = createRequire(path);
  const require = (name: string) => (name.startsWith('.') ? load(join(dirname(path), name), symbol, loaded) : original(name));
  compileFunction(readFileSync(path, 'utf8'), names, { filename: path })(module.exports, require, module, path, dirname(path), symbol);
  return module.exports;
}

test('a model opens and answers without Symbol.dispose', async () => {
  const known = Object.getOwnPropertyNames(Symbol).filter((name) => !['dispose', 'asyncDispose', 'prototype', 'length'].includes(name));
  const old = Object.defineProperties(
    (description: string) => Symbol(description),
    Object.fromEntries(known.map((name) => [name, Object.getOwnPropertyDescriptor(Symbol, name) as PropertyDescriptor])),
  );
  expect(old).not.toHaveProperty('dispose');
  const { pipeline } = load(fileURLToPath(new URL('../../dist/index.cjs', import.meta.url)), old) as typeof Package;
  const model = temporaryFolder();
  await writeTinyModel(model);
  const fill = await pipeline('fill-mask', model, { device: 'reference' });
  expect(await fill('the cat sees [MASK]')).toHaveLength(5);
  await fill.dispose();
});
