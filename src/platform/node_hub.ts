/**
 * The hub's cache on the disk, laid out as huggingface_hub and other tools have it, so that they share it: `blobs` by their hashes, `snapshots`
 * of links to them, `refs` from branches to commits.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, open, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { errorCode, kindOf, makeFolder, writeAside } from './node_files.ts';

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
  /** The folder of a commit's files, for {@link openFile} and the others. */
  folder(commit: string): string;
  /** The commit that a revision was when it was last remembered. */
  commitOf(revision: string): Promise<string | undefined>;
  remember(revision: string, commit: string): Promise<void>;
  has(commit: string, file: HubFile): Promise<boolean>;
  /**
   * Adds a file once all of it has come and its hash is right. What came of a download that broke off is kept, and asked for no more.
   * `download` gives the file's bytes from an offset not above the one asked for.
   * @throws WrongContentError, with nothing kept, if the content is not what the hub lists
   */
  add(
    commit: string,
    file: HubFile,
    download: (offset: number) => Promise<{ offset: number; blocks: AsyncIterable<Uint8Array> }>,
  ): Promise<void>;
  /** Notes that a commit lacks a file, where that would be asked again. */
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
  const tokenPath = env.HF_TOKEN_PATH ?? join(hubHome(), 'token');
  const kept = () => readFile(tokenPath, 'utf8').catch(() => '');
  const token = (env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN ?? (await kept())).trim();
  return {
    hubUrl: env.HF_ENDPOINT || undefined,
    accessToken: token || undefined,
    offline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? env.TRANSFORMERS_OFFLINE ?? ''),
  };
}

function hubHome(): string {
  return process.env.HF_HOME || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
}

/** The cache of the model `name`, OWNER/NAME, of whichever hub: in HF_HUB_CACHE, or `hub` in HF_HOME, or ~/.cache/huggingface/hub. */
export async function openHubCache(name: string, _hubUrl: string): Promise<HubCache> {
  const cache = process.env.HF_HUB_CACHE || process.env.HUGGINGFACE_HUB_CACHE || join(hubHome(), 'hub');
  const repository = join(cache, `models--${name.replace('/', '--')}`);
  const snapshot = (commit: string, path = '') => join(repository, 'snapshots', commit, path);
  return {
    folder: snapshot,
    async commitOf(revision) {
      const text = await readFile(join(repository, 'refs', revision), 'utf8').catch(() => undefined);
      return text?.trim();
    },
    async remember(revision, commit) {
      const file = await writeAside(join(repository, 'refs', revision));
      await file.write(new TextEncoder().encode(commit));
      await file.commit();
    },
    has: async (commit, { path }) => (await kindOf(snapshot(commit, path))) === 'file',
    async add(commit, file, download) {
      const blob = join(repository, 'blobs', file.sha256 ?? file.gitHash);
      const part = `${blob}.incomplete`;
      await makeFolder(dirname(blob));
      const unlock = await lock(part);
      try {
        if ((await kindOf(blob)) !== 'file') {
          await complete(part, file, download);
          await rename(part, blob);
        }
      } finally {
        await unlock();
      }
      const target = snapshot(commit, file.path);
      await makeFolder(dirname(target));
      await rm(target, { force: true }); // a link to a blob that somebody removed
      await symlink(relative(dirname(target), blob), target).catch(async (error) => {
        if (errorCode(error) === 'EEXIST') return; // another process was faster
        // File systems and users that may have no links: a copy takes twice the space.
        await copyFile(blob, `${target}.${process.pid}.part`);
        await rename(`${target}.${process.pid}.part`, target);
      });
    },
    async addMissing() {},
  };
}

/** Brings a part up to the whole file, and checks it. */
async function complete(part: string, file: HubFile, download: Parameters<HubCache['add']>[2]): Promise<void> {
  const handle = await open(part, 'a+');
  try {
    const { size } = await handle.stat();
    if (size !== file.size || size === 0) {
      const { offset, blocks } = await download(size < file.size ? size : 0);
      await handle.truncate(offset);
      let length = offset;
      for await (const block of blocks) {
        length += block.length;
        if (length > file.size) break;
        await handle.appendFile(block);
      }
      if (length < file.size) throw new Error(`the connection ended after ${length} of ${file.size} bytes`);
      if (length > file.size) await handle.truncate(0); // its hash will be found wrong
      await handle.sync();
    }
  } finally {
    await handle.close();
  }
  const { sha256, gitHash } = file;
  const hash = createHash(sha256 ? 'sha256' : 'sha1');
  if (!sha256) hash.update(`blob ${file.size}\0`);
  for await (const block of createReadStream(part)) hash.update(block as Uint8Array);
  const found = hash.digest('hex');
  if (found === (sha256 ?? gitHash)) return;
  await rm(part, { force: true });
  throw new WrongContentError(`hash ${found}, expected ${sha256 ?? gitHash}`);
}

/** The locks that this process holds or waits for, the last of each path. */
const locks = new Map<string, Promise<void>>();

/** Waits until nobody else, in this process or another, downloads to `path`. Returns what ends the lock. */
async function lock(path: string): Promise<() => Promise<void>> {
  const before = locks.get(path);
  let done = () => {};
  const mine = new Promise<void>((resolve) => {
    done = resolve;
  });
  locks.set(path, mine);
  await before;
  const file = `${path}.lock`;
  for (;;) {
    try {
      await writeFile(file, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') {
        done();
        throw error;
      }
      const holder = Number(await readFile(file, 'utf8').catch(() => ''));
      // Within this process, `locks` keeps order: a lock with its number is one that a killed process of the same number left.
      if (holder > 0 && (holder === process.pid || !isRunning(holder))) await rm(file, { force: true });
      else await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  return async () => {
    await rm(file, { force: true });
    if (locks.get(path) === mine) locks.delete(path);
    done();
  };
}

function isRunning(process_: number): boolean {
  try {
    process.kill(process_, 0);
    return true;
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}
