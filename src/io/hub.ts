/** Models by their names on the Hugging Face hub, or a mirror of it. */
import { listFiles, modelInfo } from '@huggingface/hub';
import * as v from 'valibot';
import { type HubCache, type HubFile, hubEnvironment, joinPath, openHubCache, WrongContentError } from '#platform';
import { FailureError, InputError } from '../errors.ts';
import { fileError, maximumJsonBytes, readJson } from './files.ts';
import { modelFiles, pickledError, pickledWeights, sentenceFiles, sentenceModule, weightsIndex } from './model_files.ts';

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
  /** Is told how far a download is. */
  progress_callback?: (progress: DownloadProgress) => void;
}

/** Nothing else is downloaded than `modelFiles` and what sentence embeddings need, whatever a repository has. */
const isModuleConfiguration = (path: string) => path.endsWith('/config.json') && sentenceModule.test(path.slice(0, -'/config.json'.length));
const shard = /^model-\d{5}-of-\d{5}\.safetensors$/;
const weights = modelFiles[1];

const moduleList = v.array(v.object({ type: v.string(), path: v.string() }));
const shardIndex = v.object({ weight_map: v.record(v.string(), v.string()) });

const commitPattern = /^[\da-f]{40}$/;
const entrySchema = v.object({
  path: v.string(),
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  oid: v.pipe(v.string(), v.regex(commitPattern)),
  lfs: v.optional(v.object({ oid: v.pipe(v.string(), v.regex(/^[\da-f]{64}$/)) })),
});
/** A repository with more files and folders is none of a model that this package runs. The hub lists a thousand on a page. */
const mostEntries = 100_000;
const mostPages = 1000;

/** How often an answer is asked for before it counts as failed, and how long the hub may have us wait, in seconds. */
const attempts = 4;
const longestWait = 300;
/** How long nothing may come of an answer, in seconds, before it counts as broken off; and for whoever has the model already. */
const longestSilence = 60;
const longestSilenceIfKept = 10;

/** The hub cannot be reached, or does not answer for now: what is in the cache may do. */
class UnavailableError extends FailureError {}

/**
 * The folder of a model's files in the cache, after those that are missing were downloaded: resumed where they had broken off, and checked
 * against the hashes that the hub lists. Where the hub does not answer (no connection, 429, 5xx), or HF_HUB_OFFLINE is set, the files that the
 * cache has.
 * @param name OWNER/NAME
 * @throws InputError if the hub does not have the model or does not give it, or it is none that can be read; FailureError if it cannot be
 *   reached or what comes is damaged.
 */
export async function downloadModel(name: string, options: HubOptions = {}): Promise<string> {
  const { revision = 'main', progress_callback } = options;
  if (!/^\w[\w.-]*(\/\w[\w.-]*){0,5}$/.test(revision))
    throw new InputError(`revision ${JSON.stringify(revision)} is not one, expected a branch, tag or commit`);
  const environment = await hubEnvironment();
  const hubUrl = addressOf(options.hubUrl ?? environment.hubUrl ?? 'https://huggingface.co');
  const hub = new Hub(hubUrl, name, options.accessToken ?? environment.accessToken);
  const cache = await openHubCache(name, hubUrl);
  try {
    const { kept, lacking } = await find(cache, revision);
    if (kept !== undefined && kept === revision) return cache.folder(kept); // a commit never changes
    if (environment.offline) {
      if (kept === undefined) throw new FailureError(`${name}: no such folder here, HF_HUB_OFFLINE is set, and ${lacking}`);
      return cache.folder(kept);
    }
    try {
      // Whoever has the model does not wait for a hub that does not answer.
      if (kept !== undefined) hub.hurry();
      const commit = await hub.commitOf(revision);
      if (commit !== kept) await update(hub, cache, commit, name, progress_callback);
      // What is needed is there: that a cache cannot be written, for others share it, does not matter any more.
      if (revision !== commit && (await cache.commitOf(revision)) !== commit) await cache.remember(revision, commit).catch(() => {});
      return cache.folder(commit);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (kept === undefined) throw new FailureError(`${error.message}; ${lacking}`, { cause: error });
      return cache.folder(kept);
    }
  } catch (error) {
    throw isOfDisk(error) ? diskError(error) : error;
  }
}

/** Brings a commit's files that are missing into the cache. */
async function update(hub: Hub, cache: HubCache, commit: string, name: string, report: HubOptions['progress_callback']): Promise<void> {
  const { wanted, missing } = choose(name, await hub.files(commit));
  for (const file of wanted) {
    if (await cache.has(commit, file.path)) continue;
    const { path, size } = file;
    await hub.download(cache, commit, file, (loaded) =>
      report?.({ status: 'progress', name, file: path, loaded, total: size, progress: (100 * loaded) / (size || 1) }),
    );
  }
  for (const path of missing) if (!(await cache.lacks(commit, path))) await cache.addMissing(commit, path).catch(() => {});
}

type DiskError = Error & { syscall: string; path?: string };

function isOfDisk(error: unknown): error is DiskError {
  return error instanceof Error && 'syscall' in error && !isConnectionFailure(error);
}

function diskError(error: DiskError): Error {
  const { path = 'the cache of models', syscall, message } = error;
  const worded = fileError(error, path, /stat|read|scandir/.test(syscall) ? 'read' : 'write');
  const hint = 'downloads are kept there; the variable HF_HUB_CACHE names another folder for them';
  if (worded instanceof InputError) return new InputError(`${worded.message}; ${hint}`, { cause: error });
  return new FailureError(`${path}: ${message}; ${hint}`, { cause: error }); // a full disk, say
}

function addressOf(hubUrl: string): string {
  if (!/^https?:\/\//.test(hubUrl) || !URL.canParse(hubUrl))
    throw new InputError(`the hub's address ${JSON.stringify(hubUrl)} is not one, expected https://…`);
  return hubUrl.replace(/\/+$/, '');
}

/** The commit that a revision was when it was last asked for, if the cache holds it whole; otherwise what is lacking. */
async function find(cache: HubCache, revision: string): Promise<{ kept?: string; lacking: string }> {
  const commit = commitPattern.test(revision) ? revision : await cache.commitOf(revision);
  const nothing = `the cache does not hold revision ${revision} of this model`;
  if (commit === undefined || !commitPattern.test(commit) || !(await cache.has(commit, 'config.json'))) return { lacking: nothing };
  const path = await lackingFile(cache, commit);
  return path === undefined
    ? { kept: commit, lacking: '' }
    : { lacking: `the cache holds revision ${revision} of this model without ${path}` };
}

/**
 * A file of the model that the cache neither has nor knows to be missing on the hub. Other tools leave commits without those that they do not
 * read, and without its sentence files a model would give other vectors.
 */
async function lackingFile(cache: HubCache, commit: string): Promise<string | undefined> {
  const has = (path: string) => cache.has(commit, path);
  /** As far as it is what it should be: whoever opens it says what is wrong. */
  const read = async <T>(path: string, schema: v.GenericSchema<unknown, T>): Promise<T | undefined> => {
    const result = v.safeParse(schema, await readJson(joinPath(cache.folder(commit), path)).catch(() => undefined));
    return result.success ? result.output : undefined;
  };
  for (const path of sentenceFiles) if (!(await has(path)) && !(await cache.lacks(commit, path))) return path;
  const needed = ['config.json', 'tokenizer.json'];
  const modules = (await has('modules.json')) && (await read('modules.json', moduleList));
  for (const { type, path } of modules || [])
    if (/(^|\.)Pooling$/.test(type) && sentenceModule.test(path)) needed.push(`${path}/config.json`);
  if (!(await has(weights))) {
    needed.push(weightsIndex);
    const index = (await has(weightsIndex)) && (await read(weightsIndex, shardIndex));
    if (index) needed.push(...new Set(Object.values(index.weight_map).filter((path) => shard.test(path))));
  }
  for (const path of needed) if (!(await has(path))) return path;
  return undefined;
}

/** The files to download, the weights last: whoever finds them finds the rest too. */
function choose(name: string, files: ReadonlyMap<string, HubFile>): { wanted: HubFile[]; missing: string[] } {
  const whole = files.has(weights);
  if (!whole && !files.has(weightsIndex) && files.has(pickledWeights)) throw pickledError(name);
  const lacking = modelFiles.filter((path) => !files.has(path) && !(path === weights && files.has(weightsIndex)));
  if (lacking.includes(weights) && [...files.keys()].some((path) => /^onnx\/.*\.onnx$/.test(path)))
    throw new InputError(
      `${name}: holds ONNX graphs, for transformers.js, and lacks ${weights}; name the repository of the original model, which has ${weights}`,
    );
  if (lacking.length > 0)
    throw new InputError(`${name}: lacks ${lacking.join(' and ')} on the hub; a model that can be opened has ${modelFiles.join(', ')}`);
  const others = [...files.keys()].filter((path) => isModuleConfiguration(path));
  const ofWeights = whole ? [weights] : [...[...files.keys()].filter((path) => shard.test(path)).sort(), weightsIndex];
  const paths = ['config.json', 'tokenizer.json', ...sentenceFiles.filter((path) => files.has(path)), ...others, ...ofWeights];
  const wanted = paths.map((path) => files.get(path) as HubFile);
  const large = wanted.find(({ path, size }) => path.endsWith('.json') && size > maximumJsonBytes);
  if (large) throw new InputError(`${name}: ${large.path} has ${large.size} bytes on the hub, expected at most ${maximumJsonBytes}`);
  return { wanted, missing: [...sentenceFiles, weights].filter((path) => !files.has(path)) };
}

/** One model of the hub. */
class Hub {
  private readonly origin: string;
  private most = attempts;
  private silence = longestSilence;
  /** Has answered for this model: its name is no mistyped folder's. */
  private isKnown = false;

  constructor(
    private readonly hubUrl: string,
    private readonly name: string,
    private readonly accessToken: string | undefined,
  ) {
    this.origin = new URL(hubUrl).origin;
  }

  /** From now on the API is asked once, and not waited for long. */
  hurry(): void {
    this.most = 1;
    this.silence = longestSilenceIfKept;
  }

  async commitOf(revision: string): Promise<string> {
    const { hubUrl, name } = this;
    const { sha } = await this.explained(() => modelInfo({ name, revision, hubUrl, fetch: this.api(revision), additionalFields: ['sha'] }));
    if (typeof sha !== 'string' || !commitPattern.test(sha))
      throw new FailureError(`${name}: ${hubUrl} names the commit ${JSON.stringify(sha)?.slice(0, 80)}, expected 40 hexadecimal digits`);
    this.isKnown = true;
    return sha;
  }

  async files(commit: string): Promise<Map<string, HubFile>> {
    const { hubUrl, name } = this;
    return await this.explained(async () => {
      const files = new Map<string, HubFile>();
      let count = 0;
      for await (const entry of listFiles({ repo: name, recursive: true, revision: commit, hubUrl, fetch: this.api(commit) })) {
        if (++count > mostEntries) throw new InputError(`${name}: has more than ${mostEntries} files and folders on the hub`);
        const { success, output } = v.safeParse(entrySchema, entry);
        if (!success || entry.type !== 'file') continue;
        files.set(output.path, { path: output.path, size: output.size, gitHash: output.oid, sha256: output.lfs?.oid });
      }
      return files;
    });
  }

  /** What the library calls as fetch: gives whole answers and throws what is a refusal. Each is called for one list, page by page. */
  private api(revision: string): typeof fetch {
    let pages = 0;
    return async (address, init) => {
      if (++pages > mostPages) throw new InputError(`${this.name}: the list of its files on the hub has more than ${mostPages} pages`);
      const { most, silence } = this;
      const response = await this.ask(String(address), { ...init, most, silence, whole: true });
      if (!response.ok) throw this.refusal(response.status, '', undefined, revision);
      return response;
    };
  }

  async download(cache: HubCache, commit: string, file: HubFile, onProgress: (loaded: number) => void): Promise<void> {
    const address = `${this.hubUrl}/${this.name}/resolve/${commit}/${file.path}`;
    let wrong = 0;
    let furthest = -1;
    let loaded = 0;
    for (let attempt = 1; ; attempt++) {
      try {
        return await cache.add(commit, file, async (from) => {
          // A cache on the way, the browser's own above all, would give the same wrong bytes again.
          const { offset, body } = await this.bytesFrom(address, from, file, wrong > 0 ? 'reload' : undefined);
          loaded = offset;
          const blocks = counted(body, (length) => {
            loaded += length;
            onProgress(Math.min(loaded, file.size));
          });
          return { offset, blocks };
        });
      } catch (error) {
        if (error instanceof InputError || error instanceof FailureError) throw error;
        if (error instanceof WrongContentError) {
          if (++wrong > 1)
            throw new FailureError(`${address}: what came is damaged: ${error.message}; nothing of it was kept, try again later`);
          continue;
        }
        if (isOfDisk(error)) throw error;
        // A connection that broke off: as long as there is progress, it goes on.
        if (loaded > furthest) attempt = 1;
        furthest = Math.max(furthest, loaded);
        if (attempt >= attempts)
          throw new FailureError(
            `${address}: the download broke off: ${reasonOf(error)}; what came is kept, and the next try goes on from there`,
          );
        await pause(0.5 * 2 ** (attempt - 1));
      }
    }
  }

  private async bytesFrom(
    address: string,
    from: number,
    file: HubFile,
    cache?: RequestCache,
  ): Promise<{ offset: number; body: ReadableStream<Uint8Array> }> {
    // Compressed on the way, its length and ranges would not be those of the file.
    const headers: Record<string, string> = { 'accept-encoding': 'identity', ...(from > 0 && { range: `bytes=${from}-` }) };
    const response = await this.ask(address, { headers, cache });
    if (response.status === 416 && from > 0) {
      await response.body?.cancel();
      return await this.bytesFrom(address, 0, file, cache);
    }
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      throw this.refusal(response.status, file.path);
    }
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
    const offset = response.status === 206 ? Number(range?.[1] ?? Number.NaN) : 0;
    if (response.status === 206 && (offset !== from || (range?.[2] !== '*' && Number(range?.[2]) !== file.size))) {
      await response.body.cancel();
      if (from > 0) return await this.bytesFrom(address, 0, file, cache);
      throw new FailureError(`${address}: answers with a part that was not asked for`);
    }
    return { offset, body: response.body };
  }

  /**
   * As fetch; answers that say 'later' (429, 5xx) and connections that fail, or of which nothing comes for `silence` seconds, are tried again.
   * `whole`: with all of its body. The token goes to the hub and nowhere else.
   */
  private async ask(
    address: string,
    {
      most = attempts,
      silence = longestSilence,
      whole = false,
      ...init
    }: RequestInit & { most?: number; silence?: number; whole?: boolean },
  ): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.accessToken && new URL(address).origin === this.origin) headers.set('authorization', `Bearer ${this.accessToken}`);
    for (let attempt = 1; ; attempt++) {
      let response: Response | undefined;
      const breaker = new AbortController();
      const answer = async () => {
        const begun = await fetch(address, { ...init, headers, signal: breaker.signal });
        return whole ? new Response((await begun.text()) || null, begun) : begun;
      };
      try {
        response = await within(silence, answer(), () => breaker.abort(new Error(`no answer within ${silence} s`)));
      } catch (error) {
        if (attempt === most) throw new UnavailableError(`${this.subject} cannot be reached: ${reasonOf(error)}`, { cause: error });
      }
      if (response && response.status !== 429 && response.status < 500) return response;
      const wait = response ? waitOf(response) : undefined;
      await response?.body?.cancel();
      if (attempt === most || (wait ?? 0) > longestWait) throw this.refusal(response?.status ?? 0, '', wait);
      await pause(wait ?? 0.5 * 2 ** (attempt - 1));
    }
  }

  /** `work` with the library, which goes by its types: of an answer that is not as they say it fails anyhow. */
  private async explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof InputError || error instanceof FailureError) throw error;
      throw new FailureError(`${this.name}: ${this.hubUrl} does not answer as a hub does: ${(error as Error).message}`, { cause: error });
    }
  }

  /** How messages begin. A name is looked up here first. */
  private get subject(): string {
    return this.isKnown ? `${this.name}: ${this.hubUrl}` : `${this.name}: no such folder here, and ${this.hubUrl}`;
  }

  private refusal(status: number, path: string, wait?: number, revision?: string): Error {
    const subject = path ? `${this.name}/${path}: ${this.hubUrl}` : this.subject;
    if (status === 401 || status === 403) {
      const known = this.accessToken
        ? 'the token given does not open it'
        : 'set HF_TOKEN (accessToken in a program) to a token that may read it';
      return new InputError(`${subject} answers ${status}: there is no such model, or it is not public: ${known}`);
    }
    if (status === 404) {
      const where = revision === undefined ? '' : `, or no revision ${JSON.stringify(revision)} of it`;
      return new InputError(path ? `${subject} lists this file and does not have it (404)` : `${subject} has no such model${where}`);
    }
    if (status === 429) {
      const when = wait === undefined ? 'later' : `in ${Math.ceil(wait)} s`;
      return new UnavailableError(`${subject} has had too many requests (429); try again ${when}`);
    }
    const message = `${subject} answers ${status}; try again later`;
    return status >= 500 ? new UnavailableError(message) : new FailureError(message);
  }
}

async function* counted(body: ReadableStream<Uint8Array>, count: (length: number) => void): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    // Cancelled, it ends, and is found to be too short.
    const read = () => within(longestSilence, reader.read(), () => void reader.cancel().catch(() => {}));
    for (let next = await read(); !next.done; next = await read()) {
      count(next.value.length);
      yield next.value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** What `work` gives; `stop`, which ends it, is called if that takes more than so many seconds. */
async function within<T>(seconds: number, work: Promise<T>, stop: () => void): Promise<T> {
  const timer = setTimeout(stop, seconds * 1000);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}

/** Seconds that an answer asks to wait: a number of them, or a date. */
function waitOf(response: Response): number | undefined {
  const header = response.headers.get('retry-after');
  if (!header) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(seconds, 0) : undefined;
}

const pause = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function isConnectionFailure(error: Error): boolean {
  return 'code' in error && /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_|UND_)/.test(String(error.code));
}

/** fetch hides the reason one level down. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error && cause.message ? cause.message : message;
}
