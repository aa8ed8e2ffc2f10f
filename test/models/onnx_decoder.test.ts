import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { encodeOnnx } from '../../src/io/onnx_writer.ts';
import type { CausalLanguageModel } from '../../src/models/causal_language_model.ts';
import { loadCausalLanguageModel } from '../../src/models/checkpoint.ts';
import type { ModelConfig } from '../../src/models/config.ts';
import { decoderGraph } from '../../src/models/onnx_decoder.ts';
import { Session } from '../../src/models/session.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyDecoder } from '../tiny_decoder.ts';

const device = new ReferenceDevice();
const folder = temporaryFolder();
afterAll(() => device.dispose());

/** Prompts of different lengths, and what is written behind them: a token of each a step. */
const prompts = [
  [5, 6, 7, 8, 9],
  [40, 41],
  [70, 71, 72],
];
const written = [
  [10, 11, 12],
  [20, 21, 22],
];

/** Ours: logits at the end of each prompt, then of each step, [steps][rows vocabulary]. */
async function ours(model: CausalLanguageModel): Promise<Float32Array[]> {
  using session = new Session(device);
  const cache = session.createCache(model, { batch: prompts.length, maxLength: 16 });
  const steps = [prompts, ...written.map((tokens) => tokens.map((token) => [token]))];
  const logits: Float32Array[] = [];
  for (const tokens of steps) logits.push(await session.pass((context) => device.read(model.step(context, tokens, cache))));
  return logits;
}

/** onnxruntime's with prompts padded on the left, and what it gives of one step handed to the next. */
async function theirs(session: InferenceSession, { config }: CausalLanguageModel): Promise<Float32Array[]> {
  const { numHiddenLayers: layers, numAttentionHeads: heads, hiddenSize, vocabSize } = config;
  const batch = prompts.length;
  const longest = Math.max(...prompts.map(({ length }) => length));
  const integers = (rows: readonly (readonly number[])[]) =>
    new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [batch, rows[0].length]);
  let masks = prompts.map(({ length }) => Array.from({ length: longest }, (_, i) => (i < longest - length ? 0 : 1)));
  let ids = prompts.map((prompt) => [...new Array<number>(longest - prompt.length).fill(0), ...prompt]);
  let positions = masks.map((mask) => mask.map((_, i) => Math.max(0, mask.slice(0, i + 1).filter((one) => one === 1).length - 1)));
  let kept: Record<string, Tensor> = Object.fromEntries(
    Array.from({ length: 2 * layers }, (_, i) => [
      `past_key_values.${i >> 1}.${i % 2 ? 'value' : 'key'}`,
      new Tensor('float32', new Float32Array(0), [batch, heads, 0, hiddenSize / heads]),
    ]),
  );
  const logits: Float32Array[] = [];
  for (let step = 0; step <= written.length; step++) {
    const feeds = { input_ids: integers(ids), attention_mask: integers(masks), position_ids: integers(positions), ...kept };
    const results = await session.run(feeds);
    const { data, dims } = results.logits;
    const length = dims[1];
    const last = prompts.map((_, row) =>
      (data as Float32Array).subarray(((row + 1) * length - 1) * vocabSize, (row + 1) * length * vocabSize),
    );
    logits.push(Float32Array.from(last.flatMap((values) => Array.from(values))));
    kept = Object.fromEntries(Object.keys(kept).map((name) => [name, results[name.replace('past_key_values', 'present')] as Tensor]));
    if (step === written.length) break;
    ids = written[step].map((token) => [token]);
    positions = prompts.map((prompt) => [prompt.length + step]);
    masks = masks.map((mask) => [...mask, 1]);
  }
  return logits;
}

const forms: [string, Partial<ModelConfig>][] = [
  ['trees', {}],
  ['trees with leaves of several neurons, beside others', { feedforward: { kind: 'fff', trees: 2, depth: 2, leafWidth: 3, alwaysOn: 4 } }],
  ['dense', { family: 'gpt2', feedforward: { kind: 'dense', neurons: 24 } }],
  ['none', { feedforward: { kind: 'none' } }],
  ['a head of its own', { untiedDecoder: true }],
];

test.each(forms)('%s: onnxruntime gives what we do, prompts of several lengths and tokens behind them', async (name, changes) => {
  const to = join(folder, name);
  await writeTinyDecoder(to, changes);
  using model = await loadCausalLanguageModel(to, device);
  const graph = await decoderGraph(model);
  expect(graph.nodes.every(({ domain }) => domain === undefined)).toBe(true);
  const session = await InferenceSession.create(encodeOnnx(graph));
  const [expected, found] = [await ours(model), await theirs(session, model)];
  for (const [step, values] of expected.entries()) {
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(values.reduce((most, value, i) => Math.max(most, Math.abs(value - found[step][i])), 0) / largest).toBeLessThan(1e-5);
  }
  await session.release();
});
