/** Traces for OpenTelemetry, where its packages are installed beside: they are no dependency. */
import { InputError } from '../errors.ts';

/** A request as a span. */
export interface Span {
  end(outcome: { status: number; tokens?: number; model?: string }): void;
}

export interface Tracer {
  /** A span of what the header `traceparent` names, if it is there. */
  begin(method: string, path: string, headers: Headers): Span;
  /** Sends what has not been sent. */
  end(): Promise<void>;
}

const packages = ['api', 'core', 'resources', 'sdk-trace-node', 'exporter-trace-otlp-http']
  .map((name) => `@opentelemetry/${name}`)
  .join(' ');

const ofHeaders = {
  get: (headers: Headers, name: string) => headers.get(name) ?? undefined,
  keys: () => ['traceparent', 'tracestate'],
};

/**
 * Sends spans to an endpoint of OTLP over HTTP, 'http://localhost:4318' say.
 * @throws InputError if the packages are missing
 */
export async function openTracer(endpoint: string, version: string): Promise<Tracer> {
  const [api, sdk, exporter, resources, core] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace-node'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/core'),
  ]).catch((error) => {
    throw new InputError(`--otlp-endpoint needs packages that are not installed: npm install ${packages}`, { cause: error });
  });
  const { ROOT_CONTEXT, SpanKind, SpanStatusCode } = api;
  const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`;
  const provider = new sdk.NodeTracerProvider({
    resource: resources.resourceFromAttributes({ 'service.name': 'ultrafastbert', 'service.version': version }),
    spanProcessors: [new sdk.BatchSpanProcessor(new exporter.OTLPTraceExporter({ url }))],
  });
  const tracer = provider.getTracer('ultrafastbert', version);
  const propagator = new core.W3CTraceContextPropagator();
  return {
    begin(method, path, headers) {
      const parent = propagator.extract(ROOT_CONTEXT, headers, ofHeaders);
      const attributes = { 'http.request.method': method, 'url.path': path };
      const span = tracer.startSpan(`${method} ${path}`, { kind: SpanKind.SERVER, attributes }, parent);
      return {
        end({ status, tokens, model }) {
          span.setAttributes({ 'http.response.status_code': status, ...(tokens ? { tokens } : {}), ...(model ? { model } : {}) });
          if (status >= 500 || status === 424) span.setStatus({ code: SpanStatusCode.ERROR });
          span.end();
        },
      };
    },
    end: () => provider.shutdown(),
  };
}
