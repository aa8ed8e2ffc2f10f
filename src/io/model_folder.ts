import { joinPath, kindOf, shippedModelFolder } from '#platform';
import { InputError } from '../errors.ts';
import { fileError } from './files.ts';

/** What a model folder holds. */
export const modelFiles = ['config.json', 'model.safetensors', 'tokenizer.json'] as const;

/**
 * The folder of a model: the one named, or the shipped one.
 * @throws InputError if it is no folder or lacks one of `modelFiles`.
 */
export async function resolveModelFolder(model?: string): Promise<string> {
  const folder = model ?? shippedModelFolder();
  const kind = await kindOf(folder).catch((error) => Promise.reject(fileError(error, folder, 'read')));
  if (kind !== 'folder') {
    const found = kind === 'missing' ? 'no such folder' : 'is not a folder';
    throw new InputError(
      `${folder || "''"}: ${found}; expected a model folder with ${modelFiles.join(', ')}${model === undefined ? ' (the shipped model): pass --model DIR' : ''}`,
    );
  }
  const missing: string[] = [];
  for (const name of modelFiles) if ((await kindOf(joinPath(folder, name))) !== 'file') missing.push(name);
  if (missing.length > 0) throw new InputError(`${folder}: lacks ${missing.join(' and ')}; a model folder holds ${modelFiles.join(', ')}`);
  return folder;
}
