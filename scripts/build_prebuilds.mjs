#!/usr/bin/env node
// Builds the native add-on for every machine that the package serves, on this one, by Zig's C++ compiler: python3 -m pip install ziglang.
//
//   node scripts/build_prebuilds.mjs [NAME ...]      writes prebuilds/NAME/ufb.node; without names all of them
//
// $ZIG names the compiler; otherwise zig, or Python's package ziglang. Objects are kept in build/prebuild-objects.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { BuildError, build, root } from './build_native.mjs';

/** By the names that src/platform/node_addon.ts looks for. The oldest systems that Node 20 itself runs on. */
export const targets = {
  'linux-x64': 'x86_64-linux-gnu.2.28',
  'linux-x64-musl': 'x86_64-linux-musl',
  'linux-arm64': 'aarch64-linux-gnu.2.28',
  'linux-arm64-musl': 'aarch64-linux-musl',
  'darwin-x64': 'x86_64-macos.10.15',
  'darwin-arm64': 'aarch64-macos.11.0',
  'win32-x64': 'x86_64-windows-gnu',
};

/** Zig has processors' names and features where others have architectures'. */
const armSets = { neon: ['-mcpu=generic'], dotprod: ['-mcpu=generic+dotprod'], i8mm: ['-mcpu=generic+dotprod+i8mm+bf16'] };

/** Zig as a command with arguments, and its version; undefined if it is not installed. */
export function findZig() {
  const candidates = process.env.ZIG ? [process.env.ZIG.split(' ').filter(Boolean)] : [['zig'], ['python3', '-m', 'ziglang']];
  for (const [command, ...args] of candidates) {
    const { status, stdout } = spawnSync(command, [...args, 'version'], { encoding: 'utf8' });
    if (status === 0) return { command, args, version: stdout.trim() };
  }
  return undefined;
}

async function buildPrebuild(name, zig) {
  const triple = targets[name];
  const [platform, arch] = name.split('-');
  return build(join(root, 'prebuilds', name), {
    platform,
    arch,
    sets: arch === 'arm64' ? armSets : undefined,
    compiler: {
      command: zig.command,
      flags: [...zig.args, 'c++', '-target', triple, '-ffunction-sections', '-fdata-sections', '-fomit-frame-pointer', '-g0'],
      version: zig.version,
    },
    // Small: no names of what is inside, nothing that is not reached.
    linkFlags: ['-s', platform === 'darwin' ? '-Wl,-dead_strip' : '-Wl,--gc-sections'],
    objects: join(root, 'build', 'prebuild-objects', name),
  });
}

export async function buildPrebuilds(names = Object.keys(targets), zig = findZig()) {
  if (!zig) throw new BuildError('Zig is not installed: python3 -m pip install ziglang, or set ZIG to its path');
  const unknown = names.find((name) => !targets[name]);
  if (unknown) throw new BuildError(`'${unknown}' is none of ${Object.keys(targets).join(', ')}`);
  for (const name of names) {
    const { target, sets, fresh } = await buildPrebuild(name, zig);
    process.stderr.write(`${name}: ${statSync(target).size} bytes${fresh ? ', up to date' : ` (${sets.join(', ')})`}\n`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    await buildPrebuilds(process.argv.length > 2 ? process.argv.slice(2) : undefined);
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    process.stderr.write(`prebuilds not built: ${error.message}\n`);
    process.exitCode = 1;
  }
}
