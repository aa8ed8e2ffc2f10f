import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { createDevice } from '../../src/backend/create.ts';
import { openWeights } from '../../src/io/model_folder.ts';
import { loadCausalLanguageModel, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { parseConfig } from '../../src/models/config_json.ts';
import { nextTokenLabels } from '../../src/models/decoder.ts';
import { Session } from '../../src/models/session.ts';
import { exportParameter } from '../../src/nn/parameter_arrays.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer_config.ts';
import { temporaryFolder } from '../temporary.ts';

/** Models that transformers saved, and what it says of them: make.py there. */
const fixtures = fileURLToPath(new URL('../fixtures/decoders', import.meta.url));
const folders = readdirSync(fixtures).filter((name) => !name.includes('.'));
const temporary = temporaryFolder();

interface Expected {
  every: number;
  texts: { text: string; ids: number[]; logits: number[][]; next: number[] }[];
  loss?: number;
  gradients?: Record<string, { largest: number; values: number[] }>;
}
const expectedOf = (folder: string): Expected => JSON.parse(readFileSync(`${fixtures}/${folder}/expected.json`, 'utf8'));

/** The place of the largest of a row. */
function largest(row: Float32Array): number {
  return row.reduce((best, value, i) => (value > row[best] ? i : best), 0);
}

const rowsOf = (values: Float32Array, width: number) =>
  Array.from({ length: values.length / width }, (_, row) => values.subarray(row * width, (row + 1) * width));

/** Texts side by side, padded at one end. */
function padded(texts: readonly { ids: number[] }[], side: 'left' | 'right') {
  const length = Math.max(...texts.map(({ ids }) => ids.length));
  const [ids, attentionMask] = [new Int32Array(texts.length * length), new Int32Array(texts.length * length)];
  texts.forEach((text, row) => {
    const start = row * length + (side === 'left' ? length - text.ids.length : 0);
    ids.set(text.ids, start);
    attentionMask.fill(1, start, start + text.ids.length);
  });
  return { batch: texts.length, length, ids, attentionMask };
}

describe.each(folders)('%s', (folder) => {
  const path = `${fixtures}/${folder}`;
  const expected = expectedOf(folder);
  const { texts } = expected;

  test('its tokenizer gives the ids that transformers gives', async () => {
    const tokenizer = await loadTokenizer(path);
    for (const { text, ids } of texts) {
      expect(Array.from(tokenizer.encode(text).ids)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(text);
    }
  });

  test.each(['reference', 'native', 'wasm'] as const)('%s: the logits of transformers', async (kind) => {
    using device = await createDevice({ name: kind });
    using model = await loadCausalLanguageModel(path, device);
    using session = new Session(device);
    const { vocabSize } = model.config;
    const theirs = texts.flatMap(({ logits }) => logits);
    const most = Math.max(...theirs.flat().map(Math.abs));
    for (const side of ['left', 'right'] as const) {
      const values = await session.pass(async (context) => device.read(model.logits(context, padded(texts, side))));
      const own = rowsOf(values, vocabSize).map((row) => Array.from(row).filter((_, i) => i % expected.every === 0));
      expect(own).toHaveLength(theirs.length);
      for (const [t, row] of own.entries())
        for (const [i, value] of row.entries()) expect(Math.abs(value - theirs[t][i])).toBeLessThan(1e-5 * most);
    }
  });

  test.each(['native', 'wasm', 'reference'] as const)(
    '%s: goes on as transformers does, all texts at once, and the same bits as without a cache',
    async (kind) => {
      using device = await createDevice({ name: kind });
      using model = await loadCausalLanguageModel(path, device);
      using session = new Session(device);
      const { vocabSize } = model.config;
      const cache = session.createCache(model, { batch: texts.length, maxLength: 64 });
      const written: number[][] = texts.map(() => []);
      const bits: Float32Array[][] = texts.map(() => []);
      let next: ArrayLike<number>[] = texts.map(({ ids }) => ids);
      for (let step = 0; step < 12; step++) {
        const logits = rowsOf(await session.pass(async (context) => device.read(model.step(context, next, cache))), vocabSize);
        next = logits.map((row, index) => {
          bits[index].push(row.slice());
          written[index].push(largest(row));
          return [largest(row)];
        });
      }
      expect(written).toEqual(texts.map(({ next }) => next));
      for (const [index, { ids }] of texts.entries()) {
        const all = [...ids, ...written[index].slice(0, -1)];
        const whole = await session.pass(async (context) =>
          device.read(model.logits(context, { batch: 1, length: all.length, ids: Int32Array.from(all) })),
        );
        expect(rowsOf(whole, vocabSize).slice(ids.length - 1)).toEqual(bits[index]);
      }
    },
  );

  test.each(['bf16', 'i8'] as const)('%s: near f32, and the same bits with a cache as without', async (dtype) => {
    using device = await createDevice({ name: 'native' });
    using session = new Session(device);
    using exact = await loadCausalLanguageModel(path, device);
    using model = await loadCausalLanguageModel(path, device, { dtype });
    const { ids } = texts[0];
    const batch = { batch: 1, length: ids.length, ids: Int32Array.from(ids) };
    const [right, own] = await session.pass(async (context) => [
      await device.read(exact.logits(context, batch)),
      await device.read(model.logits(context, batch)),
    ]);
    const most = right.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    for (const [i, value] of own.entries()) expect(Math.abs(value - right[i])).toBeLessThan((dtype === 'bf16' ? 0.05 : 0.1) * most);
    const cache = session.createCache(model, { batch: 1, maxLength: 64 });
    const parts: number[] = [];
    for (const part of [ids.slice(0, 3), ids.slice(3, 4), ids.slice(4)])
      parts.push(...(await session.pass(async (context) => device.read(model.step(context, [part], cache, 'all')))));
    expect(Float32Array.from(parts)).toEqual(own);
  });

  test('what is saved has the tensors and the configuration that transformers wrote', async () => {
    using device = await createDevice({ name: 'reference' });
    using model = await loadCausalLanguageModel(path, device);
    const out = join(temporary, folder);
    await saveCheckpoint(out, model, { tokenizer: await loadTokenizer(path) });
    await using theirs = await openWeights(path);
    await using own = await openWeights(out);
    expect(own.names.sort()).toEqual(theirs.names.sort());
    for (const name of own.names) expect(await own.read(name), name).toEqual(await theirs.read(name));
    const [theirConfig, ownConfig] = [path, out].map((at) => JSON.parse(readFileSync(join(at, 'config.json'), 'utf8')));
    expect(parseConfig(ownConfig, 'ours')).toEqual(parseConfig(theirConfig, 'theirs'));
    for (const [key, value] of Object.entries(ownConfig))
      if (key in theirConfig) expect({ [key]: value }).toEqual({ [key]: theirConfig[key] });
    expect(ownConfig.architectures).toEqual(theirConfig.architectures);
  });
});

test.each(folders.filter((name) => expectedOf(name).gradients))('%s: the gradients of torch', async (folder) => {
  const path = `${fixtures}/${folder}`;
  const expected = expectedOf(folder);
  const { texts } = expected;
  using device = await createDevice({ name: 'native' });
  using model = await loadCausalLanguageModel(path, device);
  using arena = new Arena(device);
  for (const parameter of model.parameters) parameter.gradient = device.zeros('gradient', parameter.value.shape);
  const ids = Int32Array.from(texts[1].ids);
  const batch = { batch: 1, length: ids.length, ids };
  const labels = nextTokenLabels(batch);
  const count = labels.filter((label) => label !== -100).length;
  expect(count).toBe(ids.length - 1);
  const losses = model.lossAndGradients({ device, arena, training: true }, { ...batch, labels }, { scale: 1 / count });
  const loss = (await device.read(losses)).reduce((sum, value) => sum + value, 0) / count;
  expect(Math.abs(loss - expected.loss!)).toBeLessThan(1e-5 * expected.loss!);
  const compared = new Set<string>();
  for (const parameter of model.parameters) {
    for (const { name, values } of await exportParameter(parameter, parameter.gradient)) {
      const { largest, values: theirs } = expected.gradients![name];
      const own = Array.from(values).filter((_, i) => i % expected.every === 0);
      expect(own).toHaveLength(theirs.length);
      for (const [i, value] of own.entries()) expect(Math.abs(value - theirs[i]), name).toBeLessThan(1e-5 * largest);
      compared.add(name);
    }
  }
  expect([...compared].sort()).toEqual(Object.keys(expected.gradients!).sort());
});
