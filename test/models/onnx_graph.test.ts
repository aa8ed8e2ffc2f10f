import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { encodeOnnx } from '../../src/io/onnx_writer.ts';
import { createMaskedLanguageModel, loadModel, type Model } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig } from '../../src/models/config.ts';
import { modelGraph } from '../../src/models/onnx_graph.ts';
import { ufb } from '../cli/ufb.ts';
import { goldenPath } from '../goldens.ts';
import { miniLm, miniLmMissing } from '../real_model.ts';
import { temporaryFolder } from '../temporary.ts';

const device = new ReferenceDevice();
const folder = temporaryFolder();

/** A batch with padding, the same for ours and for onnxruntime. */
function batchOf({ config }: Model, batch: number, length: number) {
  const ids = Int32Array.from({ length: batch * length }, (_, i) => (i * 37 + 11) % config.vocabSize);
  const attentionMask = Int32Array.from(ids, (_, i) => (i % length < length - (Math.floor(i / length) % 3) ? 1 : 0));
  const typeIds =
    config.typeVocabSize > 0 ? Int32Array.from(ids, (_, i) => (i % length > length / 2 ? config.typeVocabSize - 1 : 0)) : undefined;
  return { batch, length, ids, attentionMask, typeIds };
}
type TestBatch = ReturnType<typeof batchOf>;

async function ours(model: Model, batch: TestBatch): Promise<Float32Array> {
  using arena = new Arena(device);
  const context = { device, arena, training: false };
  return (await device.read(
    model.task === 'encoder' ? model.forward(context, batch).output : model.logits(context, batch),
  )) as Float32Array;
}

async function theirs(
  session: InferenceSession,
  { batch, length, ids, attentionMask, typeIds }: TestBatch,
): Promise<{ data: Float32Array; dims: readonly number[] }> {
  const input = (values: Int32Array) => new Tensor('int64', BigInt64Array.from(values, BigInt), [batch, length]);
  const feeds = { input_ids: input(ids), attention_mask: input(attentionMask), ...(typeIds && { token_type_ids: input(typeIds) }) };
  const results = await session.run(feeds);
  const { data, dims } = results[session.outputNames[0]];
  return { data: data as Float32Array, dims };
}

/** The largest difference over the largest expected value. */
async function difference(model: Model, session: InferenceSession, batch: TestBatch): Promise<number> {
  const expected = await ours(model, batch);
  const { data } = await theirs(session, batch);
  expect(data.length).toBe(expected.length);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - data[i])), 0) / largest;
}

const classifiers = readdirSync(goldenPath('crammed-bert-fff', 'classify')).filter((name) => name.endsWith('.safetensors'));

/** What transformers saved of other families. */
const familyFixtures = fileURLToPath(new URL('../fixtures/families', import.meta.url));
const families = readdirSync(familyFixtures).filter((name) => !name.includes('.'));

test.each(['crammed-bert-fff', 'crammed-bert-fff-deep', 'crammed-bert-dense', 'hf-bert', 'hf-bert-classify', ...families])(
  '%s: onnxruntime gives what we do, for any batch and length',
  async (golden) => {
    using model = await loadModel(families.includes(golden) ? join(familyFixtures, golden) : goldenPath(golden), device);
    const graph = await modelGraph(model);
    expect(graph.nodes.every(({ domain }) => domain === undefined)).toBe(true);
    const session = await InferenceSession.create(encodeOnnx(graph));
    for (const [batch, length] of [
      [1, 1],
      [3, 9],
      [2, Math.min(24, model.config.maxPositionEmbeddings)],
    ]) {
      expect(await difference(model, session, batchOf(model, batch, length))).toBeLessThan(1e-4);
    }
    await session.release();
  },
);

test.each(['relu', 'geluTanh', 'silu'] as const)('layers and a head with %s', async (activation) => {
  const start = crammedBertConfig({ vocabSize: 50, hiddenSize: 24, numAttentionHeads: 3, numHiddenLayers: 2, initializerRange: 0.3 });
  const feedforward = { kind: 'dense', neurons: 20 } as const;
  const bert = { family: 'bert', typeVocabSize: 2, bias: { queryKeyValue: true, dense: true }, maxPositionEmbeddings: 32 };
  using model = createMaskedLanguageModel({ ...start, ...bert, feedforward, activation }, device, 4);
  const session = await InferenceSession.create(encodeOnnx(await modelGraph(model)));
  expect(await difference(model, session, batchOf(model, 3, 10))).toBeLessThan(1e-4);
  await session.release();
});

test('classifiers of every pooling, leaves of several neurons, and routing thresholds', async () => {
  expect(classifiers.length).toBeGreaterThan(0);
  const config = crammedBertConfig({
    vocabSize: 50,
    hiddenSize: 24,
    numAttentionHeads: 3,
    numHiddenLayers: 2,
    maxPositionEmbeddings: 32,
    feedforward: { kind: 'fff', trees: 2, depth: 2, leafWidth: 3 },
    initializerRange: 0.3,
  });
  using model = createMaskedLanguageModel(config, device, 4);
  const agrees = async () => {
    const session = await InferenceSession.create(encodeOnnx(await modelGraph(model)));
    expect(await difference(model, session, batchOf(model, 3, 10))).toBeLessThan(1e-4);
    await session.release();
  };
  await agrees();
  const before = await ours(model, batchOf(model, 3, 10));
  for (const { buffer, value } of model.parameters)
    if (buffer)
      device.write(
        value,
        Float32Array.from({ length: value.size }, (_, node) => Math.sin(5 * node) / 2),
      );
  await agrees();
  expect(await ours(model, batchOf(model, 3, 10))).not.toEqual(before);

  const { createSequenceClassifier } = await import('../../src/models/checkpoint.ts');
  for (const kind of ['first', 'mean', 'max', 'logSumExp'] as const) {
    using classifier = createSequenceClassifier({ ...config, numLabels: 3, pooler: { kind, size: 10 } }, device, 5);
    const session = await InferenceSession.create(encodeOnnx(await modelGraph(classifier)));
    expect(await difference(classifier, session, batchOf(classifier, 2, 7)), kind).toBeLessThan(1e-4);
    await session.release();
  }
});

test.each<ModelConfig['feedforward']>([{ kind: 'fff', trees: 1, depth: 3, alwaysOn: 4 }, { kind: 'none' }])(
  '$kind with $alwaysOn neurons always on',
  async (feedforward) => {
    const shape = {
      vocabSize: 50,
      hiddenSize: 24,
      numAttentionHeads: 3,
      numHiddenLayers: 2,
      maxPositionEmbeddings: 32,
      feedforward,
      initializerRange: 0.3,
    };
    const bert = { family: 'ultrafastbert' as const, typeVocabSize: 2, bias: { queryKeyValue: true, dense: true } };
    for (const config of [crammedBertConfig(shape), crammedBertConfig({ ...shape, ...bert })]) {
      using model = createMaskedLanguageModel(config, device, 4);
      const session = await InferenceSession.create(encodeOnnx(await modelGraph(model)));
      expect(await difference(model, session, batchOf(model, 3, 10)), config.family).toBeLessThan(1e-4);
      await session.release();
    }
  },
);

test('in i8, near to f32', async () => {
  using model = await loadModel(goldenPath('hf-bert'), device);
  const session = await InferenceSession.create(encodeOnnx(await modelGraph(model, 'i8')));
  const error = await difference(model, session, batchOf(model, 3, 9));
  expect(error).toBeLessThan(0.1);
  expect(error).toBeGreaterThan(1e-5);
  await session.release();
});

test('ufb export onnx', async () => {
  const model = join(folder, 'model');
  const { writeTinyModel } = await import('../tiny_model.ts');
  await writeTinyModel(model);
  const out = join(folder, 'model.onnx');
  const { code, stderr } = await ufb(['export', 'onnx', '--model', model, '--out', out]);
  expect([code, stderr]).toEqual([0, expect.stringMatching(/model\.onnx: input_ids, attention_mask to logits, opset 20, [\d.]+ MB\n$/)]);
  const session = await InferenceSession.create(out);
  using loaded = await loadModel(model, device);
  expect(await difference(loaded, session, batchOf(loaded, 2, 12))).toBeLessThan(1e-4);
  await session.release();
});

test.skipIf(miniLmMissing)(`all-MiniLM-L6-v2${miniLmMissing}`, async () => {
  using model = await loadModel(miniLm, device);
  const session = await InferenceSession.create(encodeOnnx(await modelGraph(model)));
  expect(await difference(model, session, batchOf(model, 2, 6))).toBeLessThan(1e-4);
  await session.release();
});
