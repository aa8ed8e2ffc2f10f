/**
 * Sets a checkout up: installs the dependencies, builds the native part if there is a compiler, and bundles the TypeScript. Each step is
 * done again only if what it is made from has changed. Uses nothing but Node until the dependencies are there.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(root, '.setup-stamp');

/** Runs a program in the checkout, showing what it prints; returns its exit code. */
export function run(program, args, options = {}) {
  const { status, error } = spawnSync(program, args, {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32' && program === 'npm',
    ...options,
  });
  if (error) throw error;
  return status ?? 1;
}

/** Runs the program of a dependency by Node, without npx. */
export function runTool(script, args, options) {
  return run(process.execPath, [join(root, 'node_modules', ...script.split('/')), ...args], options);
}

/** The time since then, as 1 min 5 s. */
export function elapsed(started) {
  const seconds = Math.round((Date.now() - started) / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** Runs a program and says, on stderr, that it still does: on a terminal second by second, elsewhere twice a minute. Returns what it printed. */
async function runShown(message, program, args) {
  const started = Date.now();
  const { isTTY } = process.stderr;
  process.stderr.write(`${message} ...${isTTY ? '' : '\n'}`);
  const show = () => process.stderr.write(isTTY ? `\r${message} ... ${elapsed(started)}` : `  ${message}: ${elapsed(started)} so far\n`);
  const timer = setInterval(show, isTTY ? 1000 : 30_000);
  const child = spawn(program, args, { cwd: root, shell: process.platform === 'win32' && program === 'npm' });
  const printed = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (text) => (printed[name] += text));
  const ended = await new Promise((resolve) => {
    child.on('error', (error) => resolve({ error }));
    child.on('close', (status) => resolve({ status }));
  });
  clearInterval(timer);
  process.stderr.write(isTTY ? `\r${message}: ${elapsed(started)}    \n` : '');
  return { ...printed, ...ended };
}

/** Runs a step whose output matters only if it fails. */
async function step(message, program, args) {
  const { status, error, stdout, stderr } = await runShown(message, program, args);
  if (error || status !== 0) {
    process.stderr.write(`${stdout}${stderr}`);
    process.stderr.write(`setting up failed: ${[program, ...args].join(' ')} ${error ? error.message : `ended with code ${status}`}\n`);
    process.exit(1);
  }
}

/** A hash of the names and contents of files and of everything in folders. */
function hashOf(...paths) {
  const hash = createHash('sha256').update(process.version);
  const add = (path) => {
    if (statSync(path).isDirectory()) for (const name of readdirSync(path).sort()) add(join(path, name));
    else hash.update(relative(root, path)).update('\0').update(readFileSync(path));
  };
  for (const path of paths) if (existsSync(join(root, path))) add(join(root, path));
  return hash.digest('hex');
}

/** When a file was last changed; 0 if it is missing. */
function modified(path) {
  return statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

export async function setUp() {
  // The package runs in any Node 20; what builds and tests it wants a later one.
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19) || major === 21 || (major === 22 && minor < 12) || major === 23) {
    process.stderr.write(`Node ${process.versions.node}: to build and test, expected 20.19, 22.12, 24 or newer\n`);
    process.exit(1);
  }
  const done = existsSync(stampFile) ? JSON.parse(readFileSync(stampFile, 'utf8')) : {};
  const once = async (name, made, hash, action) => {
    if (done[name] === hash && existsSync(join(root, made))) return;
    await action();
    done[name] = hash;
    writeFileSync(stampFile, JSON.stringify(done, undefined, 2));
  };

  if (modified('node_modules/.package-lock.json') < modified('package-lock.json')) {
    process.stderr.write('setting up: some minutes, the first time; later only what changed is made again\n');
    await step('installing packages', 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  }
  // Tried again where there is no add-on, for a compiler may have come meanwhile; said again only if something new is to be said.
  await once('native', 'build/native/ufb.node', hashOf('kernels', 'scripts/build_native.mjs'), async () => {
    const { status, stderr } = await runShown('building the native part', process.execPath, ['scripts/build_native.mjs']);
    if (status !== 0) rmSync(join(root, 'build', 'native'), { recursive: true, force: true }); // an add-on of other sources would not fit
    if (stderr !== (done.nativeFailure ?? '')) process.stderr.write(stderr);
    done.nativeFailure = stderr;
  });
  await once(
    'wasm',
    'build/wasm/ufb-simd.wasm',
    hashOf('kernels', 'scripts/build_wasm.mjs', 'node_modules/@yowasp/clang/package.json'),
    async () => {
      await step('building the WASM part', process.execPath, ['scripts/build_wasm.mjs']);
    },
  );
  await once(
    'bundle',
    'dist/cli.js',
    hashOf('src', 'kernels', 'scripts/build_wasm.mjs', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsdown.config.ts'),
    async () => {
      rmSync(join(root, 'dist'), { recursive: true, force: true });
      await step('bundling', process.execPath, [join('node_modules', 'tsdown', 'dist', 'run.mjs'), '--logLevel', 'error']);
      for (const name of ['wasm_worker.js', 'wasm_worker_node.js']) copyFileSync(join(root, 'src/backend', name), join(root, 'dist', name));
      for (const name of readdirSync(join(root, 'build/wasm')).filter((name) => name.endsWith('.wasm')))
        copyFileSync(join(root, 'build/wasm', name), join(root, 'dist', name));
    },
  );
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await setUp();
