/** A server on the loopback that answers as the Hugging Face hub does: an API, and a second address, as of another owner, for large files. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Repository {
  commit: string;
  files: Record<string, Buffer>;
  /** Only for those who show this token. */
  token?: string;
  /** Branches and tags besides main. */
  revisions?: Record<string, string>;
}

export interface Request {
  /** 'hub' or 'storage', where large files are. */
  host: 'hub' | 'storage';
  path: string;
  range?: string;
  authorization?: string;
}

/** What a request gets instead of the right answer; undefined: the right answer. */
export type Fault =
  | { kind: 'status'; status: number; headers?: Record<string, string> }
  | { kind: 'cut'; after: number }
  | { kind: 'content'; bytes: Buffer }
  /** What the API says, whatever it is asked. */
  | { kind: 'json'; value: unknown; headers?: Record<string, string> }
  /** The connection stays open, and no byte comes after these; of none, not even the headers. */
  | { kind: 'stall'; after: number }
  | { kind: 'no ranges' };

/** Files from this size on are redirected to the storage, and listed with their SHA-256. */
const largeFile = 1000;

export const gitHash = (bytes: Buffer) => createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

export class HubServer {
  readonly requests: Request[] = [];
  /** Called for every request. */
  fault: (request: Request) => Fault | undefined = () => undefined;
  private readonly servers: Server[] = [];
  private readonly blobs = new Map<string, Buffer>();
  /** What the storage says to caches on the way: its addresses name the content. */
  cacheControl = 'public, max-age=31536000, immutable';
  /** Where large files are. */
  storageUrl = '';
  url = '';

  private constructor(private readonly repositories: Record<string, Repository>) {}

  static async start(repositories: Record<string, Repository>): Promise<HubServer> {
    const hub = new HubServer(repositories);
    hub.storageUrl = await hub.listen((request, response) => hub.answer('storage', request, response));
    hub.url = await hub.listen((request, response) => hub.answer('hub', request, response));
    return hub;
  }

  async stop(): Promise<void> {
    for (const server of this.servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  private async listen(listener: RequestListener): Promise<string> {
    const server = createServer(listener);
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  private answer(host: Request['host'], incoming: IncomingMessage, response: ServerResponse): void {
    const { pathname } = new URL(incoming.url as string, 'http://localhost');
    const { range, authorization } = incoming.headers;
    const request = { host, path: decodeURIComponent(pathname), range, authorization };
    response.setHeader('access-control-allow-origin', '*');
    response.setHeader('access-control-allow-headers', 'authorization, range');
    response.setHeader('access-control-expose-headers', '*');
    if (incoming.method === 'OPTIONS') {
      response.end();
      return;
    }
    this.requests.push(request);
    if (host === 'storage') response.setHeader('cache-control', this.cacheControl);
    const fault = this.fault(request);
    if (fault?.kind === 'status') {
      response.writeHead(fault.status, fault.headers).end();
      return;
    }
    if (fault?.kind === 'json') {
      for (const [header, value] of Object.entries(fault.headers ?? {})) response.setHeader(header, value);
      json(response, 200, fault.value);
      return;
    }
    if (fault?.kind === 'stall' && fault.after === 0) return;
    if (host === 'storage') {
      const bytes = this.blobs.get(request.path.slice(1));
      if (bytes) sendBytes(response, bytes, range, fault);
      else response.writeHead(404).end();
      return;
    }
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/(.+)$/.exec(request.path);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(request.path);
    const repository = this.repositories[(api ?? file)?.[1] ?? ''];
    // The hub does not tell models that are not public from models that do not exist.
    if (!repository || (repository.token && authorization !== `Bearer ${repository.token}`))
      json(response, 401, { error: 'Invalid username or password.' });
    else if (api?.[2] === 'revision') this.info(response, repository, api[1], api[3]);
    else if (api) this.tree(response, repository);
    else if (file) this.file(response, repository.files[file[3]], range, fault);
    else response.writeHead(404).end();
  }

  private info(response: ServerResponse, { commit, revisions }: Repository, name: string, revision: string): void {
    const sha = ['HEAD', 'main', commit].includes(revision) ? commit : revisions?.[revision];
    if (sha === undefined) json(response, 404, { error: `Invalid rev id: ${revision}` });
    else
      json(response, 200, {
        _id: '1',
        id: name,
        private: false,
        gated: false,
        downloads: 0,
        likes: 0,
        lastModified: '2023-11-21T00:00:00Z',
        sha,
      });
  }

  private tree(response: ServerResponse, { files }: Repository): void {
    const entries = Object.entries(files).map(([path, bytes]) => {
      const lfs = bytes.length >= largeFile ? { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } : undefined;
      return { type: 'file', path, size: bytes.length, oid: gitHash(lfs ? Buffer.from(`oid ${lfs.oid}`) : bytes), lfs };
    });
    json(response, 200, [{ type: 'directory', path: '1_Pooling', size: 0, oid: '0'.repeat(40) }, ...entries]);
  }

  private file(response: ServerResponse, bytes: Buffer | undefined, range: string | undefined, fault: Fault | undefined): void {
    if (!bytes) json(response, 404, { error: 'Entry not found' });
    else if (bytes.length >= largeFile) {
      this.blobs.set(sha256(bytes), bytes);
      response.writeHead(302, { location: `${this.storageUrl}/${sha256(bytes)}`, etag: '"moved"' }).end();
    } else sendBytes(response, bytes, range, fault);
  }
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function sendBytes(response: ServerResponse, bytes: Buffer, range: string | undefined, fault: Fault | undefined): void {
  const from = range && fault?.kind !== 'no ranges' ? Number(/^bytes=(\d+)-$/.exec(range)?.[1]) : 0;
  if (from >= bytes.length && from > 0) {
    response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
    return;
  }
  const content = (fault?.kind === 'content' ? fault.bytes : bytes).subarray(from);
  response.setHeader('etag', `"${sha256(bytes)}"`);
  response.setHeader('content-length', content.length);
  if (from > 0) response.writeHead(206, { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
  if (fault?.kind === 'stall') response.write(content.subarray(0, fault.after));
  else if (fault?.kind !== 'cut') response.end(content);
  else response.write(content.subarray(0, fault.after), () => setTimeout(() => response.destroy(), 20));
}
