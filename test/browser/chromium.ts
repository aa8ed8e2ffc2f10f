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
}

/** Opens `path` in a headless browser, from a server of this process, and resolves with what the page posts to /report. */
export async function visit(chromium: string, path: string, options: PageOptions): Promise<unknown> {
  let receive: (body: string) => void;
  const reported = new Promise<string>((resolve) => {
    receive = resolve;
  });
  const server = createServer((request, response) => {
    // eval and the like are refused by the page's policy, everything from elsewhere too.
    response.setHeader('Content-Security-Policy', "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'");
    if (options.isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    if (request.method === 'POST') {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        response.end();
        receive(Buffer.concat(parts).toString());
      });
      return;
    }
    const wanted = normalize(new URL(request.url ?? '/', 'http://localhost').pathname);
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
  const browser = spawn(chromium, [...flags, `--user-data-dir=${options.profile}`, address], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  browser.stderr.on('data', (text: Buffer) => {
    log = (log + text).slice(-20_000);
  });
  const ended = new Promise<void>((resolve) => browser.once('close', () => resolve()));
  try {
    const failed = ended.then(() => Promise.reject(new Error(`the browser ended before the page reported:\n${log}`)));
    const silent = new Promise<never>((_, reject) => {
      setTimeout(() => reject(new Error(`the page did not report; the browser's log:\n${log}`)), 240_000).unref();
    });
    const { result, error } = JSON.parse(await Promise.race([reported, failed, silent])) as { result?: unknown; error?: string };
    if (error !== undefined) throw new Error(`in the page: ${error}`);
    return result;
  } finally {
    browser.kill();
    await ended;
    server.closeAllConnections();
    server.close();
    rmSync(options.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
