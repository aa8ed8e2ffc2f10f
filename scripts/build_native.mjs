#!/usr/bin/env node
// Builds the native add-on (kernels/) without node-gyp: a C++17 compiler and the headers of the npm package node-api-headers.
//
//   node scripts/build_native.mjs [--out DIR] [--allocation-failures]      writes DIR/ufb.node, by default build/native
//
// --allocation-failures: a build for tests, of which each allocation can be made to fail (kernels/runtime/allocation_failures.h).
// Exit code 0: built, or up to date. Objects are kept beside it, each under the hash of what it was made from.
// $CXX names the compiler; otherwise the first of c++, g++, clang++ that runs. scripts/build_prebuilds.mjs builds for other machines by it.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const kernels = join(root, 'kernels');
const runtime = join(kernels, 'runtime');

// Without -ffast-math: NaN, infinities and the order of sums mean what the source says. Errno is not what sqrt reports errors by.
const commonFlags = ['-std=c++17', '-O3', '-fvisibility=hidden', '-ffp-contract=fast', '-fno-math-errno', '-Wall', '-Wextra', '-Wno-psabi'];
const instructionSets = {
  x64: {
    baseline: [],
    avx2: ['-mavx2', '-mfma'],
    avx512: ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mavx512vnni', '-mavx512bf16', '-mfma', '-mprefer-vector-width=512'],
  },
  arm64: { neon: [], dotprod: ['-march=armv8.2-a+dotprod'], i8mm: ['-march=armv8.2-a+dotprod+i8mm+bf16'] },
};

export class BuildError extends Error {}

function findCompiler() {
  const candidates = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
  for (const candidate of candidates) {
    const [command, ...flags] = candidate.split(' ').filter(Boolean);
    const probe = spawnSync(command, [...flags, '--version'], { encoding: 'utf8' });
    if (probe.status === 0) return { command, flags, version: probe.stdout };
  }
  throw new BuildError(
    `no C++ compiler: ${candidates.join(', ')} not found; install one (Debian: apt-get install g++, macOS: xcode-select --install) or set CXX`,
  );
}

function headerFolder() {
  try {
    return createRequire(import.meta.url)('node-api-headers').include_dir;
  } catch {
    throw new BuildError('the npm package node-api-headers is not installed: run npm install');
  }
}

/** Output of a command, or its complaints as an error. */
function execute(command, args) {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', failed);
    child.on('close', (code) => (code === 0 ? done(output) : failed(new BuildError(`${command} failed:\n${output.slice(0, 4000)}`))));
  });
}

const hashOf = (...parts) =>
  parts
    .reduce((hash, part) => hash.update(part).update('\0'), createHash('sha256'))
    .digest('hex')
    .slice(0, 24);

function sourcesIn(folder) {
  const names = readdirSync(folder).filter((name) => /\.(h|cc)$/.test(name));
  return names
    .sort()
    .map((name) => `${name}\n${readFileSync(join(folder, name), 'utf8')}`)
    .join('\0');
}

/** Runs the jobs, as many at once as there are processors. */
async function inParallel(jobs) {
  const queue = [...jobs];
  const workers = Array.from({ length: Math.min(queue.length, availableParallelism()) }, async () => {
    for (let job = queue.shift(); job; job = queue.shift()) await job();
  });
  await Promise.all(workers);
}

/**
 * Builds out/ufb.node. `compiler` is { command, flags, version }, by default this machine's; what it makes is for `platform` and `arch`. `sets`
 * gives the flags of each instruction set. Objects lie in `objects`, where only the last build's stay. `variant`: flags of a build for tests.
 */
export async function build(out, options = {}) {
  const { platform = process.platform, arch = process.arch, variant = [], objects = join(root, 'build', 'objects') } = options;
  const sets = options.sets ?? instructionSets[arch];
  if (!sets || (platform === 'win32' && !options.compiler))
    throw new BuildError(`the native backend is not built for ${platform}-${arch} here`);
  const compiler = options.compiler ?? findCompiler();
  const common = platform === 'win32' ? commonFlags : [...commonFlags, '-fPIC'];
  const kernelFlags = [...common, '-fno-exceptions', '-fno-rtti'];
  const headers = headerFolder();
  const kernelSources = sourcesIn(kernels);
  const runtimeSources = sourcesIn(runtime);
  const identity = hashOf(
    compiler.command,
    compiler.flags.join(' '),
    compiler.version,
    platform,
    arch,
    JSON.stringify(sets),
    readFileSync(fileURLToPath(import.meta.url), 'utf8'),
  );
  const stamp = hashOf(identity, kernelSources, runtimeSources, ...variant);
  const target = join(out, 'ufb.node');
  const stampFile = join(out, 'ufb.stamp');
  if (existsSync(target) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return { target, fresh: true, sets: [] };

  mkdirSync(objects, { recursive: true });
  mkdirSync(out, { recursive: true });
  // A compiler that does not know an instruction set's flags leaves that set out.
  const probe = join(objects, `probe-${process.pid}`);
  writeFileSync(`${probe}.cc`, '');
  const known = Object.entries(sets).filter(([, flags]) => {
    const args = [...compiler.flags, ...common, ...flags, '-c', `${probe}.cc`, '-o', `${probe}.o`];
    return spawnSync(compiler.command, args, { stdio: 'ignore' }).status === 0;
  });
  for (const ending of ['.cc', '.o']) rmSync(probe + ending, { force: true });
  if (known.length === 0) throw new BuildError(`${compiler.command} does not compile C++17 with ${common.join(' ')}`);
  const wanted = [];
  const object = (name, source, flags, contents) => {
    const path = join(objects, `${name}-${hashOf(identity, contents, flags.join(' '))}.o`);
    wanted.push(path);
    return async () => {
      if (existsSync(path)) return;
      const aside = `${path}.${process.pid}`;
      await execute(compiler.command, [...compiler.flags, ...flags, '-c', source, '-o', aside]);
      renameSync(aside, path);
    };
  };
  const jobs = known.map(([name, flags]) =>
    object(name, join(kernels, 'instruction_set.cc'), [...kernelFlags, ...flags, `-DUFB_INSTRUCTION_SET=${name}`], kernelSources),
  );
  const has = known.map(([name]) => `-DUFB_HAS_${name.toUpperCase()}`);
  const calling = hashOf(readFileSync(join(kernels, 'kernel.h')), runtimeSources);
  for (const name of readdirSync(runtime).filter((file) => file.endsWith('.cc'))) {
    jobs.push(
      object(name.slice(0, -3), join(runtime, name), [...common, ...variant, ...has, '-DNAPI_VERSION=8', '-isystem', headers], calling),
    );
  }
  await inParallel(jobs);

  const aside = `${target}.${process.pid}`;
  const link = [...compiler.flags, '-shared', '-o', aside, ...wanted, '-pthread'];
  if (platform === 'darwin') {
    await execute(compiler.command, [...link, '-undefined', 'dynamic_lookup', ...(options.linkFlags ?? [])]);
  } else if (options.linkFlags) {
    await execute(compiler.command, [...link, ...options.linkFlags]);
  } else {
    // With the C++ library inside, the add-on runs where a different one is installed; not every system has the static library.
    const inside = ['-static-libstdc++', '-static-libgcc', '-Wl,--exclude-libs,ALL'];
    if (variant.length > 0) link.push('-Wl,-Bsymbolic'); // its own operator new, not the one that node exports
    await execute(compiler.command, [...link, ...inside]).catch(() => execute(compiler.command, link));
  }
  renameSync(aside, target);
  writeFileSync(stampFile, stamp);
  // What a variant is made of is made anew for the next one; the kernels are those of the build itself.
  if (variant.length > 0) for (const path of wanted.slice(known.length)) rmSync(path);
  else
    for (const name of readdirSync(objects)) if (name.endsWith('.o') && !wanted.includes(join(objects, name))) rmSync(join(objects, name));
  return { target, fresh: false, sets: known.map(([name]) => name) };
}

async function main() {
  const position = process.argv.indexOf('--out');
  const out = position > 0 ? resolve(process.argv[position + 1]) : join(root, 'build', 'native');
  try {
    const { target, fresh, sets } = await build(out, {
      variant: process.argv.includes('--allocation-failures') ? ['-DUFB_ALLOCATION_FAILURES'] : [],
    });
    console.log(fresh ? `native add-on up to date: ${target}` : `native add-on built (${sets.join(', ')}): ${target}`);
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    console.error(`native add-on not built: ${error.message}`);
    process.exitCode = 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
