import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { beforeAll, describe, expect, test } from 'vitest';
import { machineName } from '../../src/platform/node_addon.ts';
import { npmEnvironment } from '../npm_environment.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = temporaryFolder();
const model = join(folder, 'model');

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function run(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = process.env): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(command, args, { cwd, env: npmEnvironment(env), maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      resolve({ code: error ? (typeof error.code === 'number' ? error.code : -1) : 0, stdout, stderr });
    });
    child.stdin?.end();
  });
}

/** A folder with the package installed from its tarball. */
const place = join(folder, 'consumer');

let tarball: string;
const installed = (place: string) => join(place, 'node_modules', 'ultrafastbert');
const fillMask = (place: string, ...args: string[]) =>
  run('npx', ['ufb', 'fill-mask', '--json', '--top-k', '1', '--model', model, ...args, 'The cat sees [MASK].'], place);

beforeAll(async () => {
  await writeTinyModel(model);
  const { code, stdout, stderr } = await run('npm', ['pack', '--json', '--pack-destination', folder], root);
  expect(code, stderr).toBe(0);
  expect(stderr).not.toMatch(/npm warn/i);
  tarball = join(folder, JSON.parse(stdout.slice(stdout.indexOf('[\n')))[0].filename);
  mkdirSync(place);
  writeFileSync(join(place, 'package.json'), '{ "name": "consumer", "private": true }');
  const installing = await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', tarball], place);
  expect(installing).toMatchObject({ code: 0, stderr: '' });
});

test('the manifest and what it points to are sound', async () => {
  const { messages } = await publint({ pkgDir: root, strict: true });
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  expect(messages.map((message) => formatMessage(message, manifest))).toEqual([]);
});

describe('installed in an empty folder', () => {
  test('one package, small, and nothing of the workshop', () => {
    expect(readdirSync(join(place, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual(['ultrafastbert']);
    const sizeOf = (path: string): number =>
      statSync(path).isDirectory() ? readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0) : statSync(path).size;
    expect(sizeOf(installed(place))).toBeLessThan(12e6);
    const names = ['CHANGELOG.md', 'LICENSE', 'README.md', 'THIRD_PARTY_NOTICES.md', 'dist', 'package.json', 'prebuilds', 'scripts'];
    expect(readdirSync(installed(place)).sort()).toEqual(names.filter((name) => existsSync(join(installed(place), name))));
    expect(readdirSync(join(installed(place), 'scripts'))).toEqual(['torch_training.py']);
  });

  test('npx ufb fill-mask', async () => {
    const { code, stdout, stderr } = await fillMask(place);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout).answers[0].blanks[0]).toHaveLength(1);
  });

  test('import, require and types', async () => {
    const use = `const fill = await pipeline('fill-mask', ${JSON.stringify(model)});\n  const [best] = await fill('The cat sees [MASK].');\n  console.log(typeof best.token_str, typeof FastFeedforward);\n  await fill.dispose();`;
    writeFileSync(
      join(place, 'use.mjs'),
      `import { pipeline } from 'ultrafastbert';\nimport { FastFeedforward } from 'ultrafastbert/nn';\nimport 'ultrafastbert/train';\n  ${use}\n`,
    );
    writeFileSync(
      join(place, 'use.cjs'),
      `const { pipeline } = require('ultrafastbert');\nconst { FastFeedforward } = require('ultrafastbert/nn');\nrequire('ultrafastbert/train');\n(async () => {\n  ${use}\n})();\n`,
    );
    writeFileSync(
      join(place, 'use.mts'),
      `import { pipeline } from 'ultrafastbert';\nimport { FastFeedforward } from 'ultrafastbert/nn';\nimport type { PretrainOptions } from 'ultrafastbert/train';\n  ${use}\n  const options: Partial<PretrainOptions> = {};\n  void options;\n  const text: string = best.token_str;\n  void text;\n`,
    );
    writeFileSync(
      join(place, 'use.cts'),
      `import ultrafastbert = require('ultrafastbert');\nconst wrong: number = ultrafastbert.pipeline;\nvoid wrong;\n`,
    );
    const tsc = [
      join(root, 'node_modules/typescript/bin/tsc'),
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2022',
      '--lib',
      'es2022,dom',
      'use.mts',
      'use.cts',
    ];
    const [esm, cjs, types] = await Promise.all([
      run(process.execPath, ['use.mjs'], place),
      run(process.execPath, ['use.cjs'], place),
      run(process.execPath, tsc, place),
    ]);
    expect(esm).toMatchObject({ code: 0, stdout: 'string function\n' });
    expect(cjs).toMatchObject({ code: 0, stdout: 'string function\n' });
    // The one mistake made on purpose, and no other: the types were found.
    expect(types.stdout.trim().split('\n')).toEqual([expect.stringMatching(/^use\.cts\(2,7\): error TS2322/)]);
  });

  test('without a model: what to install; with the package of the model: two lines', async () => {
    const sentence = 'He was born in London in the nineteenth [MASK].';
    const without = await run('npx', ['ufb', 'fill-mask', sentence], place);
    expect(without).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^ufb: [^\n]*'npm install ultrafastbert-small'[^\n]*\n$/),
    });

    const beside = join(folder, 'beside');
    mkdirSync(beside);
    writeFileSync(join(beside, 'package.json'), '{ "name": "beside", "private": true }');
    const { stdout } = await run('npm', ['pack', '--json', '--workspace', 'ultrafastbert-small', '--pack-destination', folder], root);
    const model = join(folder, JSON.parse(stdout.slice(stdout.indexOf('[\n')))[0].filename);
    const installing = await run(
      'npm',
      ['install', '--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts', tarball, model],
      beside,
    );
    expect(installing).toMatchObject({ code: 0, stderr: '' });
    writeFileSync(
      join(beside, 'use.mjs'),
      `import { pipeline } from 'ultrafastbert';\nconst fill = await pipeline('fill-mask');\nconsole.log((await fill(${JSON.stringify(sentence)}))[0].token_str);\nawait fill.dispose();\n`,
    );
    expect(await run(process.execPath, ['use.mjs'], beside)).toEqual({ code: 0, stdout: 'century\n', stderr: '' });
    rmSync(beside, { recursive: true });
  });

  test('npx runs the program from its tarball, without installing it', async () => {
    const empty = join(folder, 'empty');
    mkdirSync(empty);
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    expect(await run('npx', ['--yes', `file:${tarball}`, '--version'], empty)).toMatchObject({ code: 0, stdout: `${version}\n` });
  });

  test('without an add-on for this machine: WASM, and a line that says for which there is one', async () => {
    const prebuilds = join(installed(place), 'prebuilds');
    const packed = existsSync(prebuilds);
    const found = await fillMask(place);
    expect(JSON.parse(found.stdout).device).toBe(packed ? 'native' : 'wasm');
    if (packed) expect(found.stderr).toBe('');

    rmSync(prebuilds, { recursive: true, force: true });
    mkdirSync(join(prebuilds, 'plan9-mips'), { recursive: true });
    const fallen = await fillMask(place);
    expect(fallen.code, fallen.stderr).toBe(0);
    expect(JSON.parse(fallen.stdout).device).toBe('wasm');
    expect(fallen.stderr).toMatch(
      /^there is no native backend for \S+ here \(it is there for plan9-mips\); using WASM, which is slower\n$/,
    );

    // What does not load says so.
    mkdirSync(join(prebuilds, machineName()));
    writeFileSync(join(prebuilds, machineName(), 'ufb.node'), 'no add-on');
    const broken = await fillMask(place);
    expect(broken.code, broken.stderr).toBe(0);
    expect(broken.stderr).toMatch(/^the native backend does not load: [^\n]*; using WASM, which is slower\n$/);
  });
});
