/** Locks of files and folders that one process works on at a time. */
import { type Lock, tryLock } from '#platform';
import { InputError } from '../errors.ts';

/**
 * Takes the lock whose file is `file`. `place`: what is locked, for messages; `work`: what is done there.
 * @throws InputError if another process has it
 */
export async function takeLock(file: string, place: string, work: string): Promise<Lock> {
  const taken = await tryLock(file);
  if ('lock' in taken) return taken.lock;
  const { pid, host, runs } = taken.holder;
  throw new InputError(
    `${place}: process ${pid} on ${host} is at work on ${work}: wait for it, or end it${runs ? '' : '; if it is no more, try again in a minute'}`,
  );
}
