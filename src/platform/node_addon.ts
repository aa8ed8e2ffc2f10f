import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot } from './node_package.ts';

/**
 * The native add-on, as src/backend/native_loader.ts describes it, and its file; or one line on why there is none. Looks for
 * build/native/ufb.node, made here, then prebuilds/<platform>-<arch>/ufb.node, in the package's folder. The environment variable UFB_NATIVE=0
 * turns it off.
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
  const places = [join(root, 'build', 'native', 'ufb.node'), join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'ufb.node')];
  const script = join(root, 'scripts', 'build_native.mjs');
  const build = `with a C++ compiler, node ${/\s/.test(script) ? `"${script}"` : script} builds it`;
  let reason = `the native backend is not built (no ${places[0]}): ${build}`;
  for (const place of places) {
    if (!existsSync(place)) continue;
    try {
      return { addon: createRequire(place)(place) as unknown, path: place };
    } catch (error) {
      const { message, code } = error as NodeJS.ErrnoException;
      // Made for another C library, say. Other errors (Deno's, where it may not load code) are not mended by building.
      reason = `the native backend does not load: ${message.split('\n')[0]}${code === 'ERR_DLOPEN_FAILED' ? `; ${build}` : ''}`;
    }
  }
  return { reason };
}

/** The instruction set that the environment variable UFB_INSTRUCTION_SET names, for tests and comparisons. */
export function wantedInstructionSet(): string | undefined {
  return process.env.UFB_INSTRUCTION_SET;
}
