/** What a command writes must not be what it, or another, still needs. */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { InputError } from '../errors.ts';
import { kindOf } from '../io/files.ts';
import { isUsualModule } from '../io/sentence_folder.ts';

/** What makes a folder a model's, with what belongs to its tokenizer and its vectors. */
const ofModel =
  /^((tokenizer_|sentence_bert_)?config|config_sentence_transformers|tokenizer|modules)\.json$|\.safetensors(\.index\.json)?$/;

/**
 * `read`: files that the command reads; those that are not given or not there do not matter. `folder`: one that it keeps for a run.
 * @throws InputError if a file that is to be written is one of these, lies in the folder, or is another model's or run's
 */
export async function checkOutput(
  option: string,
  out: string | undefined,
  { read = [], folder }: { read?: readonly (string | undefined)[]; folder?: string },
): Promise<void> {
  if (out === undefined) return;
  const written = await withoutLinks(out);
  for (const input of read)
    if (input !== undefined && (await withoutLinks(input)) === written)
      throw new InputError(`${option} ${out} is ${input}, which is read: expected another`);
  if (folder !== undefined && liesIn(written, await withoutLinks(folder)))
    throw new InputError(`${option} ${out} lies in ${folder}, which is kept for the run, expected another folder`);
  const own = dirname(written);
  for (let path = own; dirname(path) !== path; path = dirname(path))
    if (basename(path) === 'run' && (await isFile(join(path, 'options.json'))))
      throw new InputError(`${option} ${out} lies in ${path}, which a run is resumed from, expected another folder`);
  if (
    ofModel.test(basename(written)) &&
    (await isFile(written)) &&
    ((await isModel(own)) || (isUsualModule(basename(own)) && (await isModel(dirname(own)))))
  )
    throw new InputError(`${option} ${out} is a file of the model in ${dirname(out)}, expected another`);
}

/** @throws InputError if a folder into which a model's files are to be written holds a run, or a link to what one of them would replace */
export async function checkModelOutput(option: string, folder: string, files: readonly string[]): Promise<void> {
  if (await isFile(join(folder, 'run', 'options.json')))
    throw new InputError(`${option} ${folder} holds a run, which could not be resumed with another model in it: expected another folder`);
  for (const file of files)
    if ((await lstat(join(folder, file)).catch(() => undefined))?.isSymbolicLink())
      throw new InputError(`${option} ${folder}: ${file} is a link, and what it leads to would be replaced: expected another folder`);
}

/** The path that a name stands for, be it there already or not. */
async function withoutLinks(path: string): Promise<string> {
  const whole = resolve(path);
  try {
    return await realpath(whole);
  } catch {
    const above = dirname(whole);
    return above === whole ? whole : join(await withoutLinks(above), basename(whole));
  }
}

function liesIn(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way !== '..' && !way.startsWith(`..${sep}`) && resolve(folder, way) === path;
}

async function isModel(folder: string): Promise<boolean> {
  const weights = (await isFile(join(folder, 'model.safetensors'))) || (await isFile(join(folder, 'model.safetensors.index.json')));
  return (weights && (await isFile(join(folder, 'config.json')))) || (await isFile(join(folder, 'run', 'options.json')));
}

/** What cannot be looked at is not written either. */
const isFile = async (path: string) => (await kindOf(path).catch(() => 'other')) === 'file';
