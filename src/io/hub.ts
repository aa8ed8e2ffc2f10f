/** Models by their names on the Hugging Face hub, or a mirror of it. */
import { HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import * as v from 'valibot';
import { type HubCache, type HubFile, hubEnvironment, openHubCache, WrongContentError } from '#platform';
import { FailureError, InputError } from '../errors.ts';
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

const commitPattern = /^[\da-f]{40}$/;
const entrySchema = v.object({
  path: v.string(),
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  oid: v.pipe(v.string(), v.regex(commitPattern)),
  lfs: v.optional(v.object({ oid: v.pipe(v.string(), v.regex(/^[\da-f]{64}$/)) })),
});
/** A repository with more files is none of a model that this package runs. */
const mostFiles = 100_000;

/** How often an answer is asked for before it counts as failed, and how long the hub may have us wait, in seconds. */
const attempts = 4;
const longestWait = 300;

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
  const kept = await keptFolder(cache, revision);
  const lacking = `the cache does not hold revision ${revision} of this model`;
  if (environment.offline) {
    if (kept === undefined) throw new FailureError(`${name}: HF_HUB_OFFLINE is set, and ${lacking}`);
    return kept;
  }
  try {
    // Whoever has the model does not wait for a hub that does not answer.
    const commit = await hub.commitOf(revision, kept === undefined ? attempts : 1);
    const { wanted, missing } = choose(name, await hub.files(commit));
    for (const file of wanted) {
      if (await cache.has(commit, file)) continue;
      await hub.download(cache, commit, file, (loaded) =>
        progress_callback?.({
          status: 'progress',
          name,
          file: file.path,
          loaded,
          total: file.size,
          progress: (100 * loaded) / (file.size || 1),
        }),
      );
    }
    for (const path of missing) await cache.addMissing(commit, path);
    if (revision !== commit) await cache.remember(revision, commit);
    return cache.folder(commit);
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    if (kept === undefined) throw new FailureError(`${error.message}; ${lacking}`, { cause: error });
    return kept;
  }
}

function addressOf(hubUrl: string): string {
  if (!/^https?:\/\//.test(hubUrl) || !URL.canParse(hubUrl))
    throw new InputError(`the hub's address ${JSON.stringify(hubUrl)} is not one, expected https://…`);
  return hubUrl.replace(/\/+$/, '');
}

/** The folder of a revision that the cache holds whole, as it was when it was last asked for. */
async function keptFolder(cache: HubCache, revision: string): Promise<string | undefined> {
  const commit = commitPattern.test(revision) ? revision : await cache.commitOf(revision);
  const complete = commit !== undefined && commitPattern.test(commit) && (await hasModel(cache, commit));
  return complete ? cache.folder(commit) : undefined;
}

async function hasModel(cache: HubCache, commit: string): Promise<boolean> {
  const has = (path: string) => cache.has(commit, { path, size: 0, gitHash: '' });
  return (await has('config.json')) && (await has('tokenizer.json')) && ((await has(weights)) || (await has(weightsIndex)));
}

/** The files to download, the weights last: whoever finds them finds the rest too. */
function choose(name: string, files: ReadonlyMap<string, HubFile>): { wanted: HubFile[]; missing: string[] } {
  const whole = files.has(weights);
  if (!whole && !files.has(weightsIndex) && files.has(pickledWeights)) throw pickledError(name);
  const lacking = modelFiles.filter((path) => !files.has(path) && !(path === weights && files.has(weightsIndex)));
  if (lacking.length > 0)
    throw new InputError(`${name}: lacks ${lacking.join(' and ')} on the hub; a model that can be opened has ${modelFiles.join(', ')}`);
  const others = [...files.keys()].filter((path) => isModuleConfiguration(path));
  const ofWeights = whole ? [weights] : [...[...files.keys()].filter((path) => shard.test(path)).sort(), weightsIndex];
  const paths = ['config.json', 'tokenizer.json', ...sentenceFiles.filter((path) => files.has(path)), ...others, ...ofWeights];
  const missing = [...sentenceFiles, weights].filter((path) => !files.has(path));
  return { wanted: paths.map((path) => files.get(path) as HubFile), missing };
}

/** One model of the hub. */
class Hub {
  private readonly origin: string;
  private readonly fetch = (address: string | URL | Request, init?: RequestInit) => this.ask(String(address), init);

  constructor(
    private readonly hubUrl: string,
    private readonly name: string,
    private readonly accessToken: string | undefined,
  ) {
    this.origin = new URL(hubUrl).origin;
  }

  /** Asks so many times at most. */
  async commitOf(revision: string, most: number): Promise<string> {
    const { hubUrl, name } = this;
    const fetch = (address: string | URL | Request, init?: RequestInit) => this.ask(String(address), init, most);
    const { sha } = await this.explained(() => modelInfo({ name, revision, hubUrl, fetch, additionalFields: ['sha'] }), revision);
    if (typeof sha !== 'string' || !commitPattern.test(sha))
      throw new FailureError(`${name}: ${hubUrl} names the commit ${JSON.stringify(sha)?.slice(0, 80)}, expected 40 hexadecimal digits`);
    return sha;
  }

  async files(commit: string): Promise<Map<string, HubFile>> {
    const { hubUrl, name, fetch } = this;
    return await this.explained(async () => {
      const files = new Map<string, HubFile>();
      for await (const entry of listFiles({ repo: name, recursive: true, revision: commit, hubUrl, fetch })) {
        const { success, output } = v.safeParse(entrySchema, entry);
        if (!success || entry.type !== 'file') continue;
        files.set(output.path, { path: output.path, size: output.size, gitHash: output.oid, sha256: output.lfs?.oid });
        if (files.size > mostFiles) throw new InputError(`${name}: has more than ${mostFiles} files on the hub`);
      }
      return files;
    }, commit);
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
        if (error instanceof Error && 'syscall' in error && !isConnectionFailure(error)) throw error; // of the disk
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

  /** As fetch; answers that say 'later' (429, 5xx) and connections that fail are tried again. The token goes to the hub and nowhere else. */
  private async ask(address: string, init: RequestInit = {}, most = attempts): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.accessToken && new URL(address).origin === this.origin) headers.set('authorization', `Bearer ${this.accessToken}`);
    for (let attempt = 1; ; attempt++) {
      let response: Response | undefined;
      try {
        response = await fetch(address, { ...init, headers });
      } catch (error) {
        if (attempt === most)
          throw new UnavailableError(`${this.name}: ${this.hubUrl} cannot be reached: ${reasonOf(error)}`, { cause: error });
      }
      if (response && response.status !== 429 && response.status < 500) return response;
      const wait = response ? waitOf(response) : undefined;
      await response?.body?.cancel();
      if (attempt === most || (wait ?? 0) > longestWait) throw this.refusal(response?.status ?? 0, '', wait);
      await pause(wait ?? 0.5 * 2 ** (attempt - 1));
    }
  }

  private async explained<T>(work: () => Promise<T>, revision: string): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof HubApiError) throw this.refusal(error.statusCode, '', undefined, revision);
      if (error instanceof SyntaxError)
        throw new FailureError(`${this.name}: ${this.hubUrl} does not answer as a hub does: ${error.message}`);
      throw error;
    }
  }

  private refusal(status: number, path: string, wait?: number, revision?: string): Error {
    const what = path ? `${this.name}/${path}` : this.name;
    if (status === 401 || status === 403) {
      const known = this.accessToken ? 'the token given does not open it' : 'set HF_TOKEN (accessToken in a program) to a token that may read it';
      return new InputError(`${what}: ${this.hubUrl} answers ${status}: there is no such model, or it is not public: ${known}`);
    }
    if (status === 404) {
      const where = revision === undefined ? '' : `, or no revision ${JSON.stringify(revision)} of it`;
      return new InputError(`${what}: no such folder, and ${this.hubUrl} has no such model${where}`);
    }
    if (status === 429) {
      const when = wait === undefined ? 'later' : `in ${Math.ceil(wait)} s`;
      return new UnavailableError(`${what}: ${this.hubUrl} has had too many requests (429); try again ${when}`);
    }
    const message = `${what}: ${this.hubUrl} answers ${status}; try again later`;
    return status >= 500 ? new UnavailableError(message) : new FailureError(message);
  }
}

async function* counted(body: ReadableStream<Uint8Array>, count: (length: number) => void): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      count(next.value.length);
      yield next.value;
    }
  } finally {
    await reader.cancel().catch(() => {});
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
