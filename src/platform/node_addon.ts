import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot } from './node_package.ts';

/**
 * The native add-on, as src/backend/native_loader.ts describes it, and its file; or one line on why there is none. In the package's folder it
 * looks for build/native/ufb.node, made in a checkout, then for prebuilds/MACHINE/ufb.node, made by scripts/build_prebuilds.mjs. The
 * environment variable UFB_NATIVE=0 turns it off.
 */
export function findAddon(): { addon?: unknown; path?: string; reason?: string } {
  if (process.env.UFB_NATIVE === '0') return { reason: 'the native backend is turned off by UFB_NATIVE=0' };
  let root: string;
  try {
    root = packageRoot();
  } catch (error) {
    // Bundled with a program, say.
    return { reason: `the native backend is not there: ${(error as Error).message}` };
  }
  const script = join(root, 'scripts', 'build_native.mjs');
  const build = existsSync(script) ? `; with a C++ compiler, node ${/\s/.test(script) ? `"${script}"` : script} builds it` : '';
  const machine = machineName();
  let failure: string | undefined;
  for (const path of [join(root, 'build', 'native', 'ufb.node'), join(root, 'prebuilds', machine, 'ufb.node')]) {
    if (!existsSync(path)) continue;
    try {
      return { addon: createRequire(path)(path) as unknown, path };
    } catch (error) {
      const { message, code } = error as NodeJS.ErrnoException;
      // Made for another C library, say. Other errors (Deno's, where it may not load code) are not mended by building.
      failure = `the native backend does not load: ${message.split('\n')[0]}${code === 'ERR_DLOPEN_FAILED' ? build : ''}`;
    }
  }
  if (failure) return { reason: failure };
  const others = machinesIn(join(root, 'prebuilds'));
  const found = others.length > 0 ? `it is there for ${others.join(', ')}` : `no ${join(root, 'prebuilds', machine, 'ufb.node')}`;
  return { reason: `there is no native backend for ${machine} here (${found})${build}` };
}

/** What the prebuilt add-on for this process is called: linux-x64, linux-x64-musl, darwin-arm64. */
export function machineName(): string {
  return `${process.platform}-${process.arch}${process.platform === 'linux' && usesMusl() ? '-musl' : ''}`;
}

/**
 * Whether this process runs on the C library musl (Alpine): its loader, which is the library, is then part of the process: ld-musl-x86_64.so.1,
 * or libc.so where that is a link. glibc's is libc.so.6. That the system has a musl says nothing.
 */
function usesMusl(): boolean {
  try {
    return /\/(ld-musl-[^/\n]+|libc\.so)$/m.test(readFileSync('/proc/self/maps', 'latin1'));
  } catch {
    return false; // Deno may not read it, and has no build for musl
  }
}

function machinesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** The instruction set that the environment variable UFB_INSTRUCTION_SET names, for tests and comparisons. */
export function wantedInstructionSet(): string | undefined {
  return process.env.UFB_INSTRUCTION_SET;
}
