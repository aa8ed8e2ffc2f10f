import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { beforeAll, describe, expect, test } from 'vitest';
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

const installed = (place: string) => join(place, 'node_modules', 'ultrafastbert');
const fillMask = (place: string, ...args: string[]) =>
  run('npx', ['ufb', 'fill-mask', '--json', '--top-k', '1', '--model', model, ...args, 'The cat sees [MASK].'], place);

beforeAll(async () => {
  await writeTinyModel(model);
  const { code, stdout, stderr } = await run('npm', ['pack', '--json', '--pack-destination', folder], root);
  expect(code, stderr).toBe(0);
  expect(stderr).not.toMatch(/npm warn/i);
  const tarball = join(folder, JSON.parse(stdout.slice(stdout.indexOf('[\n')))[0].filename);
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
  test('few packages, small, and nothing of the workshop', () => {
    const packages: string[] = [];
    const collect = (modules: string) => {
      for (const name of readdirSync(modules)) {
        if (name.startsWith('.')) continue;
        const path = join(modules, name);
        if (name.startsWith('@')) collect(path);
        else {
          packages.push(name);
          if (existsSync(join(path, 'node_modules'))) collect(join(path, 'node_modules'));
        }
      }
    };
    collect(join(place, 'node_modules'));
    expect(packages.length).toBeLessThanOrEqual(15);
    const sizeOf = (path: string): number =>
      statSync(path).isDirectory() ? readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0) : statSync(path).size;
    const models = join(installed(place), 'models');
    expect(sizeOf(join(place, 'node_modules')) - (existsSync(models) ? sizeOf(models) : 0)).toBeLessThan(50e6);
    expect(readdirSync(installed(place))).not.toEqual(expect.arrayContaining(['test']));
    expect(readdirSync(installed(place))).not.toEqual(expect.arrayContaining(['src']));
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

  // Compiling takes minutes of a busy processor.
  test('without the add-on that was packed: WASM, and a command that builds one for this machine', async () => {
    const packed = existsSync(join(installed(place), 'prebuilds', `${process.platform}-${process.arch}`));
    expect(JSON.parse((await fillMask(place)).stdout).device).toBe(packed ? 'native' : 'wasm');

    rmSync(join(installed(place), 'prebuilds'), { recursive: true, force: true });
    const fallen = await fillMask(place);
    expect(fallen.code, fallen.stderr).toBe(0);
    expect(JSON.parse(fallen.stdout).device).toBe('wasm');
    expect(fallen.stderr).toMatch(/^[^\n]*; using WASM[^\n]*\n$/);

    const [, script] = /node (\S+build_native\.mjs) builds it/.exec(fallen.stderr) ?? [];
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    const withoutCompiler = await run(process.execPath, [script], place, { ...process.env, PATH: bin, CXX: undefined });
    expect(withoutCompiler).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^native add-on not built: no C\+\+ compiler[^\n]*\n$/),
    });

    const compiler = (await run(process.env.CXX || 'c++', ['--version'], place)).code === 0;
    if (!compiler) return;
    const built = await run(process.execPath, [script], place);
    expect(built.code, built.stderr).toBe(0);
    const answer = await fillMask(place);
    expect(answer.stderr).toBe('');
    expect(JSON.parse(answer.stdout).device).toBe('native');
  }, 1_200_000);
});
