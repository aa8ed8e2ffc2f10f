/** Where the files of a sentence-transformers folder lie, by its modules.json. */
import * as v from 'valibot';
import { joinPath, listFolder } from '#platform';
import { InputError } from '../errors.ts';
import { readOptionalJson } from './checked_json.ts';
import { copyFiles, filesAmong, kindOf } from './files.ts';
import { pickledWeights, sentenceFiles, textSettingsFiles } from './model_files.ts';

/** A step from a text to its vector: a class of Python, and the folder of its files, below the model's; '' is that itself. */
export interface SentenceModule {
  type: string;
  path: string;
}

/** Of modules.json. */
export const sentenceModulesSchema = v.array(v.object({ type: v.string(), path: v.string() }));

/** A folder has three or four; each names files to be read. */
const maxModules = 16;
/** What a module's folder may hold: a Dense layer has weights, Normalize may have nothing. */
const moduleFiles = ['config.json', 'model.safetensors', pickledWeights];

/** Whether a folder's name is as sentence-transformers names those of modules. */
export const isUsualModule = (name: string): boolean => /^\d{1,2}_[A-Z]\w{0,30}$/.test(name);

/** The class's own name: Pooling of sentence_transformers.models.Pooling. */
export const classOf = ({ type }: { type: string }): string => type.split('.').at(-1) as string;

/** A path below the folder, written the shortest way; undefined if it leads out of it, or has names that no folder of modules has. */
export function modulePath(path: string): string | undefined {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  const fits = !path.startsWith('/') && path.length <= 200 && parts.every((part) => /^\w[\w .-]*$/.test(part));
  return fits ? parts.join('/') : undefined;
}

/**
 * The modules that a folder's modules.json lists, if it has one.
 * @throws InputError naming the file if it is damaged, or a path leads out of the folder
 */
export async function readModules(folder: string): Promise<SentenceModule[] | undefined> {
  const file = joinPath(folder, 'modules.json');
  const list = await readOptionalJson(file, sentenceModulesSchema);
  if (!list) return undefined;
  if (list.length > maxModules) throw new InputError(`${file}: lists ${list.length} modules, expected at most ${maxModules}`);
  return list.map(({ type, path: said }) => {
    const path = modulePath(said);
    if (path === undefined)
      throw new InputError(`${file}: module path ${JSON.stringify(said)}, expected a folder below this one, such as 1_Pooling`);
    return { type, path };
  });
}

/** The folder of the Transformer's files: the model's own, unless modules.json names one below it. */
export async function transformerFolder(folder: string): Promise<string> {
  const path = transformerPath((await readModules(folder)) ?? []);
  return path === '' ? folder : joinPath(folder, path);
}

export const transformerPath = (modules: readonly SentenceModule[]): string =>
  modules.find((module) => classOf(module) === 'Transformer')?.path ?? '';

/** What a folder has of the files in which sentence-transformers says how it pools and scales, and how long texts are; none if it is missing. */
export async function sentenceFilesOf(folder: string): Promise<string[]> {
  if ((await kindOf(folder)) !== 'folder') return [];
  const places = new Set((await listFolder(folder)).filter(isUsualModule));
  // A damaged list is told by whoever embeds.
  for (const module of (await readModules(folder).catch(() => undefined)) ?? [])
    if (module.path !== '' && classOf(module) !== 'Transformer') places.add(module.path);
  const below = [...places].flatMap((place) => moduleFiles.map((file) => joinPath(place, file)));
  return await filesAmong(folder, [...new Set([...sentenceFiles, ...textSettingsFiles]), ...below]);
}

export async function copySentenceFiles(from: string, to: string): Promise<void> {
  await copyFiles(from, to, await sentenceFilesOf(from));
}
