import { execFileSync, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';

/** Chromium or Chrome: the one that UFB_CHROMIUM names, or one on the path; undefined if there is none. */
export function findChromium(): string | undefined {
  const names = [process.env.UFB_CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  return names.find((name) => {
    if (!name) return false;
    try {
      execFileSync(name, ['--version'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  });
}

const types: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
};

export interface PageOptions {
  /** Addresses' beginnings and the folders that answer them. */
  folders: Record<string, string>;
  /** Sends the two headers that make a page cross-origin isolated, so that it can share memory between threads. */
  isolated: boolean;
  /** An empty folder of its own, for the browser's profile. */
  profile: string;
  /** Further flags of the browser. */
  flags?: readonly string[];
  /** Origins that the page may fetch from besides its own. */
  connect?: readonly string[];
}

/** A page that is open in a headless browser, from a server of this process. */
export interface OpenPage extends AsyncDisposable {
  /** What the page posts to /report next. Rejects if it posts an error, or the browser ends. */
  report(): Promise<unknown>;
  /** Answers the page's request for /work, which waits for it; resolves with what the page then reports. */
  work(order: unknown): Promise<unknown>;
}

/** Opens `path`, resolves with what the page reports, and closes it. */
export async function visit(chromium: string, path: string, options: PageOptions): Promise<unknown> {
  await using page = await openPage(chromium, path, options);
  return await page.report();
}

export async function openPage(chromium: string, path: string, options: PageOptions): Promise<OpenPage> {
  const reports = new Queue<string>();
  const orders = new Queue<string>();
  const server = createServer((request, response) => {
    // eval and the like are refused by the page's policy, everything from elsewhere too.
    const connect = options.connect ? `; connect-src 'self' ${options.connect.join(' ')}` : '';
    response.setHeader('Content-Security-Policy', `default-src 'self'; script-src 'self' 'wasm-unsafe-eval'${connect}`);
    if (options.isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    if (request.method === 'POST') {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        response.end();
        reports.add(Buffer.concat(parts).toString());
      });
      return;
    }
    const wanted = normalize(new URL(request.url ?? '/', 'http://localhost').pathname);
    if (wanted === '/work') {
      orders.next().then((order) => response.end(order));
      return;
    }
    const beginning = Object.keys(options.folders).find((name) => wanted.startsWith(name));
    const file = beginning === undefined ? undefined : join(options.folders[beginning], wanted.slice(beginning.length));
    (file ? readFile(file) : Promise.reject(new Error('no such folder'))).then(
      (bytes) => response.setHeader('Content-Type', types[extname(file as string)] ?? 'application/octet-stream').end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-dev-shm-usage', '--enable-logging=stderr'];
  const browser = spawn(chromium, [...flags, ...(options.flags ?? []), `--user-data-dir=${options.profile}`, address], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  browser.stderr.on('data', (text: Buffer) => {
    log = (log + text).slice(-20_000);
  });
  const ended = new Promise<void>((resolve) => browser.once('close', () => resolve()));
  const report = async () => {
    const failed = ended.then(() => Promise.reject(new Error(`the browser ended before the page reported:\n${log}`)));
    let timer: NodeJS.Timeout | undefined;
    const silent = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the page did not report; the browser's log:\n${log}`)), 240_000).unref();
    });
    const text = await Promise.race([reports.next(), failed, silent]).finally(() => clearTimeout(timer));
    const { result, error } = JSON.parse(text) as { result?: unknown; error?: string };
    if (error !== undefined) throw new Error(`in the page: ${error}`);
    return result;
  };
  return {
    report,
    async work(order) {
      orders.add(JSON.stringify(order));
      return await report();
    },
    async [Symbol.asyncDispose]() {
      browser.kill();
      await ended;
      server.closeAllConnections();
      server.close();
      rmSync(options.profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** What one side adds, the other takes, whoever comes first. */
class Queue<Item> {
  private readonly items: Item[] = [];
  private readonly waiting: ((item: Item) => void)[] = [];

  add(item: Item): void {
    const first = this.waiting.shift();
    if (first) first(item);
    else this.items.push(item);
  }

  next(): Promise<Item> {
    const first = this.items.shift();
    return first === undefined ? new Promise((resolve) => this.waiting.push(resolve)) : Promise.resolve(first);
  }
}
