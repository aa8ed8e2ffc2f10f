/** A server's life: it listens, opens its models, warms up, answers, and ends what is under way when it is told to stop. */
import type { Device } from '../backend/device.ts';
import { createApp } from './app.ts';
import type { Shared } from './exchange.ts';
import { Lifecycle } from './lifecycle.ts';
import type { Log } from './log.ts';
import { createMetrics } from './metrics.ts';
import { Permits } from './permits.ts';
import { type ModelSettings, openServed, pipelineOf, type ServedModel, warmUp } from './served_model.ts';
import type { ServerSettings } from './settings.ts';
import { openTracer } from './tracing.ts';

export interface StartOptions {
  settings: ServerSettings;
  /** Aborts when the server is to stop. */
  signal: AbortSignal;
  drainSeconds: number;
  otlpEndpoint?: string;
  log: Log;
}

/** What listens for requests. */
export interface Listener {
  /** Where, in words. */
  address: string;
  /** Takes no more connections, and resolves when those there are have ended; after so many seconds they are cut. */
  close(seconds: number): Promise<void>;
}

export type App = ReturnType<typeof createApp>;

/** Bodies that may be read at a time, in bytes: 32 of the longest. */
const bodiesAtOnce = 32;

/**
 * Resolves when the server has stopped, which it does when the signal aborts.
 * @throws what listening or opening the models throws; nothing is left open then
 */
export async function startServer(
  { settings, signal, drainSeconds, otlpEndpoint, log }: StartOptions,
  listen: (app: App) => Promise<Listener>,
  open: () => Promise<{ device: Device; models: readonly ModelSettings[] }>,
): Promise<void> {
  const models: ServedModel[] = [];
  const metrics = createMetrics(() => models.reduce((sum, model) => sum + pipelineOf(model).queued, 0));
  const permits = new Permits(settings.maxConcurrentRequests);
  const shared: Shared = { settings, models, permits, bodies: new Permits(bodiesAtOnce * settings.payloadLimit), metrics, log };
  const lifecycle = new Lifecycle();
  const tracer = otlpEndpoint === undefined ? undefined : await openTracer(otlpEndpoint, settings.version);
  // First of all, so that a port that is taken is told before a model is downloaded.
  const listener = await listen(createApp(shared, lifecycle, tracer));
  let device: Device | undefined;
  try {
    const opened = await open();
    device = opened.device;
    const batching = { max_tokens: settings.maxBatchTokens, max_texts: settings.maxBatchRequests, batch_callback: metrics.batched };
    for (const each of opened.models) {
      signal.throwIfAborted();
      const model = await openServed(each, { device, log, batching, signal });
      await warmUp(model, settings.maxBatchTokens);
      models.push(model);
      log('info', 'model opened', { model: model.name, kind: model.kind, folder: each.folder, dtype: each.dtype });
    }
    signal.throwIfAborted();
    lifecycle.phase = 'ready';
    log('info', 'ready', { address: listener.address });
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    const began = performance.now();
    log('info', 'stopping', { requests_under_way: lifecycle.count });
    await lifecycle.drain(drainSeconds);
    await listener.close(Math.max(drainSeconds - (performance.now() - began) / 1000, 0.1));
    await Promise.all(models.map((model) => pipelineOf(model).dispose()));
    device?.dispose();
    await tracer?.end().catch(() => log('warn', 'traces could not be sent'));
    log('info', 'stopped');
  }
}
