/** What differs between Node and browsers: files, threads, loading. This is Node's side; browser.ts is the other and exports the same names. Nothing else in src imports `node:` modules but the command line. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { type TransferListItem, Worker } from 'node:worker_threads';
import { InputError } from '../errors.ts';
import { packageRoot } from './node_package.ts';

export { join as joinPath } from 'node:path';
export { findAddon, wantedInstructionSet } from './node_addon.ts';
export * from './node_files.ts';
export { type HubCache, type HubEnvironment, type HubFile, hubEnvironment, openHubCache, WrongContentError } from './node_hub.ts';
export {
  bytesOfValue,
  type Launched,
  launched,
  mpiLibraries,
  processName,
  secondsToSave,
  threadsBeside,
  valueOfBytes,
} from './node_launcher.ts';
export { type Lock, type LockHolder, tryLock } from './node_lock.ts';
export { packageRoot } from './node_package.ts';
export { availableThreads } from './node_threads.ts';

/** There may be a native add-on. */
export const runsNativeCode = true;

/** The package of the project's own model, which is installed beside this one. */
const shippedModel = 'ultrafastbert-small';

/**
 * The folder of the project's own model: models/ultrafastbert-small in a checkout, else the package of that name, found from this package or
 * from the folder that the program runs in.
 * @throws InputError if it is not installed
 */
export function shippedModelFolder(): string {
  for (const base of [import.meta.url, join(process.cwd(), 'package.json')]) {
    try {
      return dirname(createRequire(base).resolve(`${shippedModel}/package.json`));
    } catch {
      // Not there: the next one.
    }
  }
  const inCheckout = join(checkoutOrHere(), 'models', shippedModel);
  if (existsSync(inCheckout)) return inCheckout;
  throw new InputError(
    `no model is named, and the one of this project is not installed: run 'npm install ${shippedModel}' (33 MB), or name a folder, or OWNER/NAME of a model on the hub`,
  );
}

/** The package's folder; where the package is bundled with a program, the bundle's. */
function checkoutOrHere(): string {
  try {
    return packageRoot();
  } catch {
    return dirname(fileURLToPath(import.meta.url));
  }
}

/** A thread of its own that runs src/backend/wasm_worker.js. It does not keep the process alive unless held. */
export interface ComputeWorker {
  post(message: unknown, transfer?: readonly Transferable[]): void;
  /** Keeps the process alive, or not. */
  hold(held: boolean): void;
  end(): void;
}

export function startComputeWorker(receive: (message: unknown) => void, failed: (error: Error) => void): ComputeWorker {
  // A worker does not start with some of the program's own flags, as --input-type.
  const worker = new Worker(join(sourceFolder(), 'wasm_worker_node.js'), { execArgv: [] });
  worker.on('message', receive);
  worker.on('error', failed);
  worker.unref();
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer as TransferListItem[]),
    hold: (held) => (held ? worker.ref() : worker.unref()),
    end: () => void worker.terminate(),
  };
}

/** A WASM build, by its name: its bytes, or the address that the worker fetches them from. Throws if it was not built. */
export function wasmFile(name: string): Uint8Array | string {
  const beside = join(sourceFolder(), `${name}.wasm`);
  return readFileSync(existsSync(beside) ? beside : join(packageRoot(), 'build', 'wasm', `${name}.wasm`));
}

/** Why there is no WASM backend, in one line; undefined if there is one. */
export function wasmMissing(): string | undefined {
  if (existsSync(join(sourceFolder(), 'ufb-simd.wasm'))) return undefined;
  let root: string;
  try {
    root = packageRoot();
  } catch (error) {
    return `the WASM backend is not there: no ${join(sourceFolder(), 'ufb-simd.wasm')}, and ${(error as Error).message}`;
  }
  const built = join(root, 'build', 'wasm', 'ufb-simd.wasm');
  return existsSync(built) ? undefined : `the WASM backend is not built (no ${built}): run 'node scripts/build_wasm.mjs' in ${root}`;
}

/** Turns relaxed SIMD on where it is behind a flag, in Node 20. Later ones have it without, and complain about a flag that they do not know. */
export function enableRelaxedSimd(): void {
  if (/^20\./.test(process.versions.node)) setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/** Where the worker's file lies: the bundle's folder, or src/backend in a checkout. */
function sourceFolder(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return basename(here) === 'platform' ? join(here, '..', 'backend') : here;
}

/** WebGPU's door, or one line on why there is none: Deno has one of its own, Node takes the package webgpu's, if it is installed. */
export async function webGpu(): Promise<GPU | string> {
  const { gpu } = (globalThis as { navigator?: { gpu?: GPU } }).navigator ?? {};
  if (gpu) return gpu;
  let dawn: { create(options: string[]): GPU };
  try {
    dawn = await import('webgpu');
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
    return missing
      ? "WebGPU in Node is in the package webgpu, which is not installed: run 'npm install webgpu', or leave out device 'webgpu'"
      : `the package webgpu does not load: ${message.split('\n')[0]}`;
  }
  return dawn.create([]);
}
