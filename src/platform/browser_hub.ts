/**
 * The hub's files in a browser: kept by the Cache API under their addresses, which name the commit and so never change what they mean. Where
 * the browser keeps nothing, or has no room, the page itself keeps them as long as it is open: whoever opens them finds them either way.
 */
import { FailureError } from '../errors.ts';
import type { HubCache, HubEnvironment, HubFile } from './node_hub.ts';

export class WrongContentError extends Error {}

const cacheName = 'ultrafastbert';

/** Pages have no environment; what is wanted is handed in. */
export async function hubEnvironment(): Promise<HubEnvironment> {
  return { offline: false };
}

/** Undefined where pages have none: the browser lets them keep nothing. */
async function openCache(): Promise<Cache | undefined> {
  try {
    return await globalThis.caches?.open(cacheName);
  } catch {
    return undefined;
  }
}

/** What the page keeps for the browser, by its address. */
const keptByPage = new Map<string, () => Response>();

/** What came of downloads that broke off, by their addresses: the page's next try goes on from there. */
const begun = new Map<string, Blob>();

async function find(cache: Cache | undefined, address: string): Promise<Response | undefined> {
  return keptByPage.get(address)?.() ?? (await cache?.match(address));
}

/** The answer that is kept for an address, if there is one. */
export async function keptResponse(path: string): Promise<Response | undefined> {
  return /\/resolve\/[\da-f]{40}\//.test(path) ? await find(await openCache(), path) : undefined;
}

/**
 * The cache of the model `name` of the hub at `hubUrl`.
 * @throws FailureError on a page that cannot check what it downloads
 */
export async function openHubCache(name: string, hubUrl: string): Promise<HubCache> {
  if (!globalThis.crypto?.subtle)
    throw new FailureError(
      `${name}: this page cannot check the hashes of what the hub sends, for browsers leave that (crypto.subtle) to pages that came over HTTPS or from localhost: serve it so, or serve the model's files yourself and name the address of their folder`,
    );
  const cache = await openCache();
  const folder = (commit: string) => `${hubUrl}/${name}/resolve/${commit}`;
  const keep = async (address: string, response: () => Response) => {
    keptByPage.set(address, response);
    if (!cache) return;
    try {
      await cache.put(address, response());
      keptByPage.delete(address);
    } catch {
      // No room, say: the page has it.
    }
  };
  const reference = (revision: string) => `${hubUrl}/api/models/${name}/revision/${encodeURIComponent(revision)}`;
  return {
    folder,
    commitOf: async (revision) => (await find(cache, reference(revision)))?.text(),
    remember: (revision, commit) => keep(reference(revision), () => new Response(commit)),
    has: async (commit, path) => (await find(cache, `${folder(commit)}/${path}`))?.ok === true,
    lacks: async (commit, path) => (await find(cache, `${folder(commit)}/${path}`))?.status === 404,
    async add(commit, file, download, signal) {
      const address = `${folder(commit)}/${file.path}`;
      const addFile = async () => {
        if ((await find(cache, address))?.ok) return;
        const blob = await complete(address, file, download);
        begun.delete(address);
        await check(file, blob);
        await keep(address, () => new Response(blob));
      };
      // One at a time, in whichever of the site's pages; pages that may keep nothing may have no locks either.
      await (cache ? navigator.locks.request(`${cacheName} ${address}`, { signal }, addFile) : addFile());
    },
    addMissing: (commit, path) => keep(`${folder(commit)}/${path}`, () => new Response(null, { status: 404 })),
  };
}

/** The whole file, from where the last try broke off. */
async function complete(address: string, file: HubFile, download: Parameters<HubCache['add']>[2]): Promise<Blob> {
  const before = begun.get(address);
  const { offset, blocks } = await download(before?.size ?? 0);
  const parts: BlobPart[] = before ? [before.slice(0, offset)] : [];
  let length = offset;
  try {
    for await (const block of blocks) {
      length += block.length;
      if (length > file.size) break; // its hash will be found wrong
      parts.push(block as Uint8Array<ArrayBuffer>);
    }
    if (length < file.size) throw new Error(`the connection ended after ${length} of ${file.size} bytes`);
  } catch (error) {
    begun.set(address, new Blob(parts));
    throw error;
  }
  return new Blob(parts);
}

async function check({ size, sha256, gitHash }: HubFile, blob: Blob): Promise<void> {
  const bytes = await new Blob(sha256 ? [blob] : [`blob ${size}\0`, blob]).arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest(sha256 ? 'SHA-256' : 'SHA-1', bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (found !== (sha256 ?? gitHash)) throw new WrongContentError(`hash ${found}, expected ${sha256 ?? gitHash}`);
}
