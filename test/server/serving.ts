import { createDevice, type DeviceName } from '../../src/backend/create.ts';
import { listen } from '../../src/cli/listen.ts';
import { createLog } from '../../src/server/log.ts';
import type { ModelSettings } from '../../src/server/served_model.ts';
import type { ServerSettings } from '../../src/server/settings.ts';
import { startServer } from '../../src/server/start.ts';

export interface Serving {
  url: string;
  /** Lines of the log, parsed. */
  log: Record<string, unknown>[];
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  /** The JSON that a body is answered with. */
  ask(path: string, body: unknown): Promise<unknown>;
  /** While it is closed passes do not end: what is under way stays so, however fast the machine is. */
  gate: { close(): void; open(): void };
  /** Begins to stop, as SIGTERM does; resolves when it has. */
  stop(): Promise<void>;
}

const usual: ServerSettings = {
  maxConcurrentRequests: 512,
  maxClientBatchSize: 32,
  maxBatchTokens: 4096,
  autoTruncate: true,
  payloadLimit: 2_000_000,
  requestSeconds: 60,
  apiKeys: [],
  corsAllowOrigin: [],
  version: '0.0.0',
};

/** A server in this process, on a free port of the loopback. */
export async function serve(
  models: Partial<ModelSettings>[],
  settings: Partial<ServerSettings> = {},
  {
    device: name = 'reference',
    drainSeconds = 5,
    otlpEndpoint,
  }: { device?: DeviceName; drainSeconds?: number; otlpEndpoint?: string } = {},
): Promise<Serving> {
  const all = { ...usual, ...settings };
  const stop = new AbortController();
  const log: Record<string, unknown>[] = [];
  let ready: (address: string) => void = () => {};
  const address = new Promise<string>((resolve) => {
    ready = resolve;
  });
  const write = (line: string) => {
    const event = JSON.parse(line) as Record<string, unknown>;
    log.push(event);
    if (event.message === 'ready') ready(event.address as string);
  };
  let open: () => void = () => {};
  let isOpen = Promise.resolve();
  const gate = {
    close() {
      isOpen = new Promise((resolve) => {
        open = resolve;
      });
    },
    open: () => open(),
  };
  const gatedDevice = async () => {
    const device = await createDevice({ name, threads: 1 });
    const read = device.read.bind(device);
    return Object.assign(device, { read: (tensor: Parameters<typeof read>[0]) => isOpen.then(() => read(tensor)) });
  };
  const served = startServer(
    { settings: all, signal: stop.signal, drainSeconds, otlpEndpoint, log: createLog(write, true) },
    (app) => listen(app, { hostname: '127.0.0.1', port: 0, requestSeconds: all.requestSeconds }),
    async () => ({
      device: await gatedDevice(),
      models: models.map((model, index) => ({ name: `model-${index}`, id: 'some/model', folder: '', dtype: 'f32' as const, ...model })),
    }),
  );
  const url = await Promise.race([address, served.then(() => Promise.reject(new Error('it ended')))]);
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  return {
    url,
    log,
    gate,
    post,
    ask: async (path, body) => {
      const response = await post(path, body);
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      return await response.json();
    },
    async stop() {
      stop.abort();
      await served;
    },
  };
}
