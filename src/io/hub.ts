/** Models by their names on the Hugging Face hub, or a mirror of it. */
import * as v from 'valibot';
import { type HubCache, type HubFile, hubEnvironment, joinPath, openHubCache } from '#platform';
import { FailureError, InputError } from '../errors.ts';
import { fileError, maximumJsonBytes, readJson } from './files.ts';
import { CallbackError, commitPattern, type DiskError, HubClient, isOfDisk, UnavailableError } from './hub_client.ts';
import {
  generationFiles,
  modelFiles,
  pickledError,
  pickledWeights,
  sentenceFiles,
  textSettingsFiles,
  tokenizerFiles,
  vocabularyFile,
  weightsIndex,
  weightsIndexSchema,
} from './model_files.ts';
import { classOf, modulePath, type SentenceModule, sentenceModulesSchema, transformerPath } from './sentence_folder.ts';

/** How far the download of a file is, as transformers.js tells it. */
export interface DownloadProgress {
  status: 'progress';
  /** The model, OWNER/NAME. */
  name: string;
  file: string;
  /** Bytes that have come. */
  loaded: number;
  /** Bytes of the file. */
  total: number;
  /** Percent. */
  progress: number;
}

/** For models that are named as on the hub. */
export interface HubOptions {
  /** A branch, tag or commit; 'main' by default. */
  revision?: string;
  /** The hub's address, or a mirror's; by default the variable HF_ENDPOINT, or https://huggingface.co. */
  hubUrl?: string;
  /** For models that are not public; by default the variable HF_TOKEN, or the token that `hf auth login` keeps. Sent to the hub alone. */
  accessToken?: string;
  /** Is told how far a download is. What it throws ends the download. */
  progress_callback?: (progress: DownloadProgress) => void;
  /** Is told, in one line, where a model that is opened without the hub may lack a file. */
  notice?: (message: string) => void;
  /** Stops the opening: it rejects with the signal's reason. What has come of a download is kept, and the next try goes on from there. */
  signal?: AbortSignal;
}

/** Nothing else is downloaded than `modelFiles`, these, and what modules of sentence-transformers need, whatever a repository has. */
const optionalFiles = [...tokenizerFiles, ...sentenceFiles];
const moduleFiles = ['config.json', 'model.safetensors'];
const shard = /^model-\d{5}-of-\d{5}\.safetensors$/;
const weights = modelFiles[1];

/**
 * The folder of a model's files in the cache, after those that are missing were downloaded: resumed where they had broken off, and checked
 * against the hashes that the hub lists. Where the hub does not answer (no connection, 429, 5xx), or HF_HUB_OFFLINE is set, the files that the
 * cache has.
 * @param name OWNER/NAME
 * @throws InputError if the hub does not have the model or does not give it, or it is none that can be read; FailureError if it cannot be
 *   reached or what comes is damaged; the signal's reason; what `progress_callback` throws.
 */
export async function downloadModel(name: string, options: HubOptions = {}): Promise<string> {
  const { revision = 'main', progress_callback, signal, notice = () => {} } = options;
  if (!/^\w[\w.-]*(\/\w[\w.-]*){0,5}$/.test(revision))
    throw new InputError(`revision ${JSON.stringify(revision)} is not one, expected a branch, tag or commit`);
  const environment = await hubEnvironment();
  const hubUrl = addressOf(options.hubUrl ?? environment.hubUrl ?? 'https://huggingface.co');
  const hub = new HubClient(hubUrl, name, checkedToken(options.accessToken ?? environment.accessToken), signal);
  const cache = await openHubCache(name, hubUrl);
  try {
    const { kept, usable, lacking } = await find(cache, revision);
    const withoutHub = (reason: string) => {
      if (kept === undefined) notice(`${name}: ${reason}, and ${lacking}`);
      return cache.folder(usable as string);
    };
    if (kept !== undefined && kept === revision) return cache.folder(kept); // a commit never changes
    if (environment.offline) {
      if (usable === undefined) throw new FailureError(`${name}: no such folder here, HF_HUB_OFFLINE is set, and ${lacking}`);
      return withoutHub('HF_HUB_OFFLINE is set');
    }
    try {
      // Whoever has the model does not wait for a hub that does not answer.
      if (usable !== undefined) hub.hurry();
      const commit = await hub.commitOf(revision);
      if (commit !== kept) await update(hub, cache, commit, name, progress_callback);
      // What is needed is there: that a cache cannot be written, for others share it, does not matter any more.
      if (revision !== commit && (await cache.commitOf(revision)) !== commit) await cache.remember(revision, commit).catch(() => {});
      return cache.folder(commit);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (usable === undefined) throw new FailureError(`${error.message}; ${lacking}`, { cause: error });
      return withoutHub(error.message);
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof CallbackError) throw error.thrown;
    throw isOfDisk(error) ? diskError(error) : error;
  }
}

/** Brings a commit's files that are missing into the cache. */
async function update(
  hub: HubClient,
  cache: HubCache,
  commit: string,
  name: string,
  report: HubOptions['progress_callback'],
): Promise<void> {
  const files = await hub.files(commit);
  const download = async (file: HubFile) => {
    if (await cache.has(commit, file.path)) return;
    const { path, size } = file;
    await hub.download(cache, commit, file, (loaded) =>
      report?.({ status: 'progress', name, file: path, loaded, total: size, progress: (100 * loaded) / (size || 1) }),
    );
  };
  // Whatever lacks a file is refused before anything comes. Where the rest lies modules.json says.
  if (files.has('config.json') || !files.has('modules.json')) choose(name, files, []);
  for (const path of ['config.json', 'modules.json']) {
    const file = files.get(path);
    if (file) await download(checkedSize(name, file));
  }
  const { wanted, missing } = choose(name, files, files.has('modules.json') ? await readModulesOf(cache, commit) : []);
  for (const file of wanted) await download(file);
  for (const path of missing) if (!(await cache.lacks(commit, path))) await cache.addMissing(commit, path).catch(() => {});
}

/** The modules that a commit's modules.json lists, as far as it is what it should be: whoever opens it says what is wrong. */
async function readModulesOf(cache: HubCache, commit: string): Promise<SentenceModule[]> {
  const modules = await readCached(cache, commit, 'modules.json', sentenceModulesSchema);
  return (modules ?? []).flatMap(({ type, path: said }) => {
    const path = modulePath(said);
    return path === undefined ? [] : [{ type, path }];
  });
}

async function readCached<T>(cache: HubCache, commit: string, path: string, schema: v.GenericSchema<unknown, T>): Promise<T | undefined> {
  const result = v.safeParse(schema, await readJson(joinPath(cache.folder(commit), path)).catch(() => undefined));
  return result.success ? result.output : undefined;
}

function checkedSize(name: string, file: HubFile): HubFile {
  if (file.path.endsWith('.json') && file.size > maximumJsonBytes)
    throw new InputError(`${name}: ${file.path} has ${file.size} bytes on the hub, expected at most ${maximumJsonBytes}`);
  return file;
}

function diskError(error: DiskError): Error {
  const { path = 'the cache of models', syscall, message } = error;
  const worded = fileError(error, path, /stat|read|scandir/.test(syscall) ? 'read' : 'write');
  const hint = 'downloads are kept there; the variable HF_HUB_CACHE names another folder for them';
  for (const Kind of [InputError, FailureError])
    if (worded instanceof Kind) return new Kind(`${worded.message}; ${hint}`, { cause: error });
  return new FailureError(`${path}: ${message}; ${hint}`, { cause: error });
}

/** Not to be told by whatever refuses it as a header, which would print it. */
function checkedToken(given: string | undefined): string | undefined {
  const token = given?.trim();
  if (token && !/^[\x21-\x7e]+$/.test(token))
    throw new InputError(
      "the hub's token (HF_TOKEN, the file that 'hf auth login' keeps, or accessToken) has characters that none has, a line end or a space say; copy it anew",
    );
  return token || undefined;
}

function addressOf(hubUrl: string): string {
  if (!/^https?:\/\//.test(hubUrl) || !URL.canParse(hubUrl))
    throw new InputError(`the hub's address ${JSON.stringify(hubUrl)} is not one, expected https://…`);
  return hubUrl.replace(/\/+$/, '');
}

/**
 * The commit that a revision was when it was last asked for: `kept` if the cache holds it whole, `usable` if it holds what a model must have;
 * and what is lacking, if anything is.
 */
async function find(cache: HubCache, revision: string): Promise<{ kept?: string; usable?: string; lacking: string }> {
  const commit = commitPattern.test(revision) ? revision : await cache.commitOf(revision);
  const nothing = `the cache does not hold revision ${revision} of this model`;
  if (commit === undefined || !commitPattern.test(commit)) return { lacking: nothing };
  if (!(await cache.has(commit, 'config.json')) && !(await cache.has(commit, 'modules.json'))) return { lacking: nothing };
  const path = await lackingFile(cache, commit);
  if (path !== undefined)
    return { lacking: `the cache holds revision ${revision} of this model without ${path}: open it once online, which completes it` };
  const unknown: string[] = [];
  for (const optional of optionalFiles)
    if (!(await cache.has(commit, optional)) && !(await cache.lacks(commit, optional))) unknown.push(optional);
  if (unknown.length === 0) return { kept: commit, usable: commit, lacking: '' };
  return {
    usable: commit,
    lacking: `the cache does not tell whether the model has ${unknown.join(', ')}: it is opened without; if it is one of sentence-transformers, open it once online, or its vectors may be others`,
  };
}

/** The folders that hold what a model must have: the repository's own, that of its Transformer, or both. */
function placesOf(modules: readonly SentenceModule[], hasOwn: boolean): string[] {
  const place = transformerPath(modules);
  return place === '' ? [''] : hasOwn ? ['', place] : [place];
}

const pathIn = (place: string, file: string) => (place === '' ? file : `${place}/${file}`);

/** A file that a model must have and the cache lacks. */
async function lackingFile(cache: HubCache, commit: string): Promise<string | undefined> {
  const has = (path: string) => cache.has(commit, path);
  const modules = (await has('modules.json')) ? await readModulesOf(cache, commit) : [];
  const needed: string[] = [];
  for (const module of modules)
    if (/^(Pooling|Dense|LayerNorm)$/.test(classOf(module)) && module.path !== '')
      needed.push(...(classOf(module) === 'Pooling' ? ['config.json'] : moduleFiles).map((file) => pathIn(module.path, file)));
  for (const place of placesOf(modules, await has('config.json'))) {
    const at = (file: string) => pathIn(place, file);
    needed.push(at('config.json'), at((await has(at(vocabularyFile))) ? vocabularyFile : 'tokenizer.json'));
    if (await has(at(weights))) continue;
    needed.push(at(weightsIndex));
    const index = (await has(at(weightsIndex))) && (await readCached(cache, commit, at(weightsIndex), weightsIndexSchema));
    if (index)
      needed.push(
        ...new Set(
          Object.values(index.weight_map)
            .filter((path) => shard.test(path))
            .map(at),
        ),
      );
  }
  for (const path of needed) if (!(await has(path))) return path;
  return undefined;
}

/** The files to download, the weights last: whoever finds them finds the rest too. */
function choose(
  name: string,
  files: ReadonlyMap<string, HubFile>,
  modules: readonly SentenceModule[],
): { wanted: HubFile[]; missing: string[] } {
  const parts = placesOf(modules, files.has('config.json')).map((place) => modelFilesIn(name, files, place));
  const ofModules = modules
    .filter((module) => module.path !== '' && classOf(module) !== 'Transformer')
    .flatMap(({ path }) => moduleFiles.map((file) => pathIn(path, file)));
  const paths = [
    ...parts.flatMap(({ small }) => small),
    ...[...generationFiles, ...sentenceFiles, ...textSettingsFiles, ...ofModules].filter((path) => files.has(path)),
    ...parts.flatMap(({ large }) => large),
  ];
  const wanted = [...new Set(paths)].map((path) => checkedSize(name, files.get(path) as HubFile));
  return { wanted, missing: [...optionalFiles, weights].filter((path) => !files.has(path)) };
}

/** What a folder of a repository must have and may have: configuration and tokenizer, and the weights. */
function modelFilesIn(name: string, files: ReadonlyMap<string, HubFile>, place: string): { small: string[]; large: string[] } {
  const at = (file: string) => pathIn(place, file);
  const has = (file: string) => files.has(at(file));
  const whole = has(weights);
  if (!whole && !has(weightsIndex) && has(pickledWeights)) throw pickledError(name);
  const tokenizer = !has('tokenizer.json') && has(vocabularyFile) ? vocabularyFile : 'tokenizer.json';
  const instead = { [weights]: weightsIndex, 'tokenizer.json': tokenizer } as Record<string, string>;
  const lacking = modelFiles.filter((path) => !has(path) && !has(instead[path]));
  if (lacking.includes(weights) && [...files.keys()].some((path) => /^onnx\/.*\.onnx$/.test(path)))
    throw new InputError(
      `${name}: holds ONNX graphs, for transformers.js, and lacks ${weights}; name the repository of the original model, which has ${weights}`,
    );
  if (lacking.length > 0)
    throw new InputError(
      `${name}: lacks ${lacking.map(at).join(' and ')} on the hub; a model that can be opened has ${modelFiles.join(', ')}`,
    );
  const shards = [...files.keys()].filter((path) => path.startsWith(at('')) && shard.test(path.slice(at('').length))).sort();
  return {
    small: ['config.json', tokenizer, ...[...tokenizerFiles, ...textSettingsFiles].filter(has)].map(at),
    large: whole ? [at(weights)] : [...shards, at(weightsIndex)],
  };
}
