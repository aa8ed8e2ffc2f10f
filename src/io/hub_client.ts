/** Asking the Hugging Face hub, or a mirror of it, about one model, and downloading its files. */
import { listFiles, modelInfo } from '@huggingface/hub';
import * as v from 'valibot';
import { type HubCache, type HubFile, WrongContentError } from '#platform';
import { onAbort } from '../abort.ts';
import { FailureError, InputError } from '../errors.ts';
import { checkJsonExtent } from './json.ts';

export const commitPattern = /^[\da-f]{40}$/;
const entrySchema = v.object({
  path: v.string(),
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  oid: v.pipe(v.string(), v.regex(commitPattern)),
  lfs: v.optional(v.object({ oid: v.pipe(v.string(), v.regex(/^[\da-f]{64}$/)) })),
});
/** A repository with more files and folders is none of a model that this package runs. The hub lists a thousand on a page. */
const maxEntries = 100_000;
const maxPages = 1000;
/** A page of a list has some hundred bytes an entry. */
const maxPageBytes = 2 ** 25;
const pageExtent = 1_000_000;

/** How often an answer is asked for before it counts as failed, and how long the hub may have us wait, in seconds. */
const attempts = 4;
const longestWait = 300;
/** How long nothing may come of an answer, in seconds, before it counts as broken off; and for whoever has the model already. */
const longestSilence = 60;
const longestSilenceIfKept = 10;

/** The hub cannot be reached, or does not answer for now: what is in the cache may do. */
export class UnavailableError extends FailureError {}

/** What the caller's own function threw, which no try mends. */
export class CallbackError extends Error {
  constructor(readonly thrown: unknown) {
    super();
  }
}

/** One model of the hub. */
export class HubClient {
  private readonly origin: string;
  private most = attempts;
  private silence = longestSilence;
  /** Has answered for this model: its name is no mistyped folder's. */
  private isKnown = false;

  constructor(
    private readonly hubUrl: string,
    private readonly name: string,
    private readonly accessToken: string | undefined,
    /** Whatever is under way then rejects with its reason. */
    private readonly signal: AbortSignal | undefined,
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
        if (++count > maxEntries) throw new InputError(`${name}: has more than ${maxEntries} files and folders on the hub`);
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
      if (++pages > maxPages) throw new InputError(`${this.name}: the list of its files on the hub has more than ${maxPages} pages`);
      const { most, silence } = this;
      const response = await this.ask(String(address), { ...init, most, silence, whole: true });
      if (!response.ok) throw this.refusal(response.status, '', undefined, revision);
      const text = await response.text();
      checkJsonExtent(text, `${this.name}: the answer of ${this.hubUrl}`, pageExtent);
      return new Response(text, response);
    };
  }

  /** @throws CallbackError if `onProgress` throws */
  async download(cache: HubCache, commit: string, file: HubFile, onProgress: (loaded: number) => void): Promise<void> {
    const address = `${this.hubUrl}/${this.name}/resolve/${commit}/${file.path}`;
    let wrong = 0;
    let furthest = -1;
    let loaded = 0;
    const add = async (from: number) => {
      // A cache on the way, the browser's own above all, would give the same wrong bytes again.
      const { offset, body } = await this.bytesFrom(address, from, file, wrong > 0 ? 'reload' : undefined);
      loaded = offset;
      const count = (length: number) => {
        loaded += length;
        try {
          onProgress(Math.min(loaded, file.size));
        } catch (error) {
          throw new CallbackError(error);
        }
      };
      return { offset, blocks: counted(body, count, this.signal) };
    };
    for (let attempt = 1; ; attempt++) {
      try {
        return await cache.add(commit, file, add, this.signal);
      } catch (error) {
        this.signal?.throwIfAborted();
        if (error instanceof InputError || error instanceof FailureError || error instanceof CallbackError) throw error;
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
        await pause(0.5 * 2 ** (attempt - 1), this.signal);
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
      this.signal?.throwIfAborted();
      let response: Response | undefined;
      const breaker = new AbortController();
      const answer = async () => {
        const begun = await fetch(address, { ...init, headers, signal: breaker.signal });
        return whole ? new Response(await this.wholeBody(begun), begun) : begun;
      };
      try {
        response = await within(silence, this.signal, answer(), () => breaker.abort(new Error(`no answer within ${silence} s`)));
      } catch (error) {
        this.signal?.throwIfAborted();
        if (error instanceof FailureError) throw error;
        if (attempt === most) throw new UnavailableError(`${this.subject} cannot be reached: ${reasonOf(error)}`, { cause: error });
      }
      if (response && response.status !== 429 && response.status < 500) return response;
      const wait = response ? waitOf(response) : undefined;
      await response?.body?.cancel();
      if (attempt === most || (wait ?? 0) > longestWait) throw this.refusal(response?.status ?? 0, '', wait);
      await pause(wait ?? 0.5 * 2 ** (attempt - 1), this.signal);
    }
  }

  /** An answer's body, decompressed; null if it has none. */
  private async wholeBody({ body }: Response): Promise<Blob | null> {
    if (!body) return null;
    const blocks: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    for (const reader = body.getReader(); ; ) {
      const { value, done } = await reader.read();
      if (done) return size > 0 ? new Blob(blocks) : null;
      size += value.length;
      blocks.push(value);
      if (size > maxPageBytes) {
        await reader.cancel();
        throw new FailureError(
          `${this.name}: ${this.hubUrl} answers with more than ${maxPageBytes} bytes, which no list of a model's files has`,
        );
      }
    }
  }

  /** `work` with the library, which goes by its types: of an answer that is not as they say it fails anyhow. */
  private async explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.signal?.throwIfAborted();
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

async function* counted(
  body: ReadableStream<Uint8Array>,
  count: (length: number) => void,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    // Cancelled, it ends, and is found to be too short.
    const read = () => within(longestSilence, signal, reader.read(), () => void reader.cancel().catch(() => {}));
    for (let next = await read(); !next.done; next = await read()) {
      count(next.value.length);
      yield next.value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** What `work` gives; `stop`, which ends it, is called if that takes more than so many seconds, or when the signal says so. */
async function within<T>(seconds: number, signal: AbortSignal | undefined, work: Promise<T>, stop: () => void): Promise<T> {
  const timer = setTimeout(stop, seconds * 1000);
  const ended = signal && onAbort(signal, stop);
  if (signal?.aborted) stop();
  try {
    return await work;
  } finally {
    clearTimeout(timer);
    ended?.();
  }
}

/** Seconds that an answer asks to wait: a number of them, or a date. */
function waitOf(response: Response): number | undefined {
  const header = response.headers.get('retry-after');
  if (!header) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(seconds, 0) : undefined;
}

/** Shorter if the signal ends it. */
function pause(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  let end = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  return within(seconds, signal, ended, end);
}

function isConnectionFailure(error: Error): boolean {
  return 'code' in error && /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_|UND_)/.test(String(error.code));
}

/** fetch hides the reason one level down. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error && cause.message ? cause.message : message;
}

/** The cache cannot be read or written. */
export type DiskError = Error & { syscall: string; path?: string };

export function isOfDisk(error: unknown): error is DiskError {
  return error instanceof Error && 'syscall' in error && !isConnectionFailure(error);
}
