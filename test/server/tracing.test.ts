import { createServer } from 'node:http';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { serve } from './serving.ts';

interface Traces {
  resourceSpans: {
    scopeSpans: {
      spans: { traceId: string; parentSpanId: string; name: string; attributes: { key: string; value: { intValue?: number } }[] }[];
    }[];
  }[];
}

test('requests are spans of the trace that they name', async () => {
  const folder = join(temporaryFolder(), 'model');
  await writeTinyModel(folder, tinyBert);
  const received: { path?: string; body: string }[] = [];
  const collector = createServer((request, response) => {
    let body = '';
    request
      .on('data', (part) => (body += part))
      .on('end', () => {
        received.push({ path: request.url, body });
        response.end('{}');
      });
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => collector.once('listening', resolve));
  const { port } = collector.address() as { port: number };
  const serving = await serve([{ folder, pooling: 'mean' }], {}, { otlpEndpoint: `http://127.0.0.1:${port}/` });
  const [trace, parent] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'];
  await serving.post('/embed', { inputs: 'a-secret-text' }, { traceparent: `00-${trace}-${parent}-01` });
  await fetch(`${serving.url}/health`); // is no span
  await serving.stop();
  collector.close();
  expect(received.map(({ path }) => path)).toEqual(['/v1/traces']);
  expect(received[0].body).not.toContain('secret');
  const spans = (JSON.parse(received[0].body) as Traces).resourceSpans.flatMap(({ scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) => spans),
  );
  expect(spans).toMatchObject([{ traceId: trace, parentSpanId: parent, name: 'POST /embed' }]);
  expect(spans[0].attributes).toContainEqual({ key: 'http.response.status_code', value: { intValue: 200 } });
});
