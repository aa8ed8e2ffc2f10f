/**
 * A server for scripts/load.mjs to measure beside `ufb serve`: the same Hono server and the same tokenizer, with an answer by
 * 'loop' (the pipeline, a text at a time, no queue below several requests) or 'onnx' (onnxruntime-node, the requests of one turn in a batch).
 *   node scripts/load_peer.mjs KIND MODEL THREADS
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { loadTokenizer, pipeline } from '../dist/index.js';
import { root } from './setup.mjs';

const [kind, model, threads] = process.argv.slice(2);
const answers = { loop: byLoop, onnx: byOnnx };
const embed = await answers[kind]();
const app = new Hono().post('/embed', async (c) => c.json([Array.from(await embed((await c.req.json()).inputs))]));
serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, ({ port }) => process.stdout.write(`http://127.0.0.1:${port}\n`));

async function byLoop() {
  const extract = await pipeline('feature-extraction', model, { threads: Number(threads) });
  let last = Promise.resolve();
  return (text) => {
    const answer = last.then(async () => (await extract(text, { pooling: extract.pooling ?? 'mean', normalize: true })).data);
    last = answer.catch(() => {});
    return answer;
  };
}

async function byOnnx() {
  const { InferenceSession, Tensor } = await import('onnxruntime-node');
  const folder = mkdtempSync(join(tmpdir(), 'ufb-load-'));
  const file = join(folder, 'model.onnx');
  const { status } = spawnSync(
    process.execPath,
    [join(root, 'dist/cli.js'), 'export', 'onnx', '--model', model, '--out', file, '--quiet'],
    {
      stdio: 'inherit',
    },
  );
  if (status !== 0) throw new Error('the model could not be exported');
  const session = await InferenceSession.create(file, { intraOpNumThreads: Number(threads), interOpNumThreads: 1 });
  rmSync(folder, { recursive: true });
  const tokenizer = await loadTokenizer(model);
  const waiting = [];
  let busy = false;
  const pump = async () => {
    if (busy) return;
    busy = true;
    while (waiting.length > 0) {
      // As many as a batch of `ufb serve` holds, in the order in which they came.
      let longest = 0;
      let count = 0;
      for (const { ids } of waiting) {
        const length = Math.max(longest, ids.length);
        if (count > 0 && (count + 1) * length > 4096) break;
        longest = length;
        count++;
      }
      const batch = waiting.splice(0, count);
      try {
        const vectors = await run(batch, longest);
        for (const [i, { resolve }] of batch.entries()) resolve(vectors[i]);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    busy = false;
  };
  const run = async (batch, length) => {
    const size = batch.length * length;
    const [ids, mask, types] = [0, 1, 2].map(() => new BigInt64Array(size));
    for (const [row, text] of batch.entries())
      for (const [i, id] of text.ids.entries()) {
        ids[row * length + i] = BigInt(id);
        mask[row * length + i] = 1n;
      }
    const all = { input_ids: ids, attention_mask: mask, token_type_ids: types };
    const feeds = Object.fromEntries(session.inputNames.map((name) => [name, new Tensor('int64', all[name], [batch.length, length])]));
    const output = (await session.run(feeds))[session.outputNames[0]];
    const width = output.dims.at(-1);
    return batch.map((text, row) => meanOf(output.data, row * length * width, text.ids.length, width));
  };
  return (text) =>
    new Promise((resolve, reject) => {
      waiting.push({ ids: tokenizer.encode(text, { maxLength: 256 }).ids, resolve, reject });
      queueMicrotask(pump);
    });
}

/** The mean of a text's vectors, scaled to length 1. */
function meanOf(values, start, tokens, width) {
  const vector = new Float32Array(width);
  for (let token = 0; token < tokens; token++) for (let i = 0; i < width; i++) vector[i] += values[start + token * width + i];
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}
