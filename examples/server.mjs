// A pipeline in a server of one's own: POST a JSON array of texts, get their vectors. `ufb serve` is the whole thing.
import { createServer } from 'node:http';
import { pipeline } from 'ultrafastbert';

const extract = await pipeline('feature-extraction', process.argv[2] ?? 'sentence-transformers/all-MiniLM-L6-v2');

const server = createServer(async (request, response) => {
  try {
    let body = '';
    for await (const part of request) if ((body += part).length > 1_000_000) throw new Error('expected at most a million characters');
    // Requests that come while a batch is computed go together into the next.
    const vectors = await extract(JSON.parse(body), { pooling: extract.pooling ?? 'mean', normalize: true });
    response.setHeader('content-type', 'application/json').end(JSON.stringify(vectors.tolist()));
  } catch (error) {
    response.writeHead(400).end(error.message);
  }
});

server.listen(Number(process.argv[3] ?? 3000), () => console.log(`http://localhost:${server.address().port}`));
process.once('SIGTERM', () => server.close(() => extract.dispose()));
