/** Files that say which process has something to itself, and names that say which process a file is of. */
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';

/** Who holds a lock touches it so often, and who has not for so long has lost it (another machine's, of which nothing else is known); in milliseconds. */
export const touchEvery = 10_000;
export const staleAfter = 60_000;

export interface Lock {
  release(): Promise<void>;
}

/** Who has a lock. */
export interface LockHolder {
  pid: number;
  host: string;
  /** It is of this machine and runs: not only touched lately. */
  runs: boolean;
}

/** Takes the lock whose file is `path`, or says who has it. One of a process that is no more is taken over. */
export async function tryLock(path: string): Promise<{ lock: Lock } | { holder: LockHolder }> {
  const own = holderText();
  for (;;) {
    if (await makeWith(path, own)) {
      await sweep(path);
      return { lock: await hold(path, own) };
    }
    const { text, touched } = await look(path);
    if (touched === undefined) continue;
    const state = stateOf(text);
    if (state === 'dead' || (state === 'unknown' && (await ageOf(path, touched)) > staleAfter)) {
      await takeAway(path, touched);
      continue;
    }
    const [pid, host = 'an unknown host'] = text.split(' ');
    return { holder: { pid: Number(pid), host, runs: state === 'runs' } };
  }
}

/** What a lock's file says of who has it. */
export function holderText(): string {
  return `${process.pid} ${hostname()} ${randomUUID()} ${place()} ${startOf(process.pid) ?? '-'}`;
}

/** Whether a process that wrote {@link holderText} runs still; 'unknown' of other machines' and containers'. */
export function stateOf(text: string): 'runs' | 'dead' | 'unknown' {
  const [number, host, , where, start] = text.split(' ');
  const pid = Number(number);
  // Numbers that strangers have tell nothing.
  if (!(pid > 0) || host !== hostname() || (where !== undefined && where !== place())) return 'unknown';
  if (!isAlive(pid)) return 'dead';
  // Numbers come back, in a container always the same ones.
  const now = startOf(pid);
  return start !== undefined && start !== '-' && now !== undefined && now !== start ? 'dead' : 'runs';
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Removes a lock that was last touched at `touched`, unless somebody else was faster and this is theirs. */
export async function takeAway(file: string, touched: number): Promise<void> {
  const aside = `${file}.${randomUUID()}`;
  try {
    await rename(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if ((await lstat(aside)).mtimeMs !== touched) await link(aside, file).catch(() => {});
  await rm(aside, { force: true, recursive: true });
}

let ownPlace: string | undefined;

/** Where numbers of processes mean the same: a boot of a machine, and in it a container. */
export function place(): string {
  const read = (work: () => string) => {
    try {
      return work();
    } catch {
      return ''; // no Linux
    }
  };
  ownPlace ??= createHash('sha256')
    .update(
      [hostname(), read(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')), read(() => readlinkSync('/proc/self/ns/pid'))].join(
        ' ',
      ),
    )
    .digest('hex')
    .slice(0, 8);
  return ownPlace;
}

/** When a process began, in Linux's own count. */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Its name, in brackets, may hold anything.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/** Makes a file with its content at once, so that nobody meets an empty one; false if there is one. */
async function makeWith(path: string, content: string): Promise<boolean> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await writeFile(aside, content, { flag: 'wx' });
    try {
      await link(aside, path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return false;
      // A file system without links.
      await writeFile(path, content, { flag: 'wx' });
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

async function hold(path: string, own: string): Promise<Lock> {
  // Written, not given a date: whose clock counts is the file system's.
  const handle: FileHandle = await open(path, 'r+');
  const touching = setInterval(() => {
    handle.write(own, 0).catch(() => {}); // the disk is full, perhaps: the process is seen to run all the same
  }, touchEvery);
  touching.unref();
  return {
    async release() {
      clearInterval(touching);
      await handle.close();
      // Another's, if this process was stopped for long.
      if ((await readFile(path, 'utf8').catch(() => '')) === own) await rm(path, { force: true });
    },
  };
}

/** What processes left that were killed while they took the lock. */
async function sweep(path: string): Promise<void> {
  const { mtimeMs: now } = await lstat(path);
  for (const name of await readdir(dirname(path))) {
    const other = join(dirname(path), name);
    if (!name.startsWith(`${basename(path)}.`)) continue;
    const then = (await lstat(other).catch(() => undefined))?.mtimeMs ?? now;
    if (now - then > staleAfter) await rm(other, { force: true });
  }
}

async function look(path: string): Promise<{ text: string; touched?: number }> {
  const touched = (await lstat(path).catch(() => undefined))?.mtimeMs;
  return { text: await readFile(path, 'utf8').catch(() => ''), touched };
}

/** By the clock of the file system. */
async function ageOf(path: string, touched: number): Promise<number> {
  const probe = `${path}.${randomUUID()}`;
  try {
    await writeFile(probe, '', { flag: 'wx' });
    return (await lstat(probe)).mtimeMs - touched;
  } finally {
    await rm(probe, { force: true });
  }
}
