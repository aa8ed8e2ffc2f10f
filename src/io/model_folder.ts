import * as v from 'valibot';
import { errorCode, isModelFolder, joinPath, type RandomAccessFile, shippedModelFolder } from '#platform';
import { InputError } from '../errors.ts';
import { kindOf, readJson } from './files.ts';
import type { HubOptions } from './hub.ts';
import { modelFiles, pickledError, pickledWeights, vocabularyFile, weightsIndex, weightsIndexSchema } from './model_files.ts';
import { readSafetensors, SafetensorsFile, type TensorInfo } from './safetensors.ts';
import { transformerFolder } from './sentence_folder.ts';

const maxShards = 1000;

/** OWNER/NAME as the hub has them; './OWNER/NAME' and '/OWNER/NAME' are folders and nothing else. */
const hubName = /^[A-Za-z\d][\w.-]{0,95}\/[A-Za-z\d][\w.-]{0,95}$/;

export interface FolderOptions extends HubOptions {
  /** The model is to make vectors of sentences: its files may lie where modules.json says ({@link transformerFolder}). */
  forSentences?: boolean;
}

/**
 * The folder of a model: the one named, or the shipped one. A name like 'OWNER/NAME' that is no folder here is looked up on the hub, and
 * its files are downloaded into the cache unless they are there.
 * @throws InputError if it is no folder or lacks one of `modelFiles`, or the hub does not have it; FailureError if the download fails; the
 *   signal's reason.
 */
export async function resolveModelFolder(model?: string, options: FolderOptions = {}): Promise<string> {
  options.signal?.throwIfAborted();
  if (model !== undefined && hubName.test(model) && !(await isModelFolder(model))) {
    const { downloadModel } = await import('./hub.ts');
    return await checkModelFolder(await downloadModel(model, options), options);
  }
  if (options.revision !== undefined)
    throw new InputError(
      `${model ?? 'the shipped model'} is a folder, which has no revision ${JSON.stringify(options.revision)}: models of the hub do`,
    );
  return await checkModelFolder(model ?? shippedModelFolder(), options);
}

async function checkModelFolder(folder: string, { forSentences }: FolderOptions): Promise<string> {
  const kind = await kindOf(folder);
  if (kind !== 'folder') {
    const found = kind === 'missing' ? 'no such folder' : 'is not a folder';
    throw new InputError(
      `${folder || "''"}: ${found}; expected a model folder with ${modelFiles.join(', ')}, or OWNER/NAME of a model on the hub`,
    );
  }
  const own = forSentences ? await transformerFolder(folder) : folder;
  const has = async (name: string) => (await kindOf(joinPath(own, name))) === 'file';
  const missing: string[] = [];
  for (const name of modelFiles) {
    if ((await has(name)) || (name === 'model.safetensors' && (await has(weightsIndex)))) continue;
    if (name === 'model.safetensors' && (await has(pickledWeights))) throw pickledError(own, own);
    if (name === 'tokenizer.json' && (await has(vocabularyFile))) continue;
    missing.push(name);
  }
  if (missing.includes('config.json') && !forSentences) {
    const below = await transformerFolder(folder).catch(() => folder);
    if (below !== folder)
      throw new InputError(
        `${folder}: by its modules.json the model lies in ${below}: vectors are made of this folder, for all else name that one`,
      );
  }
  if (missing.length > 0) throw new InputError(`${own}: lacks ${missing.join(' and ')}; a model folder holds ${modelFiles.join(', ')}`);
  return folder;
}

/**
 * A folder's weights: model.safetensors, or the files that model.safetensors.index.json names, as if they were one.
 * @throws InputError naming the file that is missing, damaged, or does not fit the others.
 */
export async function openWeights(folder: string): Promise<SafetensorsFile> {
  try {
    return await readSafetensors(joinPath(folder, 'model.safetensors'));
  } catch (error) {
    if (errorCode((error as Error).cause) !== 'ENOENT') throw error;
    const path = joinPath(folder, weightsIndex);
    let index: unknown;
    try {
      index = await readJson(path);
    } catch (indexError) {
      throw errorCode((indexError as Error).cause) === 'ENOENT' ? error : indexError;
    }
    return await openShards(folder, path, index);
  }
}

async function openShards(folder: string, path: string, index: unknown): Promise<SafetensorsFile> {
  const result = v.safeParse(weightsIndexSchema, index);
  if (!result.success)
    throw new InputError(`${path}: '${v.getDotPath(result.issues[0]) ?? 'weight_map'}' is not a map from tensors to files`);
  const map = Object.entries(result.output.weight_map);
  const names = [...new Set(map.map(([, name]) => name))].sort();
  // Names in this folder, and nothing that leads out of it.
  const wrong = names.find((name) => !/^\w[\w.-]*\.safetensors$/.test(name));
  if (wrong !== undefined)
    throw new InputError(`${path}: names the file ${JSON.stringify(wrong)}, expected a .safetensors file of this folder`);
  if (names.length === 0 || names.length > maxShards)
    throw new InputError(`${path}: names ${names.length} files, expected 1 to ${maxShards}`);
  const shards: SafetensorsFile[] = [];
  try {
    for (const name of names) shards.push(await readSafetensors(joinPath(folder, name)));
    for (const [tensor, name] of map) {
      if (!shards[names.indexOf(name)].has(tensor)) throw new InputError(`${path}: has tensor '${tensor}' in ${name}, which lacks it`);
    }
    return joinShards(path, shards);
  } catch (error) {
    for (const shard of shards) await shard.close();
    throw error;
  }
}

/** Between the values of two files, so that nothing is read across. */
const gap = 8;

function joinShards(name: string, shards: readonly SafetensorsFile[]): SafetensorsFile {
  const entries = new Map<string, TensorInfo>();
  const starts: number[] = [];
  let size = 0;
  for (const shard of shards) {
    starts.push(size);
    for (const tensor of shard.names) {
      if (entries.has(tensor))
        throw new InputError(`${shard.source}: holds tensor '${tensor}', which another file of this model holds too`);
      const { start, end, ...rest } = shard.info(tensor);
      entries.set(tensor, { ...rest, start: start + size, end: end + size });
    }
    size = [...entries.values()].reduce((most, { end }) => Math.max(most, end), size) + gap;
  }
  const all: RandomAccessFile = {
    name,
    size,
    read(offset, length, into) {
      const index = starts.findLastIndex((start) => start <= offset);
      return shards[index].readBytes(offset - starts[index], length, into);
    },
    async close() {
      for (const shard of shards) await shard.close();
    },
  };
  return new SafetensorsFile(all, entries, 0, shards[0].metadata);
}
