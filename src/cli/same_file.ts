import { realpath } from 'node:fs/promises';
import { InputError } from '../errors.ts';

/** @throws InputError if a file that is to be written is one that is read; `inputs` that are not given or not there do not matter */
export async function refuseSameFile(option: string, out: string | undefined, inputs: readonly (string | undefined)[]): Promise<void> {
  const real = (path: string | undefined) => (path === undefined ? undefined : realpath(path).catch(() => undefined));
  const written = await real(out);
  if (written === undefined) return;
  for (const input of inputs)
    if ((await real(input)) === written) throw new InputError(`${option} ${out} is ${input}, which is read: expected another`);
}
