/** The packed package, built into a page by Vite, in headless Chromium. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build, type Plugin } from 'vite';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type FillMaskCandidate, pipeline } from '../../src/index.ts';
import type { DownloadProgress } from '../../src/io/hub.ts';
import { modelFiles } from '../../src/io/model_files.ts';
import { operationCases } from '../backend/operation_cases.ts';
import { type Fault, HubServer, type Repository, sha256 } from '../io/hub_server.ts';
import { temporaryFolder } from '../temporary.ts';
import { copyInShards, writeTinyModel } from '../tiny_model.ts';
import { findChromium, type OpenPage, openPage, visit } from './chromium.ts';

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

/** What the page of hub.js is told to do, and what it tells. */
interface HubOrder {
  options?: { revision?: string; accessToken?: string };
  times?: number;
  refuse?: 'open' | 'put' | 'subtle';
}
interface HubReport {
  isolated: boolean;
  answers?: FillMaskCandidate[][];
  error?: string;
  last?: DownloadProgress;
  /** Addresses. */
  kept: string[];
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
let hubPage: string;
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
  for (const name of ['package.html', 'package.js', 'hub.html', 'hub.js', 'report.js'])
    writeFileSync(join(site, name), readFileSync(join(pages, name)));
  packagePage = await buildPage('package', site);
  hubPage = await buildPage('hub', site);
});

test('code, shaders and all of WASM together are at most 550 kB gzipped, and hold no eval', () => {
  const assets = join(packagePage, 'assets');
  const names = readdirSync(assets);
  expect(names.filter((name) => name.endsWith('.wasm'))).toHaveLength(4);
  const gzipped = names.reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name))).length, 0);
  expect(gzipped).toBeLessThanOrEqual(550_000);
  for (const name of names.filter((name) => name.endsWith('.js'))) {
    const code = readFileSync(join(assets, name), 'utf8');
    expect(code).not.toMatch(/\beval\(|new Function\(|["'`]node:|__vite-browser-external/);
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
  const sharded = join(folder, 'sharded');
  const sentence = 'The cat sees [MASK].';
  let filled: FillMaskCandidate[];
  let operationsPage: string;
  beforeAll(async () => {
    await writeTinyModel(model);
    await copyInShards(model, sharded);
    using fill = await pipeline('fill-mask', model, { device: 'wasm' });
    filled = await fill(sentence);
    // Servers of single-page applications answer every address with the same page.
    mkdirSync(html);
    for (const name of modelFiles) writeFileSync(join(html, name), '<!doctype html>');
    operationsPage = await buildPage('operations', pages, [builtFiles]);
  });

  const filesOf = (folder: string) => Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
  const expectAnswers = ({ answers, error }: HubReport, count = 1) => {
    expect(error).toBeUndefined();
    expect(answers).toHaveLength(count);
    for (const answer of answers as FillMaskCandidate[][]) {
      expect(answer.map(({ sequence }) => sequence)).toEqual(filled.map(({ sequence }) => sequence));
      for (const [i, { score }] of answer.entries()) expect(score).toBeCloseTo(filled[i].score, 6);
    }
  };

  describe.each([true, false])('cross-origin isolated: %s', (isolated) => {
    const options = (page: string, name: string) => ({
      folders: { '/model/': model, '/models/tiny-v1.5/': model, '/html/': html, '/': page },
      isolated,
      profile: join(folder, `profile-${name}-${isolated}`),
    });

    test.runIf(isolated)('a page fills masks on WebGPU', async () => {
      const flags = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
      const result = (await visit(chromium as string, '/package.html', { ...options(packagePage, 'webgpu'), flags })) as PackageReport;
      using fill = await pipeline('fill-mask', model, { device: 'reference' });
      const expected = (await fill(['The cat sees [MASK].', 'My [MASK] carries the letter.'], { top_k: 3 })).flat();
      const found = result.answers.webgpu.flat();
      expect(found.map(({ sequence }) => sequence)).toEqual(expected.map(({ sequence }) => sequence));
      for (const [i, { score }] of found.entries()) expect(score).toBeCloseTo(expected[i].score, 5);
    });

    test('a page fills masks as Node does, and hears what is wrong', async () => {
      const result = (await visit(chromium as string, '/package.html', options(packagePage, 'package'))) as PackageReport;
      expect(result.isolated).toBe(isolated);
      expect(result.description).toMatch(isolated ? /^WASM with relaxed SIMD, \d+ threads?$/ : 'WASM with relaxed SIMD, 1 thread');
      for (const [name, dtype, device] of [
        ['f32', 'f32', 'wasm'],
        ['i8', 'i8', 'wasm'],
        ['reference', 'f32', 'reference'],
        ['dotted', 'f32', 'reference'],
      ] as const) {
        using fill = await pipeline('fill-mask', model, { dtype, device });
        const expected = (await fill(['The cat sees [MASK].', 'My [MASK] carries the letter.'], { top_k: 3 })).flat();
        const found = result.answers[name].flat();
        expect(found.map(({ sequence }) => sequence)).toEqual(expected.map(({ sequence }) => sequence));
        for (const [i, { score }] of found.entries()) expect(score).toBeCloseTo(expected[i].score, 6);
      }
      expect(result.grown).toEqual(Array(8).fill(true));
      expect(result.errors).toEqual({
        missing: 'InputError: /nowhere/tokenizer.json: cannot read: no such file or folder',
        unnamed: expect.stringMatching(/^InputError: name a model: /),
        html: expect.stringMatching(/^InputError: \/html\/tokenizer\.json: is not valid JSON/),
      });
    });

    test('every operation case agrees with the reference', async () => {
      const result = await visit(chromium as string, '/operations.html', options(operationsPage, 'operations'));
      const threads = isolated ? '-threads' : '';
      const all = { cases: operationCases.length, wrong: [] };
      expect(result).toEqual({ [`ufb-relaxed${threads}`]: all, [`ufb-simd${threads}`]: all });
    });

    describe('models of the hub', () => {
      const name = 'some-owner/some_model.v1';
      const commit = '0123456789abcdef0123456789abcdef01234567';
      const address = (path: string) => `${hub.url}/${name}/resolve/${commit}/${path}`;
      let hub: HubServer;
      let page: OpenPage;
      let pages = 0;
      /** What hub.js answers; every order has a page of its own. */
      const open = (order: HubOrder = {}) =>
        page.work({ model: name, sentence, ...order, options: { ...order.options, hubUrl: hub.url } }) as Promise<HubReport>;
      /** What was asked since the last time. */
      const requested = () => hub.requests.splice(0).map(({ host, path }) => `${host} ${path.replace(commit, 'COMMIT')}`);
      const asksForRevision = [`hub /api/models/${name}/revision/main`];
      const asks = [...asksForRevision, `hub /api/models/${name}/tree/COMMIT`];
      const start = async (changes: Partial<Repository> = {}) => {
        hub = await HubServer.start({ [name]: { commit, files: filesOf(model), ...changes } });
        page = await openPage(chromium as string, '/hub.html', {
          ...options(hubPage, `hub-${++pages}`),
          connect: [hub.url, hub.storageUrl],
        });
      };
      afterEach(async () => {
        await page[Symbol.asyncDispose]();
        await hub.stop();
      });

      test.each([
        ['in one file', () => model],
        ['in several files', () => sharded],
      ])('weights %s are downloaded once and kept, for when the hub does not answer too', async (_, folder) => {
        await start({ files: filesOf(folder()) });
        const first = await open();
        expect(first.isolated).toBe(isolated);
        expectAnswers(first);
        const paths = Object.keys(filesOf(folder()));
        expect(first.kept.filter((url) => url.includes('/resolve/')).sort()).toEqual(paths.map(address).sort());
        expect(first.last).toMatchObject({ status: 'progress', name, progress: 100 });
        const ofHub = requested().filter((request) => request.startsWith('hub'));
        expect(ofHub.sort()).toEqual([...asks, ...paths.map((path) => `hub /${name}/resolve/COMMIT/${path}`).sort()]);

        const second = await open();
        expectAnswers(second);
        expect(second.last).toBeUndefined();
        expect(requested()).toEqual(asksForRevision);

        hub.fault = () => ({ kind: 'status', status: 503, headers: { 'retry-after': '200' } });
        expectAnswers(await open());
        expect(requested()).toEqual(asksForRevision);

        await hub.stop();
        expectAnswers(await open());
        const { error } = await open({ options: { revision: 'v2' } });
        expect(error).toMatch(/^FailureError: .* cannot be reached: .*; the cache does not hold revision v2 of this model$/);
      });

      const weights = () => readFileSync(join(model, 'model.safetensors'));
      /** Instead of the weights, so many times. */
      const faultsOfWeights = (fault: Fault, times: number) => {
        let left = times;
        hub.fault = ({ path }) => (path === `/${sha256(weights())}` && left-- > 0 ? fault : undefined);
      };
      const rangesOfWeights = () => hub.requests.filter(({ path }) => path === `/${sha256(weights())}`).map(({ range }) => range);

      test('what comes damaged is asked for again, past all caches, and never kept', async () => {
        await start();
        const bytes = weights();
        bytes[bytes.length - 1] ^= 1;
        faultsOfWeights({ kind: 'content', bytes }, Number.POSITIVE_INFINITY);
        const refused = await open();
        expect(refused.error).toMatch(
          /^FailureError: .*\/model\.safetensors: what came is damaged: hash [\da-f]{64}, expected [\da-f]{64};/,
        );
        expect(refused.kept.sort()).toEqual(['config.json', 'tokenizer.json', 'tokenizer_config.json'].map(address));
        // The wrong bytes may come from the browser's own cache now.
        hub.fault = () => undefined;
        expectAnswers(await open());
      });

      test('a download that breaks off goes on where it was', async () => {
        await start();
        hub.cacheControl = 'no-store'; // or the browser's cache asks for parts of its own
        faultsOfWeights({ kind: 'cut', after: Math.floor(weights().length / 4) }, 2);
        expectAnswers(await open());
        const [first, ...later] = rangesOfWeights();
        expect(first).toBeUndefined();
        const offsets = later.map((range) => Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1]));
        expect(offsets).toHaveLength(2);
        expect(offsets[0]).toBeGreaterThan(0);
        expect(offsets[1]).toBeGreaterThan(offsets[0]);
      });

      test('two at once download once', async () => {
        await start();
        hub.cacheControl = 'no-store';
        expectAnswers(await open({ times: 2 }), 2);
        expect(rangesOfWeights()).toHaveLength(1);
      });

      test('a token goes to the hub and not to where it leads', async () => {
        await start({ token: 'secret' });
        expect((await open()).error).toMatch(/^InputError: .* answers 401: there is no such model, or it is not public/);
        expectAnswers(await open({ options: { accessToken: 'secret' } }));
        const authorizations = (wanted: string) =>
          hub.requests.filter(({ host }) => host === wanted).map((request) => request.authorization);
        expect(authorizations('hub')).toContain('Bearer secret');
        expect(new Set(authorizations('storage'))).toEqual(new Set([undefined]));
      });

      test.each(['open', 'put'] as const)(
        'a browser that keeps nothing (%s): the page does, also of a model that is not public',
        async (refuse) => {
          await start({ token: 'secret' });
          const unkept = await open({ refuse, options: { accessToken: 'secret' } });
          expectAnswers(unkept);
          expect(unkept.kept).toEqual([]);
          expect(unkept.last).toMatchObject({ status: 'progress', name, progress: 100 });
          expect(requested().filter((request) => request.includes('/resolve/'))).toHaveLength(modelFiles.length + 1); // and tokenizer_config.json
        },
      );

      test('a page that cannot check hashes', async () => {
        await start();
        expect((await open({ refuse: 'subtle' })).error).toMatch(/^FailureError: .* this page cannot check the hashes/);
        expect(requested()).toEqual([]);
      });
    });
  });
});
