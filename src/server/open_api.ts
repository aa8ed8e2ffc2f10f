/** The server's description, OpenAPI 3.1, from the routes themselves. */
import { toJsonSchema } from '@valibot/to-json-schema';
import type * as v from 'valibot';
import { type ErrorType, errorTypes, statusOf } from './errors.ts';
import type { Route } from './route.ts';

const schemaOf = (schema: v.GenericSchema, typeMode: 'input' | 'output') => {
  const { $schema, ...json } = toJsonSchema(schema, { target: 'draft-2020-12', typeMode, errorMode: 'ignore' });
  return json;
};

export const isOpenAiPath = (path: string) => /^\/(v1\/|embeddings$)/.test(path);

/** What a GET answers, beside the routes. */
const gets = {
  '/health': ['Whether the server can answer: 200, or 503 while it starts', 'text/plain', false],
  '/ping': ['The same', 'text/plain', false],
  '/ready': ['Whether the server takes requests: 503 while it starts, and as soon as it is to stop', 'text/plain', false],
  '/metrics': ['Metrics for Prometheus', 'text/plain', false],
  '/docs': ['This description as a page', 'text/html', false],
  '/api-doc/openapi.json': ['This description', 'application/json', false],
  '/info': ['The model, and the limits of the server', 'application/json', true],
  '/v1/models': ['The models: the form of OpenAI', 'application/json', true],
} as const;
export type GetPath = keyof typeof gets;

/** Statuses that a request for an answer may have beside 200. */
const refused: ErrorType[] = errorTypes.filter((type) => type !== 'NotFound' && type !== 'MethodNotAllowed');

/** @param routes those that the models do */
export function describe(routes: readonly Route[], { version, hasKeys, models }: { version: string; hasKeys: boolean; models: string[] }) {
  const security = hasKeys ? { security: [{ key: [] }] } : {};
  const paths: Record<string, Record<string, unknown>> = {};
  for (const { paths: names, summary, body, answer, example } of routes)
    for (const [index, path] of names.entries())
      paths[path] = {
        post: {
          summary: index === 0 ? summary : `${summary} (the same as ${names[0]})`,
          operationId: path.slice(1).replace(/\W/g, '_'),
          requestBody: { required: true, content: { 'application/json': { schema: schemaOf(body, 'input'), example } } },
          responses: {
            200: { description: 'The answer', content: { 'application/json': { schema: schemaOf(answer, 'output') } } },
            ...errorResponses(isOpenAiPath(path) ? 'OpenAiError' : 'Error', hasKeys),
          },
          ...security,
        },
      };
  for (const [path, [summary, type, isKept]] of Object.entries(gets))
    paths[path] = {
      get: {
        summary,
        operationId: `get_${path.slice(1).replace(/\W/g, '_')}`,
        responses: {
          200: { description: 'The answer', content: { [type]: {} } },
          ...(isKept && hasKeys ? { 401: response('Error', ['Unauthenticated']) } : {}),
          ...(isKept || /health|ping|ready/.test(path) ? { 503: response('Error', ['Unhealthy']) } : {}),
        },
        ...(isKept ? security : {}),
      },
    };
  return {
    openapi: '3.1.0',
    info: {
      title: 'UltraFastBERT',
      version,
      description: `Answers texts by ${models.join(', ')}. The routes are those of text-embeddings-inference, OpenAI and Cohere.`,
      license: { name: 'MIT', identifier: 'MIT' },
    },
    paths,
    components: {
      schemas: { Error: errorSchema, OpenAiError: openAiErrorSchema },
      ...(hasKeys ? { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } } : {}),
    },
  };
}

const errorType = { type: 'string', enum: errorTypes };
const errorSchema = {
  type: 'object',
  required: ['error', 'error_type'],
  properties: { error: { type: 'string' }, error_type: errorType },
};
const openAiErrorSchema = {
  type: 'object',
  required: ['error', 'message', 'code', 'type'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: { message: { type: 'string' }, type: { type: 'string' }, param: { type: 'null' }, code: { type: ['string', 'null'] } },
    },
    message: { type: 'string' },
    code: { type: 'integer' },
    type: errorType,
  },
};

function response(schema: string, types: readonly ErrorType[]) {
  return {
    description: types.join(' or '),
    content: { 'application/json': { schema: { $ref: `#/components/schemas/${schema}` } } },
  };
}

function errorResponses(schema: string, hasKeys: boolean) {
  const byStatus = new Map<number, ErrorType[]>();
  for (const type of refused) {
    if (type === 'Unauthenticated' && !hasKeys) continue;
    byStatus.set(statusOf(type), [...(byStatus.get(statusOf(type)) ?? []), type]);
  }
  return Object.fromEntries([...byStatus].map(([status, types]) => [status, response(schema, types)]));
}
