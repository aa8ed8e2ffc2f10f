import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from './temporary.ts';
import { writeTinyModel } from './tiny_model.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = temporaryFolder();
const model = join(folder, 'model');

beforeAll(() => writeTinyModel(model));

const example = (name: string, ...args: string[]) => run([join(root, 'examples', name), ...args]);

function run(args: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    // In the package's folder the package's own name resolves to what was built.
    execFile(process.execPath, args, { cwd: root }, (error, stdout, stderr) => resolve({ code: error ? error.code : 0, stdout, stderr }));
  });
}

const runs: Record<string, () => Promise<void>> = {
  async 'fill-mask.mjs'() {
    const { code, stdout, stderr } = await example('fill-mask.mjs', model);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^([\d.]+ % \S+\n){3}.+\n.+, .+\n$/);
  },
  async 'fast-feedforward.mjs'() {
    const { code, stdout, stderr } = await example('fast-feedforward.mjs');
    expect(code, stderr).toBe(0);
    const losses = [...stdout.matchAll(/error ([\d.]+)/g)].map(([, loss]) => Number(loss));
    expect(losses).toHaveLength(4);
    expect(losses[3]).toBeLessThan(0.5 * losses[0]);
  },
};

test.each(readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.mjs')))('examples/%s', async (name) => {
  expect(runs, 'a new example needs a test here').toHaveProperty([name]);
  await runs[name]();
});

test('WASM computes in a program that is given by --eval', async () => {
  const code = `import { createDevice } from 'ultrafastbert';
    const device = await createDevice({ name: 'wasm' });
    console.log(await device.read(device.zeros('zeros', [2])));
    device.dispose();`;
  const ended = await run(['--input-type=module', '--eval', code]);
  expect(ended).toEqual({ code: 0, stdout: 'Float32Array(2) [ 0, 0 ]\n', stderr: '' });
});

test('the JavaScript in the README runs', async () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const blocks = [...readme.matchAll(/```js\n(.*?)```/gs)].map(([, code]) =>
    code.replace("pipeline('fill-mask')", `pipeline('fill-mask', ${JSON.stringify(model)})`),
  );
  expect(blocks).toHaveLength(2);
  for (const block of blocks) {
    const { code, stdout, stderr } = await run(['--input-type=module', '--eval', block]);
    expect(code, stderr).toBe(0);
    expect(stdout).not.toBe('');
  }
});
