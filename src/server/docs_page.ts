/** The description as a page that needs no other file. */
import type { describe } from './open_api.ts';

interface Operation {
  summary: string;
  requestBody?: { content: { 'application/json': { schema: JsonSchema; example: unknown } } };
  responses: Record<string, { description: string; content?: Record<string, { schema?: JsonSchema }> }>;
}
interface JsonSchema {
  type?: string | string[];
  description?: string;
  default?: unknown;
  const?: unknown;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  $ref?: string;
}

export function docsPage({ info, paths, components }: ReturnType<typeof describe>): string {
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation: operation as Operation })),
  );
  const hasKeys = 'securitySchemes' in components;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(info.title)}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h2 { font-size: 1.1rem; margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: #f5f5f7; border-radius: 4px; }
code { padding: 0 .25rem; } pre { padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee; }
.method { color: #666; text-transform: uppercase; font-size: .85rem; margin-right: .5rem; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #16161a; } code, pre { background: #24242a; } h2, th, td { border-color: #333; } }
</style>
</head>
<body>
<h1>${escaped(info.title)} ${escaped(info.version)}</h1>
<p>${escaped(info.description)} For programs: <a href="api-doc/openapi.json">openapi.json</a>.${hasKeys ? ' Requests need the header <code>Authorization: Bearer KEY</code>.' : ''}</p>
<ul>${routes.map(({ path, method, operation }) => `<li><a href="#${id(method, path)}"><code>${escaped(path)}</code></a> ${escaped(operation.summary)}</li>`).join('\n')}</ul>
${routes.map((route) => section(route, hasKeys)).join('\n')}
<h2>Errors</h2>
<p>An error is <code>{"error": message, "error_type": type}</code>. Below /v1 it is what OpenAI's clients read, and <code>{message, code, type}</code> beside.</p>
</body>
</html>
`;
}

function section({ path, method, operation }: { path: string; method: string; operation: Operation }, hasKeys: boolean): string {
  const body = operation.requestBody?.content['application/json'];
  const answer = operation.responses[200]?.content?.['application/json']?.schema;
  const errors = Object.entries(operation.responses).filter(([status]) => status !== '200');
  const statuses = errors.map(([status, { description }]) => `${status} (${escaped(description)})`).join(', ');
  return [
    `<h2 id="${id(method, path)}"><span class="method">${method}</span><code>${escaped(path)}</code></h2>`,
    `<p>${escaped(operation.summary)}.</p>`,
    body ? `<pre>${escaped(curl(path, body.example, hasKeys))}</pre>${table(body.schema)}` : '',
    answer && Object.keys(answer).length > 0 ? `<p>Answer: <code>${escaped(shown(answer))}</code></p>` : '',
    statuses ? `<p>Otherwise: ${statuses}.</p>` : '',
  ].join('\n');
}

const id = (method: string, path: string) => `${method}${path.replace(/\W/g, '-')}`;

const curl = (path: string, example: unknown, hasKeys: boolean) =>
  `curl http://localhost:3000${path} -H 'Content-Type: application/json' ${hasKeys ? "-H 'Authorization: Bearer KEY' " : ''}\\
  -d '${JSON.stringify(example)}'`;

function table({ properties = {}, required = [] }: JsonSchema): string {
  const rows = Object.entries(properties).map(([name, schema]) => {
    const needed = required.includes(name) ? 'required' : schema.default === undefined ? '' : `default ${JSON.stringify(schema.default)}`;
    return `<tr><td><code>${escaped(name)}</code></td><td><code>${escaped(shown(schema))}</code></td><td>${escaped(needed)}</td><td>${escaped(descriptionOf(schema))}</td></tr>`;
  });
  return `<table><tr><th>field</th><th>type</th><th></th><th></th></tr>${rows.join('\n')}</table>`;
}

const descriptionOf = ({ description, anyOf = [] }: JsonSchema): string =>
  description ?? anyOf.map(({ description }) => description).find((text) => text !== undefined) ?? '';

/** A schema in a few words. */
function shown(schema: JsonSchema): string {
  if ('const' in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (schema.anyOf) return [...new Set(schema.anyOf.filter(({ type }) => type !== 'null').map(shown))].join(' | ');
  if (schema.type === 'array')
    return /[ |]/.test(shown(schema.items ?? {})) ? `(${shown(schema.items ?? {})})[]` : `${shown(schema.items ?? {})}[]`;
  if (schema.properties) {
    const fields = Object.entries(schema.properties).map(
      ([name, each]) => `${name}${schema.required?.includes(name) ? '' : '?'}: ${shown(each)}`,
    );
    return `{ ${fields.join(', ')} }`;
  }
  return [schema.type ?? 'any'].flat().join(' | ');
}

const escaped = (text: string) =>
  text.replace(/[&<>"]/g, (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[character] as string);
