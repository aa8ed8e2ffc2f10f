/** The server as a function from requests to answers. */
import { type Context, Hono } from 'hono';
import { cors } from 'hono/cors';
import { onAbort, unlessAborted } from '../abort.ts';
import { keyCheck } from './auth.ts';
import { readBody } from './body.ts';
import { docsPage } from './docs_page.ts';
import { errorBody, RequestError, requestErrorOf } from './errors.ts';
import { EventStream, eventHeaders } from './event_stream.ts';
import { Exchange, type Shared } from './exchange.ts';
import { infoOf } from './info.ts';
import { jsonBody } from './json_pieces.ts';
import type { Lifecycle } from './lifecycle.ts';
import { traceOf } from './log.ts';
import { mean } from './metrics.ts';
import { describe, isOpenAiPath } from './open_api.ts';
import type { Route } from './route.ts';
import { allRoutes, mainRoutes, routesFor } from './routes/routes.ts';
import type { Tracer } from './tracing.ts';

type App = Hono<{ Variables: { id: string; exchange?: Exchange; error?: RequestError } }>;
type AppContext = Context<{ Variables: { id: string; exchange?: Exchange; error?: RequestError } }>;

/** Of headers that say what a request took. */
const exposed = ['x-request-id', 'x-compute-type', 'x-compute-time', 'x-compute-characters', 'x-compute-tokens', 'x-total-time'];
/** What log lines would be full of otherwise. */
const quiet = new Set(['/', '/health', '/ping', '/ready', '/metrics']);
/** A client that went away before its answer, as nginx has it: nobody gets it. */
const closedByClient = 499;

export function createApp(shared: Shared, lifecycle: Lifecycle, tracer?: Tracer): App {
  const { settings, models, metrics, log } = shared;
  const app: App = new Hono();
  const isKey = keyCheck(settings.apiKeys);
  const description = () =>
    describe(routesFor(models.map(({ kind }) => kind)), {
      version: settings.version,
      hasKeys: settings.apiKeys.length > 0,
      models: models.map(({ name }) => name),
    });

  app.use(async (c, next) => {
    const began = performance.now();
    const given = c.req.header('x-request-id') ?? '';
    c.set('id', /^[\w.:/+=-]{1,128}$/.test(given) ? given : crypto.randomUUID());
    const span = quiet.has(c.req.path) ? undefined : tracer?.begin(c.req.method, c.req.path, c.req.raw.headers);
    await next();
    c.header('x-request-id', c.get('id'));
    const [exchange, error] = [c.get('exchange'), c.get('error')];
    const milliseconds = performance.now() - began;
    const status = exchange?.signal.aborted && c.req.raw.signal.aborted ? closedByClient : c.res.status;
    if (error?.reason && error.reason !== 'model_type') metrics.failed(error.reason);
    span?.end({ status, tokens: exchange?.tokens, model: exchange?.model?.name });
    if (quiet.has(c.req.path)) return;
    log(status >= 500 || status === 424 ? 'error' : status >= 400 ? 'warn' : 'info', 'request', {
      request_id: c.get('id'),
      method: c.req.method,
      path: known.has(c.req.path) ? c.req.path : 'unknown',
      status,
      error_type: error?.type,
      error: error?.type === 'Backend' && error.cause ? traceOf(error.cause) : undefined,
      model: exchange?.model?.name,
      texts: exchange?.timing?.texts.length,
      tokens: exchange?.timing && exchange.tokens,
      milliseconds,
    });
  });
  app.onError((error, c) => refuse(c as AppContext, error));
  if (settings.corsAllowOrigin.length > 0)
    app.use(
      cors({ origin: settings.corsAllowOrigin.includes('*') ? '*' : [...settings.corsAllowOrigin], exposeHeaders: exposed, maxAge: 600 }),
    );

  const alive = (c: AppContext) => {
    if (lifecycle.phase === 'starting') lifecycle.check();
    return c.text('ok');
  };
  for (const path of ['/', '/health', '/ping']) app.get(path, alive);
  app.get('/ready', (c) => {
    lifecycle.check();
    return c.text('ok');
  });
  app.get('/metrics', async (c) => c.text(await metrics.text(), 200, { 'content-type': metrics.contentType }));
  app.get('/api-doc/openapi.json', (c) => c.json(description()));
  app.get('/docs', (c) =>
    c.html(docsPage(description()), 200, { 'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'" }),
  );

  const keyed = async (c: AppContext, next: () => Promise<void>) => {
    if (settings.apiKeys.length > 0 && !(await isKey(c.req.header('authorization'))))
      throw new RequestError('Unauthenticated', 'the API key is missing or wrong, expected the header Authorization: Bearer KEY');
    lifecycle.check();
    await next();
  };
  app.get('/info', keyed, (c) => {
    const infos = models.map((model) => infoOf(model, settings));
    return c.json(infos.length === 1 ? infos[0] : { ...infos[0], models: infos });
  });
  const began = Math.floor(Date.now() / 1000);
  app.get('/v1/models', keyed, (c) =>
    c.json({ object: 'list', data: models.map(({ name }) => ({ id: name, object: 'model', created: began, owned_by: 'ultrafastbert' })) }),
  );
  for (const route of allRoutes) for (const path of route.paths) app.post(path, keyed, (c) => answer(c, route));
  // Clients that are told an address alone, and SageMaker.
  for (const path of ['/', '/invocations']) app.post(path, keyed, (c) => answer(c, mainRoutes[models[0].kind]));

  const known = new Map<string, Set<string>>();
  for (const { path, method } of app.routes)
    if (method !== 'ALL') known.set(path, (known.get(path) ?? new Set(method === 'GET' ? ['HEAD'] : [])).add(method));
  app.notFound((c) => {
    const methods = known.get(c.req.path);
    if (!methods) return refuse(c as AppContext, new RequestError('NotFound', 'no such route: GET /docs lists those there are'));
    c.header('allow', [...methods].join(', '));
    const expected = [...methods].join(' or ');
    return refuse(c as AppContext, new RequestError('MethodNotAllowed', `the route does not take this method, expected ${expected}`));
  });

  async function answer(c: AppContext, route: Route): Promise<Response> {
    const controller = new AbortController();
    const client = c.req.raw.signal;
    const gone = () => controller.abort(new RequestError('Unhealthy', 'the client went away', { reason: 'dropped' }));
    if (client.aborted) gone();
    const forget = onAbort(client, gone);
    const timer = setTimeout(() => {
      controller.abort(new RequestError('Overloaded', `no answer within ${settings.requestSeconds} seconds: try again later`));
    }, settings.requestSeconds * 1000);
    lifecycle.begin(controller);
    const exchange = new Exchange(shared, controller.signal, c.get('id'));
    c.set('exchange', exchange);
    const end = () => {
      clearTimeout(timer);
      forget();
      lifecycle.end(controller);
    };
    let goesOn = false;
    try {
      const body = await unlessAborted(readBody(c.req.raw, route.body, settings.payloadLimit, shared.bodies), controller.signal);
      const value = await unlessAborted(route.handle(body, exchange), controller.signal);
      if (value instanceof EventStream) {
        const events = await value.body(end, (error) => errorBody(requestErrorOf(error), isOpenAiPath(c.req.path)));
        goesOn = true;
        return c.body(events, 200, eventHeaders);
      }
      exchange.answered();
      return c.body(jsonBody(value), 200, { 'content-type': 'application/json', ...timesOf(exchange) });
    } finally {
      if (!goesOn) end();
    }
  }

  function refuse(c: AppContext, error: unknown): Response {
    const refused = requestErrorOf(error);
    c.set('error', refused);
    if (refused.status === 429) c.header('retry-after', '1');
    if (refused.status === 503) c.header('connection', 'close');
    if (refused.status === 401) c.header('www-authenticate', 'Bearer');
    return c.json(errorBody(refused, isOpenAiPath(c.req.path)), refused.status);
  }

  return app;
}

/** What a request took, in milliseconds. */
function timesOf({ began, timing, characters, tokens }: Exchange): Record<string, string> {
  if (!timing) return {};
  const total = performance.now() - began;
  const { tokenization, texts } = timing;
  const whole = (value: number) => `${Math.round(value)}`;
  return {
    'x-compute-type': 'cpu',
    'x-compute-time': whole(total),
    'x-compute-characters': `${characters}`,
    'x-compute-tokens': `${tokens}`,
    'x-total-time': whole(total),
    'x-tokenization-time': whole(tokenization),
    'x-queue-time': whole(mean(texts.map(({ queue }) => queue))),
    'x-inference-time': whole(mean(texts.map(({ inference }) => inference))),
  };
}
