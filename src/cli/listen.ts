/** Listens for HTTP, at a port or a Unix socket. */
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { createAdaptorServer, type ServerType } from '@hono/node-server';
import { FailureError, InputError } from '../errors.ts';
import type { App, Listener } from '../server/start.ts';

interface Place {
  hostname: string;
  port: number;
  udsPath?: string;
  requestSeconds: number;
}

/** @throws InputError if the address cannot be had */
export async function listen(app: App, { hostname, port, udsPath, requestSeconds }: Place): Promise<Listener> {
  const server = createAdaptorServer({
    fetch: app.fetch,
    // A client that is slow to send holds its connection no longer than one that waits.
    serverOptions: {
      requestTimeout: requestSeconds * 1000,
      headersTimeout: Math.min(requestSeconds * 1000, 60_000),
      keepAliveTimeout: 75_000,
    },
  }) as Extract<ServerType, { closeAllConnections(): void }>;
  if (udsPath !== undefined) await removeStale(udsPath);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    if (udsPath !== undefined) server.listen(udsPath, resolve);
    else server.listen(port, hostname, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    const where = udsPath ?? `${hostname}:${port}`;
    if (error.code === 'EADDRINUSE')
      throw new InputError(`${where} is in use: end what listens there, or name another ${udsPath ? '--uds-path' : '--port'}`);
    if (error.code === 'EACCES')
      throw new InputError(`${where}: permission denied, expected a ${udsPath ? 'path' : 'port from 1024'} that may be used`);
    throw new InputError(`${where} cannot be listened at: ${error.message}`);
  });
  const at = server.address();
  return {
    address:
      typeof at === 'object' && at ? `http://${at.family === 'IPv6' ? `[${at.address}]` : at.address}:${at.port}` : `unix:${udsPath}`,
    async close(seconds) {
      const timer = setTimeout(() => server.closeAllConnections(), seconds * 1000);
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      });
      clearTimeout(timer);
    },
  };
}

/** What a server left that was killed; one that answers, or a file of another kind, stays. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found) return;
  if (!found.isSocket()) throw new InputError(`--uds-path ${path} is there and no socket: name another`);
  const answers = await new Promise<boolean>((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('close', () => {});
    setTimeout(() => socket.destroy(), 1000).unref();
  });
  if (answers) throw new InputError(`${path} is in use: end what listens there, or name another --uds-path`);
  await unlink(path).catch((error) => Promise.reject(new FailureError(`${path} cannot be removed: ${error.message}`)));
}
