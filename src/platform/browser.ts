/**
 * The browser's side of what differs between Node and browsers; node.ts is the other and exports the same names. A path here is an
 * address, relative to the page or absolute; files are fetched, and none are written.
 */
import { FailureError, InputError } from '../errors.ts';
import { keptResponse } from './browser_hub.ts';
import type { AsideFile, ComputeWorker, Launched, Lock, LockHolder, RandomAccessFile } from './node.ts';

export { hubEnvironment, openHubCache, WrongContentError } from './browser_hub.ts';

/** An error as the file system has them, for src/io/files.ts to word. */
function systemError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

function noWriting(path: string): never {
  throw new FailureError(`${path}: a browser's page writes no files; save models in Node`);
}

/** The error's system code, 'ENOENT' say, if it has one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

async function fetchFile(path: string): Promise<Response> {
  let response: Response;
  try {
    response = (await keptResponse(path)) ?? (await fetch(path));
  } catch (error) {
    // The reason (no network, or a server that does not allow this page) is hidden from pages; the browser's console has it.
    throw new FailureError(`${path}: cannot be fetched: ${(error as Error).message}`, { cause: error });
  }
  if (response.status === 404 || response.status === 410) throw systemError('ENOENT', `${path}: not found`);
  if (response.status === 401 || response.status === 403) throw systemError('EACCES', `${path}: not permitted`);
  // Servers of single-page applications answer every address with the same page.
  const isPage = response.headers.get('content-type')?.startsWith('text/html') && !/\.html?$/.test(lastPart(path));
  if (isPage) throw systemError('ENOENT', `${path}: the server answers with a page`);
  if (!response.ok) throw new FailureError(`${path}: the server answers ${response.status} ${response.statusText}`);
  return response;
}

/** Fetches the whole file. It is kept as a blob, which the browser may keep on its disk, and is in memory only where it is read. */
export async function openFile(path: string): Promise<RandomAccessFile> {
  const response = await fetchFile(path);
  let blob: Blob;
  try {
    blob = await response.blob();
  } catch (error) {
    throw new FailureError(`${path}: the download broke off: ${(error as Error).message}`, { cause: error });
  }
  return {
    name: path,
    size: blob.size,
    async read(offset, length) {
      const bytes = new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      if (bytes.length < length) throw new Error(`${path} ended at byte ${offset + bytes.length} while it was being read`);
      return bytes;
    },
    async close() {},
  };
}

export async function* readBlocks(path: string): AsyncGenerator<Uint8Array> {
  const { body } = await fetchFile(path);
  if (body) yield* blocksOf(body);
}

/** Decompresses a gzip stream of one member. Rejects if it is corrupt or cut short. */
export async function* gunzip(blocks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = blocks[Symbol.asyncIterator]();
  const source = new ReadableStream<BufferSource>({
    async pull(controller) {
      const { value, done } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(value as Uint8Array<ArrayBuffer>);
    },
    async cancel() {
      await iterator.return?.();
    },
  });
  try {
    yield* blocksOf(source.pipeThrough(new DecompressionStream('gzip')));
  } catch (error) {
    throw error instanceof TypeError ? systemError('Z_DATA_ERROR', error.message) : error;
  }
}

async function* blocksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let ended = false;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
    ended = true;
  } finally {
    if (!ended) await reader.cancel().catch(() => {});
  }
}

/** Whether there is a model at an address: a server tells when its configuration is fetched. */
export async function isModelFolder(path: string): Promise<boolean> {
  try {
    const response = await fetchFile(joinPath(path, 'config.json'));
    await response.body?.cancel();
    return true;
  } catch {
    return false;
  }
}

/** A server tells only of what is fetched: until then what is named as models' files are is a file, and anything else, name-v1.5 say, a folder. */
export async function kindOf(path: string): Promise<'file' | 'folder' | 'other' | 'missing'> {
  return /\.(json|safetensors|bin|onnx|txt|npy|gz|zip)$/.test(lastPart(path)) ? 'file' : 'folder';
}

function lastPart(path: string): string {
  return path.split(/[?#]/)[0].split('/').pop() as string;
}

/** Puts names behind an address, before its query if it has one. */
export function joinPath(path: string, ...names: string[]): string {
  const at = path.search(/[?#]/);
  const [address, query] = at < 0 ? [path, ''] : [path.slice(0, at), path.slice(at)];
  return [address.replace(/\/+$/, ''), ...names].join('/') + query;
}

export async function writeAside(path: string): Promise<AsideFile> {
  return noWriting(path);
}

export async function makeFolder(path: string): Promise<string | undefined> {
  return noWriting(path);
}

export async function removeParts(path: string): Promise<void> {
  noWriting(path);
}

export async function tryLock(path: string): Promise<{ lock: Lock } | { holder: LockHolder }> {
  return noWriting(path);
}

/** Only of what is written. */
export function startHash(): { add(bytes: Uint8Array | string): void; digest(): Uint8Array<ArrayBuffer> } {
  return noWriting('a file');
}

export async function removeFile(path: string): Promise<void> {
  noWriting(path);
}

export async function listFolder(path: string): Promise<string[]> {
  throw new FailureError(`${path}: a server's folders cannot be listed; name the files`);
}

/** The shipped model is no part of what bundlers put into a page: 33 MB that most pages do not want. */
export function shippedModelFolder(): string {
  throw new InputError(
    'name a model: in a browser, the address of a folder with config.json, model.safetensors and tokenizer.json (those of the package ultrafastbert-small, served by you, say)',
  );
}

export const runsNativeCode = false;

export function findAddon(): { addon?: unknown; path?: string; reason?: string } {
  return { reason: 'a browser runs no native code' };
}

export function wantedInstructionSet(): string | undefined {
  return undefined;
}

/** Nobody starts pages together. */
export function launched(): Launched | undefined {
  return undefined;
}

export function mpiLibraries(): readonly string[] {
  return [];
}

export function threadsBeside(available: number): number {
  return available;
}

export const processName = () => 'a page';

export function secondsToSave(): number | undefined {
  return undefined;
}

export function bytesOfValue(): Uint8Array {
  throw new FailureError('pages exchange nothing with each other');
}

export function valueOfBytes(): unknown {
  return bytesOfValue();
}

export function availableThreads(): number {
  return Math.min(navigator.hardwareConcurrency ?? 1, 64);
}

export function startComputeWorker(receive: (message: unknown) => void, failed: (error: Error) => void): ComputeWorker {
  const worker = new Worker(new URL('./wasm_worker.js', import.meta.url), { type: 'module' });
  worker.addEventListener('message', ({ data }) => receive(data));
  worker.addEventListener('error', ({ message }) => failed(new Error(message || 'its worker cannot be loaded; the console says why')));
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer as Transferable[]),
    hold() {},
    end: () => worker.terminate(),
  };
}

/** Written out one by one, so that bundlers find them. */
const wasmFiles: Record<string, string> = {
  'ufb-simd': new URL('./ufb-simd.wasm', import.meta.url).href,
  'ufb-simd-threads': new URL('./ufb-simd-threads.wasm', import.meta.url).href,
  'ufb-relaxed': new URL('./ufb-relaxed.wasm', import.meta.url).href,
  'ufb-relaxed-threads': new URL('./ufb-relaxed-threads.wasm', import.meta.url).href,
};

/** The address of a WASM build, by its name. */
export function wasmFile(name: string): Uint8Array | string {
  return wasmFiles[name];
}

/** Why there is no WASM backend, in one line; undefined if there is one. */
export function wasmMissing(): string | undefined {
  return typeof WebAssembly === 'undefined' ? 'this page may not use WebAssembly' : undefined;
}

/** Browsers have relaxed SIMD, or they have not. */
export function enableRelaxedSimd(): void {}

/** WebGPU's door, or one line on why there is none. */
export async function webGpu(): Promise<GPU | string> {
  return navigator.gpu ?? "this browser has no WebGPU, or not on this page (it wants https:// or localhost): leave out device 'webgpu'";
}
