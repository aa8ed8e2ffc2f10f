/** The packed package, built into a page by Vite, in headless Chromium. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build, type Plugin } from 'vite';
import { beforeAll, describe, expect, test } from 'vitest';
import { type FillMaskCandidate, pipeline } from '../../src/index.ts';
import { modelFiles } from '../../src/io/model_files.ts';
import { operationCases } from '../backend/operation-cases.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { findChromium, visit } from './chromium.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const pages = join(root, 'test', 'browser', 'pages');
const folder = temporaryFolder();
const chromium = findChromium();
const skipped = chromium ? '' : ' (skipped: no Chromium found; install one or name it in UFB_CHROMIUM)';

interface PackageReport {
  isolated: boolean;
  description: string;
  answers: Record<string, FillMaskCandidate[][]>;
  grown: boolean[];
  errors: Record<string, string>;
}

/** The built page's folder. */
async function buildPage(name: string, source: string, plugins: Plugin[] = []): Promise<string> {
  const outDir = join(folder, name);
  await build({
    root: source,
    configFile: false,
    logLevel: 'warn',
    plugins,
    build: { outDir, emptyOutDir: true, target: 'es2022', rollupOptions: { input: join(source, `${name}.html`) } },
    worker: { format: 'es' },
  });
  return outDir;
}

let packagePage: string;
beforeAll(async () => {
  // As an installation leaves it, without the packages that the command line uses: pages need none of them.
  const site = join(folder, 'site');
  mkdirSync(join(site, 'node_modules', 'ultrafastbert'), { recursive: true });
  const packed = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const tarball = join(folder, JSON.parse(packed)[0].filename);
  execFileSync('tar', ['-xzf', tarball, '-C', join(site, 'node_modules', 'ultrafastbert'), '--strip-components=1']);
  for (const name of ['package.html', 'package.js', 'report.js']) writeFileSync(join(site, name), readFileSync(join(pages, name)));
  packagePage = await buildPage('package', site);
});

test('code and all of WASM together are at most 500 kB gzipped, and hold no eval', () => {
  const assets = join(packagePage, 'assets');
  const names = readdirSync(assets);
  expect(names.filter((name) => name.endsWith('.wasm'))).toHaveLength(4);
  const gzipped = names.reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name))).length, 0);
  expect(gzipped).toBeLessThanOrEqual(500_000);
  for (const name of names.filter((name) => name.endsWith('.js'))) {
    const code = readFileSync(join(assets, name), 'utf8');
    expect(code).not.toMatch(/\beval\(|new Function\(|node:|__vite-browser-external/);
  }
});

/** Sources run as they lie; what is built comes from dist. */
const builtFiles: Plugin = {
  name: 'built files',
  enforce: 'pre',
  transform: (code, id) =>
    id.endsWith('src/platform/browser.ts')
      ? code.replaceAll("'./ufb-", "'../../dist/ufb-").replace('./wasm_worker.js', '../backend/wasm_worker.js')
      : undefined,
};

describe.skipIf(!chromium)(`in Chromium${skipped}`, () => {
  const model = join(folder, 'model');
  const html = join(folder, 'html');
  let operationsPage: string;
  beforeAll(async () => {
    await writeTinyModel(model);
    // Servers of single-page applications answer every address with the same page.
    mkdirSync(html);
    for (const name of modelFiles) writeFileSync(join(html, name), '<!doctype html>');
    operationsPage = await buildPage('operations', pages, [builtFiles]);
  });

  describe.each([true, false])('cross-origin isolated: %s', (isolated) => {
    const options = (page: string, name: string) => ({
      folders: { '/model/': model, '/html/': html, '/': page },
      isolated,
      profile: join(folder, `profile-${name}-${isolated}`),
    });

    test('a page fills masks as Node does, and hears what is wrong', async () => {
      const result = (await visit(chromium as string, '/package.html', options(packagePage, 'package'))) as PackageReport;
      expect(result.isolated).toBe(isolated);
      expect(result.description).toMatch(isolated ? /^WASM with relaxed SIMD, \d+ threads?$/ : 'WASM with relaxed SIMD, 1 thread');
      for (const [name, dtype, backend] of [
        ['f32', 'f32', 'wasm'],
        ['i8', 'i8', 'wasm'],
        ['reference', 'f32', 'reference'],
      ] as const) {
        using fill = await pipeline('fill-mask', model, { dtype, backend });
        const expected = (await fill(['The cat sees [MASK].', 'My [MASK] carries the letter.'], { top_k: 3 })).flat();
        const found = result.answers[name].flat();
        expect(found.map(({ sequence }) => sequence)).toEqual(expected.map(({ sequence }) => sequence));
        for (const [i, { score }] of found.entries()) expect(score).toBeCloseTo(expected[i].score, 6);
      }
      expect(result.grown).toEqual(Array(8).fill(true));
      expect(result.errors).toEqual({
        missing: 'InputError: /nowhere/tokenizer.json: cannot read: no such file or folder',
        unnamed: expect.stringMatching(/^InputError: name a model: /),
        waiting: expect.stringMatching(/^FailureError: readNow: .*await read/),
        html: expect.stringMatching(/^InputError: \/html\/tokenizer\.json: is not valid JSON/),
      });
    });

    test('every operation case agrees with the reference', async () => {
      const result = await visit(chromium as string, '/operations.html', options(operationsPage, 'operations'));
      const threads = isolated ? '-threads' : '';
      const all = { cases: operationCases.length, wrong: [] };
      expect(result).toEqual({ [`ufb-relaxed${threads}`]: all, [`ufb-simd${threads}`]: all });
    });
  });
});
