/** The hub's files in a browser: kept by the Cache API under their addresses, which name the commit and so never change what they mean. */
import { FailureError } from '../errors.ts';
import type { HubCache, HubEnvironment, HubFile } from './node_hub.ts';

export class WrongContentError extends Error {}

const cacheName = 'ultrafastbert';

/** Pages have no environment; what is wanted is handed in. */
export async function hubEnvironment(): Promise<HubEnvironment> {
  return { offline: false };
}

/** Undefined where pages have none: those that came over plain HTTP from another machine, or that the browser lets keep nothing. */
async function openCache(): Promise<Cache | undefined> {
  try {
    return await globalThis.caches?.open(cacheName);
  } catch {
    return undefined;
  }
}

/** What came of downloads that broke off, by their addresses: the page's next try goes on from there. */
const begun = new Map<string, Blob>();

/** The answer that is kept for an address, if there is one. */
export async function keptResponse(path: string): Promise<Response | undefined> {
  return /\/resolve\/[\da-f]{40}\//.test(path) ? await (await openCache())?.match(path) : undefined;
}

/** The cache of the model `name` of the hub at `hubUrl`. */
export async function openHubCache(name: string, hubUrl: string): Promise<HubCache> {
  const cache = await openCache();
  const folder = (commit: string) => `${hubUrl}/${name}/resolve/${commit}`;
  const keep = async (address: string, response: Response) => {
    try {
      await cache?.put(address, response);
    } catch (error) {
      throw new FailureError(`${address}: the browser cannot keep it: ${(error as Error).message}`, { cause: error });
    }
  };
  const reference = (revision: string) => `${hubUrl}/api/models/${name}/revision/${encodeURIComponent(revision)}`;
  return {
    folder,
    commitOf: async (revision) => (await cache?.match(reference(revision)))?.text(),
    async remember(revision, commit) {
      await keep(reference(revision), new Response(commit));
    },
    has: async (commit, path) => (await cache?.match(`${folder(commit)}/${path}`))?.ok === true,
    lacks: async (commit, path) => (await cache?.match(`${folder(commit)}/${path}`))?.status === 404,
    async add(commit, file, download) {
      if (!cache) return; // nothing can be kept: files are read from where they lie
      const address = `${folder(commit)}/${file.path}`;
      // One at a time, in whichever of the site's pages.
      await navigator.locks.request(`${cacheName} ${address}`, async () => {
        if ((await cache.match(address))?.ok) return;
        const blob = await complete(address, file, download);
        begun.delete(address);
        await check(file, blob);
        await keep(address, new Response(blob));
      });
    },
    async addMissing(commit, path) {
      await keep(`${folder(commit)}/${path}`, new Response(null, { status: 404 }));
    },
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
