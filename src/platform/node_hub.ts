/**
 * The hub's cache on the disk, laid out as huggingface_hub and other tools have it, so that they share it: `blobs` by their hashes, `snapshots`
 * of links to them, `refs` from branches to commits, `.no_exist` of empty files for what commits lack. What has not all come is
 * `HASH.ufb.incomplete`: others write `HASH.incomplete` under locks of their own.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, type FileHandle, lstat, open, readFile, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { onAbort } from '../abort.ts';
import { asideOf, errorCode, kindOf, makeFolder, removeParts, writeAside } from './node_files.ts';
import { holderText, staleAfter, stateOf, takeAway, touchEvery } from './node_lock.ts';

/** A file of a repository, as the hub lists it. */
export interface HubFile {
  /** In the repository, with '/'. */
  path: string;
  /** Bytes. */
  size: number;
  /** Git's hash of the content, in hexadecimal digits. */
  gitHash: string;
  /** Of large files: then `gitHash` is not that of the content. */
  sha256?: string;
}

/** Where the files of one repository are kept. */
export interface HubCache {
  /** The folder of a commit's files, for `openFile` and the others. */
  folder(commit: string): string;
  /** The commit that a revision was when it was last remembered. */
  commitOf(revision: string): Promise<string | undefined>;
  remember(revision: string, commit: string): Promise<void>;
  has(commit: string, path: string): Promise<boolean>;
  /** Whether it was noted that a commit lacks a file. */
  lacks(commit: string, path: string): Promise<boolean>;
  /**
   * Adds a file once all of it has come and its hash is right. What came of a download that broke off is kept, and asked for no more.
   * `download` gives the file's bytes from an offset not above the one asked for. `signal` ends the waiting for others who add the file.
   * @throws WrongContentError, with nothing kept, if the content is not what the hub lists; the signal's reason
   */
  add(
    commit: string,
    file: HubFile,
    download: (offset: number) => Promise<{ offset: number; blocks: AsyncIterable<Uint8Array> }>,
    signal?: AbortSignal,
  ): Promise<void>;
  /** Notes that a commit lacks a file. */
  addMissing(commit: string, path: string): Promise<void>;
}

/** What the environment says of the hub. */
export interface HubEnvironment {
  hubUrl?: string;
  accessToken?: string;
  offline: boolean;
}

export class WrongContentError extends Error {}

/** Of the variables that huggingface_hub reads too: HF_ENDPOINT, HF_TOKEN or the token that its login keeps, HF_HUB_OFFLINE. */
export async function hubEnvironment(): Promise<HubEnvironment> {
  const { env } = process;
  const kept = () => readFile(folderOf('HF_TOKEN_PATH') ?? join(hubHome(), 'token'), 'utf8').catch(() => '');
  const token = env.HF_TOKEN?.trim() || env.HUGGING_FACE_HUB_TOKEN?.trim() || (await kept()).trim();
  return {
    hubUrl: env.HF_ENDPOINT || undefined,
    accessToken: token || undefined,
    offline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE || ''),
  };
}

function hubHome(): string {
  return folderOf('HF_HOME') ?? join(folderOf('XDG_CACHE_HOME') ?? join(homedir(), '.cache'), 'huggingface');
}

/** The path in a variable. No shell has expanded a `~` that comes from a service's or a container's settings. */
function folderOf(variable: string): string | undefined {
  return process.env[variable]?.replace(/^~(?=\/|$)/, homedir()) || undefined;
}

/** The cache of the model `name`, OWNER/NAME, of whichever hub: in HF_HUB_CACHE, or `hub` in HF_HOME, or ~/.cache/huggingface/hub. */
export async function openHubCache(name: string, _hubUrl: string): Promise<HubCache> {
  const cache = folderOf('HF_HUB_CACHE') ?? folderOf('HUGGINGFACE_HUB_CACHE') ?? join(hubHome(), 'hub');
  const repository = join(cache, `models--${name.replace('/', '--')}`);
  const snapshot = (commit: string, path = '') => join(repository, 'snapshots', commit, path);
  const note = (commit: string, path: string) => join(repository, '.no_exist', commit, path);
  return {
    folder: snapshot,
    async commitOf(revision) {
      const text = await readFile(join(repository, 'refs', revision), 'utf8').catch(() => undefined);
      return text?.trim();
    },
    async remember(revision, commit) {
      const file = await writeAside(join(repository, 'refs', revision));
      try {
        await file.write(new TextEncoder().encode(commit));
        await file.commit();
      } catch (error) {
        await file.abort();
        throw error;
      }
    },
    has: async (commit, path) => (await kindOf(snapshot(commit, path))) === 'file',
    lacks: async (commit, path) => (await kindOf(note(commit, path))) === 'file',
    async add(commit, file, download, signal) {
      const blob = join(repository, 'blobs', file.sha256 ?? file.gitHash);
      const part = `${blob}.ufb.incomplete`;
      await makeFolder(dirname(blob));
      const unlock = await lock(part, signal);
      try {
        if ((await kindOf(blob)) !== 'file') {
          await complete(part, file, download);
          await rename(part, blob);
        }
        const target = snapshot(commit, file.path);
        if ((await kindOf(target)) !== 'file') await linkTo(blob, target);
      } finally {
        await unlock();
      }
    },
    async addMissing(commit, path) {
      await makeFolder(dirname(note(commit, path)));
      await writeFile(note(commit, path), '');
    },
  };
}

/** Renamed into its place, also over a link to a blob that somebody removed, so that nobody meets a gap. */
async function linkTo(blob: string, target: string): Promise<void> {
  await makeFolder(dirname(target));
  await removeParts(dirname(target));
  const aside = asideOf(target);
  await rm(aside, { force: true });
  // File systems and users that may have no links: a copy takes twice the space.
  await symlink(relative(dirname(target), blob), aside).catch(() => copyFile(blob, aside));
  await rename(aside, target);
}

/**
 * Brings a part up to the whole file, and checks it. Bytes are written at their own places: two who both believe that the part is theirs, for
 * one was stopped until its lock was taken over, then write the same.
 */
async function complete(part: string, file: HubFile, download: Parameters<HubCache['add']>[2]): Promise<void> {
  const handle = await open(part, constants.O_RDWR | constants.O_CREAT);
  let wrong: string | undefined;
  try {
    const { size } = await handle.stat();
    if (size > file.size) await handle.truncate(0);
    if (size !== file.size || size === 0) {
      const { offset, blocks } = await download(size < file.size ? size : 0);
      let length = offset;
      for await (const block of blocks) {
        if (length + block.length > file.size) {
          wrong = `more than ${file.size} bytes`;
          break;
        }
        for (let done = 0; done < block.length; )
          done += (await handle.write(block, done, block.length - done, length + done)).bytesWritten;
        length += block.length;
      }
      if (!wrong && length < file.size) throw new Error(`the connection ended after ${length} of ${file.size} bytes`);
      await handle.sync();
    }
    wrong ??= await wrongHash(handle, file);
  } finally {
    await handle.close();
  }
  if (wrong === undefined) return;
  await rm(part, { force: true });
  throw new WrongContentError(wrong);
}

async function wrongHash(handle: FileHandle, { size, sha256, gitHash }: HubFile): Promise<string | undefined> {
  const hash = createHash(sha256 ? 'sha256' : 'sha1');
  if (!sha256) hash.update(`blob ${size}\0`);
  for await (const block of handle.createReadStream({ start: 0, autoClose: false })) hash.update(block as Uint8Array);
  const found = hash.digest('hex');
  return found === (sha256 ?? gitHash) ? undefined : `hash ${found}, expected ${sha256 ?? gitHash}`;
}

/** The locks that this process holds or waits for, the last of each path. */
const locks = new Map<string, Promise<void>>();

/** Waits until nobody else, in this process or another, downloads to `path`. Returns what ends the lock. @throws the signal's reason */
async function lock(path: string, signal: AbortSignal | undefined): Promise<() => Promise<void>> {
  signal?.throwIfAborted();
  const before = locks.get(path);
  let done = () => {};
  const mine = new Promise<void>((resolve) => {
    done = () => {
      if (locks.get(path) === mine) locks.delete(path);
      resolve();
    };
  });
  locks.set(path, mine);
  if (before) await untilAborted(before, signal);
  const file = `${path}.lock`;
  const holder = holderText();
  try {
    await take(file, holder, signal);
  } catch (error) {
    done();
    throw error;
  }
  const touching = setInterval(() => {
    const now = new Date();
    utimes(file, now, now).catch(() => {}); // taken over, perhaps
  }, touchEvery);
  return async () => {
    clearInterval(touching);
    // Another's, if this process was stopped for a minute.
    if ((await readFile(file, 'utf8').catch(() => '')) === holder) await rm(file, { force: true });
    done();
  };
}

async function untilAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  let stop = () => {};
  const aborted = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const ended = signal && onAbort(signal, stop);
  await Promise.race([work, aborted]);
  ended?.();
}

/** Makes a lock's file, once there is none or nobody stands behind it. */
async function take(file: string, holder: string, signal: AbortSignal | undefined): Promise<void> {
  let touched: number | undefined;
  let since = 0;
  for (;;) {
    signal?.throwIfAborted();
    try {
      return await writeFile(file, holder, { flag: 'wx' });
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error;
    }
    const last = (await lstat(file).catch(() => undefined))?.mtimeMs;
    if (last !== touched) since = performance.now();
    touched = last;
    if (touched === undefined) continue;
    // By this clock too: a file server's may be ahead of the date here.
    const isStale = Math.max(Date.now() - touched, performance.now() - since) > staleAfter;
    if (isStale || stateOf(await readFile(file, 'utf8').catch(() => '')) === 'dead') await takeAway(file, touched);
    else await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
