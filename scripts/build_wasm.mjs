#!/usr/bin/env node
// Builds the WASM backend (kernels/) with Clang from the npm package @yowasp/clang, which is WASM itself: no compiler is needed.
//
//   node scripts/build_wasm.mjs      writes build/wasm/ufb-{simd,relaxed}{,-threads}.wasm
//
// Exit code 0: built, or up to date.
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(import.meta.url);
const root = dirname(dirname(script));
const kernels = join(root, 'kernels');
const out = join(root, 'build', 'wasm');

const maximumMemory = 2 ** 32; // bytes
const common = [
  ...['-std=c++17', '-O3', '-nostdlib', '-ffreestanding', '-fno-exceptions', '-fno-rtti', '-fno-math-errno', '-Wall', '-Wextra'],
  ...['-msimd128', '-mbulk-memory', '-Ikernels', '-DUFB_INSTRUCTION_SET=wasm'],
];
const linking = [
  ...['-Wl,--no-entry', '-Wl,--import-memory', `-Wl,--max-memory=${maximumMemory}`, '-Wl,--export=__stack_pointer', '-Wl,--strip-all'],
  ...['-Wl,-z,stack-size=262144', '-Wl,--stack-first'],
];
const threads = ['-pthread', '-matomics', '-DUFB_THREADS'];
const builds = {
  'ufb-simd': [],
  'ufb-relaxed': ['-mrelaxed-simd'],
  'ufb-simd-threads': [...threads, '-Wl,--shared-memory'],
  'ufb-relaxed-threads': ['-mrelaxed-simd', ...threads, '-Wl,--shared-memory'],
};

/** The sources, as a folder within a folder. */
function sources() {
  const folder = (path) =>
    Object.fromEntries(
      readdirSync(path)
        .filter((name) => /\.(h|cc)$/.test(name))
        .sort()
        .map((name) => [name, readFileSync(join(path, name), 'utf8')]),
    );
  return { kernels: { ...folder(kernels), wasm: folder(join(kernels, 'wasm')) } };
}

async function build(name) {
  const { runClang } = await import('@yowasp/clang');
  let messages = '';
  const collect = (bytes) => {
    if (bytes) messages += new TextDecoder().decode(bytes);
  };
  const flags = builds[name];
  const compiling = [...common, ...flags.filter((flag) => !flag.startsWith('-Wl'))];
  const options = { stdout: collect, stderr: collect };
  const files = sources();
  try {
    const args = ['clang++', ...compiling, ...linking, ...flags.filter((flag) => flag.startsWith('-Wl'))];
    const made = await runClang([...args, 'kernels/instruction_set.cc', 'kernels/wasm/runtime.cc', '-o', 'out.wasm'], files, options);
    const path = join(out, `${name}.wasm`);
    writeFileSync(`${path}.${process.pid}`, made['out.wasm']);
    renameSync(`${path}.${process.pid}`, path);
    if (messages.trim()) console.error(messages);
  } catch (error) {
    console.error(`${name} was not built: ${messages || error.message}`);
    process.exitCode = 1;
  }
}

async function buildAll() {
  const stamp = createHash('sha256')
    .update(JSON.stringify(sources()))
    .update(readFileSync(script))
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const stampFile = join(out, 'stamp');
  const complete = Object.keys(builds).every((name) => existsSync(join(out, `${name}.wasm`)));
  if (complete && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return;
  mkdirSync(out, { recursive: true });
  const queue = Object.keys(builds);
  const failures = [];
  // Processes of their own: the compiler is single-threaded.
  const worker = async () => {
    for (let name = queue.shift(); name; name = queue.shift()) {
      const code = await new Promise((ended) => fork(script, [name]).on('close', ended));
      if (code !== 0) failures.push(name);
    }
  };
  await Promise.all(Array.from({ length: Math.min(queue.length, availableParallelism()) }, worker));
  if (failures.length > 0) process.exitCode = 1;
  else writeFileSync(stampFile, stamp);
}

if (process.argv[2]) await build(process.argv[2]);
else await buildAll();
