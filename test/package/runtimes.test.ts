/** The built package in other releases of Node, in Bun and in Deno, whichever of them the registry has for this machine. */
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { npmEnvironment } from '../npm_environment.ts';
import { temporaryFolder } from '../temporary.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = temporaryFolder();
const machine = `${process.platform}-${process.arch}`;
const denoMachines: Record<string, string> = {
  'linux-x64': 'linux-x64-glibc',
  'linux-arm64': 'linux-arm64-glibc',
  'darwin-x64': 'darwin-x64',
  'darwin-arm64': 'darwin-arm64',
};
/** What npm installs: the package that holds nothing but the program, and where it is in there. */
const runtimes = [
  ...[20, 22, 24].map((release) => ({ name: `Node ${release}`, spec: `node-${machine}@${release}`, file: 'bin/node', args: [] })),
  { name: 'Bun', spec: `@oven/bun-${machine.replace('arm64', 'aarch64')}`, file: 'bin/bun', args: [] },
  { name: 'Deno', spec: `@deno/${denoMachines[machine] ?? machine}`, file: 'deno', args: ['run', '--allow-all', '--quiet'] },
].map((runtime, index) => ({ ...runtime, alias: `runtime${index}` }));

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function run(program: string, args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { cwd: folder, env: npmEnvironment(), timeout: 240_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? (typeof error.code === 'number' ? error.code : -1) : 0, stdout, stderr }),
    );
    child.stdin?.end();
  });
}

writeFileSync(join(folder, 'package.json'), '{ "name": "runtimes", "private": true }');
const missing = new Map<string, string>();
for (const { name, spec, alias, file } of runtimes) {
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  const { code, stderr } = await run('npm', ['install', ...options, `${alias}@npm:${spec}`]);
  if (code !== 0) missing.set(name, ` (skipped: ${spec} cannot be installed: ${stderr.split('\n')[0]})`);
  else if (!existsSync(join(folder, 'node_modules', alias, file))) missing.set(name, ` (skipped: ${spec} has no ${file})`);
}

const sentence = 'He was born in London in the nineteenth [MASK].';
const entry = (name: string) => JSON.stringify(pathToFileURL(join(root, 'dist', name)).href);
const library = `
import { pipeline } from ${entry('index.js')};
import { createDevice } from ${entry('nn.js')};
const device = await createDevice({ name: 'wasm', threads: 2 });
const fill = await pipeline('fill-mask', undefined, { device, dtype: 'i8' });
const [best] = await fill(${JSON.stringify(sentence)});
console.log(best.token_str, '-', device.description);
await fill.dispose();
device.dispose();
`;
writeFileSync(join(folder, 'library.mjs'), library);

for (const { name, alias, file, args } of runtimes) {
  const program = join(folder, 'node_modules', alias, file);
  describe.skipIf(missing.has(name))(`${name}${missing.get(name) ?? ''}`, () => {
    test.each(['wasm', 'native'])('the command line, %s: the answer, and not a word besides', async (device) => {
      const native = existsSync(join(root, 'build', 'native', 'ufb.node'));
      const command = [join(root, 'dist', 'cli.js'), 'fill-mask', '--json', '--top-k', '1', ...(native ? ['--device', device] : [])];
      const { code, stdout, stderr } = await run(program, [...args, ...command, sentence]);
      if (native) expect(stderr).toBe('');
      expect(code, stderr).toBe(0);
      const { answers, device: used } = JSON.parse(stdout);
      expect(used).toBe(native ? device : 'wasm');
      expect(answers[0].blanks[0][0].token_str).toBe('century');
    });

    test.runIf(name === 'Deno')('what may not be done is told in one line: code is not loaded, the environment is not read', async () => {
      const command = [join(root, 'dist', 'cli.js'), 'fill-mask', '--json', '--top-k', '1', sentence];
      const without = await run(program, ['run', '--no-prompt', '--allow-read', '--allow-env', '--allow-sys', ...command]);
      expect(without.stderr).toMatch(/^the native backend [^\n]*; using WASM, which is slower\n$/);
      if (existsSync(join(root, 'build', 'native', 'ufb.node'))) expect(without.stderr).toContain('--allow-ffi');
      expect(without.code).toBe(0);
      expect(JSON.parse(without.stdout).device).toBe('wasm');
      const closed = await run(program, ['run', '--no-prompt', '--allow-read', ...command]);
      expect(closed).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^ufb: [^\n]*--allow-env[^\n]*\n$/) });
    });

    test('the library: WASM with relaxed SIMD, on two threads; the process ends', async () => {
      const { code, stdout, stderr } = await run(program, [...args, join(folder, 'library.mjs')]);
      expect(stderr).toBe('');
      expect(code).toBe(0);
      expect(stdout).toBe('century - WASM with relaxed SIMD, 2 threads\n');
    });
  });
}
