import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
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
  async 'server.mjs'() {
    const child = spawn(process.execPath, [join(root, 'examples', 'server.mjs'), model, '0'], { cwd: root });
    const ended = new Promise((resolve) => child.on('close', resolve));
    const url = await new Promise<string>((resolve) => child.stdout.once('data', (text) => resolve(`${text}`.trim())));
    const post = (body: string) => fetch(url, { method: 'POST', body });
    const vectors = (await (await post('["the cat", "a dog"]')).json()) as number[][];
    expect(vectors.map((vector) => vector.length)).toEqual([16, 16]);
    for (const vector of vectors) expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    expect((await post('[3]')).status).toBe(400);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  },
};

test.each(readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.mjs')))('examples/%s', async (name) => {
  expect(runs, 'a new example needs a test here').toHaveProperty([name]);
  await runs[name]();
});

test('WASM computes in a program that is given by --eval', async () => {
  const code = `import { createDevice } from 'ultrafastbert/nn';
    const device = await createDevice({ name: 'wasm' });
    console.log(await device.read(device.zeros('zeros', [2])));
    device.dispose();`;
  const ended = await run(['--input-type=module', '--eval', code]);
  expect(ended).toEqual({ code: 0, stdout: 'Float32Array(2) [ 0, 0 ]\n', stderr: '' });
});

const pages = ['README.md', 'docs/app.md', 'docs/research.md'].map((page) => ({ page, text: readFileSync(join(root, page), 'utf8') }));
/** Code in the pages for users, by the name of its block: js, ts, 'js browser'. */
const blocks = (name: string) =>
  pages.flatMap(({ page, text }) =>
    [...text.matchAll(/```([^\n]+)\n(.*?)```/gs)].filter((block) => block[1] === name).map(([, , code]) => ({ page, code })),
  );

test.each(blocks('js'))('JavaScript in $page runs', async ({ code: block }) => {
  const ended = await run([
    '--input-type=module',
    '--eval',
    block.replace("pipeline('fill-mask')", `pipeline('fill-mask', ${JSON.stringify(model)})`),
  ]);
  expect(ended.code, ended.stderr).toBe(0);
  expect(ended.stdout).not.toBe('');
});

test('the README, the app and the layer have JavaScript that runs', () => {
  expect(blocks('js').map(({ page }) => page)).toEqual(['README.md', 'docs/app.md', 'docs/app.md']);
});

test('TypeScript and browser code in the pages is typed', () => {
  const given = `import { pipeline, quantizeEmbeddings } from 'ultrafastbert';
    declare const lines: AsyncIterable<string>, signal: AbortSignal, index: { add(vector: unknown): void }, texts: string[], passages: string[];`;
  const codes = [...blocks('ts').map(({ code }) => given + code), ...blocks('js browser').map(({ code }) => code)];
  expect(codes.length).toBeGreaterThanOrEqual(3);
  const files = new Map(codes.map((code, i) => [join(root, `block_${i}.ts`), `${code}\nexport {};`]));
  const { options } = ts.parseJsonConfigFileContent(ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config, ts.sys, root);
  // Names that a block only shows are no mistake.
  const settings = {
    ...options,
    noUnusedLocals: false,
    paths: {
      ultrafastbert: [join(root, 'dist/index.d.ts')],
      'ultrafastbert/nn': [join(root, 'dist/nn.d.ts')],
      'ultrafastbert/train': [join(root, 'dist/train.d.ts')],
    },
  };
  const host = ts.createCompilerHost(settings);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (path) => files.has(path) || fileExists(path);
  host.readFile = (path) => files.get(path) ?? readFile(path);
  host.getSourceFile = (path, target, ...rest) =>
    files.has(path) ? ts.createSourceFile(path, files.get(path)!, target) : getSourceFile(path, target, ...rest);
  const program = ts.createProgram([...files.keys()], settings, host);
  const messages = ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
  expect(messages).toEqual([]);
});
