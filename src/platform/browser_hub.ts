/** The hub's files in a browser: kept by the Cache API under their addresses, which name the commit and so never change what they mean. */
import type { HubCache, HubEnvironment, HubFile } from './node_hub.ts';

export class WrongContentError extends Error {}

const cacheName = 'ultrafastbert';

/** Pages have no environment; what is wanted is handed in. */
export async function hubEnvironment(): Promise<HubEnvironment> {
  return { offline: false };
}

/** Undefined where pages have none: those that came over plain HTTP from another machine. */
async function openCache(): Promise<Cache | undefined> {
  return typeof caches === 'undefined' ? undefined : await caches.open(cacheName);
}

/** The answer that is kept for an address, if there is one. */
export async function keptResponse(path: string): Promise<Response | undefined> {
  return /\/resolve\/[\da-f]{40}\//.test(path) ? await (await openCache())?.match(path) : undefined;
}

/** The cache of the model `name` of the hub at `hubUrl`. */
export async function openHubCache(name: string, hubUrl: string): Promise<HubCache> {
  const cache = await openCache();
  const folder = (commit: string) => `${hubUrl}/${name}/resolve/${commit}`;
  const reference = (revision: string) => `${hubUrl}/api/models/${name}/revision/${encodeURIComponent(revision)}`;
  return {
    folder,
    commitOf: async (revision) => (await cache?.match(reference(revision)))?.text(),
    async remember(revision, commit) {
      await cache?.put(reference(revision), new Response(commit));
    },
    has: async (commit, { path }) => !cache || (await cache.match(`${folder(commit)}/${path}`))?.ok === true,
    async add(commit, file, download) {
      const { blocks } = await download(0);
      const parts: BlobPart[] = [];
      let length = 0;
      for await (const block of blocks) {
        length += block.length;
        if (length > file.size) break;
        parts.push(block as Uint8Array<ArrayBuffer>);
      }
      if (length < file.size) throw new Error(`the connection ended after ${length} of ${file.size} bytes`);
      const blob = new Blob(parts);
      await check(file, blob);
      await cache?.put(`${folder(commit)}/${file.path}`, new Response(blob));
    },
    async addMissing(commit, path) {
      await cache?.put(`${folder(commit)}/${path}`, new Response(null, { status: 404 }));
    },
  };
}

async function check({ size, sha256, gitHash }: HubFile, blob: Blob): Promise<void> {
  const bytes = await new Blob(sha256 ? [blob] : [`blob ${size}\0`, blob]).arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest(sha256 ? 'SHA-256' : 'SHA-1', bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (found !== (sha256 ?? gitHash)) throw new WrongContentError(`hash ${found}, expected ${sha256 ?? gitHash}`);
}
