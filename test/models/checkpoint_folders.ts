import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Storage } from '../../src/backend/tensor.ts';
import { InputError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/io/safetensors_writer.ts';
import { goldenPath } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';

/** Knows how much memory is held. */
export class CountingDevice extends ReferenceDevice {
  held = 0;
  override allocate(bytes: number): Storage {
    this.held++;
    return super.allocate(bytes);
  }
  override release(storage: Storage): void {
    this.held--;
    super.release(storage);
  }
}

export const temporary = temporaryFolder();
let folders = 0;
export const newFolder = () => join(temporary, `${++folders}`);
/** A copy of a golden checkpoint that a test may spoil. */
export function copyOf(golden: string): string {
  const folder = newFolder();
  mkdirSync(folder);
  for (const name of ['config.json', 'model.safetensors']) cpSync(goldenPath(golden, name), join(folder, name));
  return folder;
}

/** Rewrites a checkpoint's tensors. */
export async function change(folder: string, edit: (tensors: Map<string, TensorToWrite>) => void): Promise<void> {
  const path = join(folder, 'model.safetensors');
  const tensors = new Map<string, TensorToWrite>();
  {
    await using file = await readSafetensors(path);
    for (const name of file.names) tensors.set(name, { name, dtype: 'F32', shape: file.info(name).shape, values: await file.read(name) });
  }
  edit(tensors);
  await writeSafetensors(path, tensors.values());
}

/** What is said of a checkpoint that is refused; all memory is given back. */
export async function refusal(device: CountingDevice, attempt: Promise<unknown>): Promise<string> {
  const error = await attempt.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(InputError);
  expect((error as Error).message).not.toContain('\n');
  expect(device.held, 'memory is given back').toBe(0);
  return (error as Error).message;
}
