import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { createDevice } from '../../src/backend/create.ts';
import type { Device } from '../../src/backend/device.ts';
import { createStudent, measureTeacher } from '../../src/convert/student.ts';
import { openWeights } from '../../src/io/model_folder.ts';
import { encoderOf, loadModel, type Model, readPooler, saveCheckpoint } from '../../src/models/checkpoint.ts';
import type { FeedforwardConfig } from '../../src/models/config.ts';
import { parseConfig } from '../../src/models/config_json.ts';
import { batchOf } from '../../src/models/text_batches.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer_config.ts';
import { temporaryFolder } from '../temporary.ts';

/** Models that transformers saved, and what it says of them: make.py there. */
const fixtures = fileURLToPath(new URL('../fixtures/families', import.meta.url));
const folders = readdirSync(fixtures).filter((name) => !name.includes('.'));

const temporary = temporaryFolder();

interface Expected {
  texts: {
    text: string;
    ids: number[];
    offsets: [number, number][];
    decoded: string;
    /** Of a masked language model every 41st of each token's, of a classifier all. */
    logits?: number[][] | number[];
    /** Of an encoder, every 7th of each token. */
    hidden?: number[][];
  }[];
  pair?: { text: string; text_pair: string; ids: number[] };
}

const expectedOf = (folder: string): Expected => JSON.parse(readFileSync(`${fixtures}/${folder}/expected.json`, 'utf8'));

/** What a model says of texts, padded to one length, as expected.json has it. */
async function answers(model: Model, device: Device, texts: readonly { ids: number[] }[]): Promise<number[][][]> {
  using arena = new Arena(device);
  const context = { device, arena, training: false };
  const encoded = texts.map(({ ids }) => ({ ids, typeIds: ids.map(() => 0) }));
  const length = Math.max(...texts.map(({ ids }) => ids.length));
  const batch = batchOf(
    encoded,
    encoded.map((_, i) => i),
  );
  expect(batch.length).toBe(length);
  const tensor = model.task === 'encoder' ? encoderOf(model).forward(context, batch).output : model.logits(context, batch);
  const values = await device.read(tensor);
  const width = tensor.shape[1];
  const step = { encoder: 7, 'masked-lm': 41, 'sequence-classification': 1 }[model.task];
  const row = (index: number) => Array.from(values.subarray(index * width, (index + 1) * width)).filter((_, i) => i % step === 0);
  if (model.task === 'sequence-classification') return texts.map((_, i) => [row(i)]);
  return texts.map(({ ids }, i) => ids.map((_, position) => row(i * length + position)));
}

describe.each(folders)('%s', (folder) => {
  const expected = expectedOf(folder);

  test.each(['reference', 'native', 'wasm'] as const)('%s: what transformers answers', async (kind) => {
    using device = await createDevice({ name: kind });
    using model = await loadModel(`${fixtures}/${folder}`, device);
    const own = (await answers(model, device, expected.texts)).flat(2);
    const theirs = expected.texts.flatMap(({ logits, hidden }) => (logits ?? hidden ?? []).flat());
    expect(own).toHaveLength(theirs.length);
    const largest = Math.max(...theirs.map(Math.abs));
    for (const [i, value] of own.entries()) expect(Math.abs(value - theirs[i])).toBeLessThan(1e-5 * largest);
  });

  test('what is saved has the tensors and the configuration that transformers wrote', async () => {
    using device = await createDevice({ name: 'reference' });
    const path = `${fixtures}/${folder}`;
    using model = await loadModel(path, device);
    const out = join(temporary, folder);
    await saveCheckpoint(out, model, { tokenizer: await loadTokenizer(path), rest: await readPooler(path) });
    await using theirs = await openWeights(path);
    await using own = await openWeights(out);
    // The head that tells replaced tokens from others has no use here.
    const names = theirs.names.filter((name) => !name.startsWith('discriminator_predictions.'));
    const isBare = model.task === 'encoder' && !names.includes('embeddings.word_embeddings.weight');
    const written = own.names.map((name) => (isBare && !name.startsWith('electra.') ? `electra.${name}` : name));
    expect(written.toSorted()).toEqual(names.toSorted());
    for (const [i, name] of own.names.entries()) expect(await own.read(name)).toEqual(await theirs.read(written[i]));
    const [saved, original] = [out, path].map((from) => parseConfig(JSON.parse(readFileSync(`${from}/config.json`, 'utf8')), from));
    expect(saved).toEqual(original);
    using again = await loadModel(out, device);
    expect(await answers(again, device, expected.texts)).toEqual(await answers(model, device, expected.texts));
  });

  test.each<FeedforwardConfig>([
    { kind: 'fff', trees: 2, depth: 2, leafWidth: 3 },
    { kind: 'fff', trees: 1, depth: 2, alwaysOn: 4 },
    { kind: 'dense', neurons: 9 },
  ])('converts to $kind, is saved and is opened again', async (feedforward) => {
    using device = await createDevice({ name: 'reference' });
    using teacher = await loadModel(`${fixtures}/${folder}`, device);
    const ids = Int32Array.from({ length: 24 }, (_, i) => 5 + ((i * 7) % 50));
    const { blocks } = await measureTeacher(encoderOf(teacher), [{ batch: 4, length: 6, ids }]);
    const { model, added, centering } = await createStudent(teacher, blocks, { feedforward, layers: 1, seed: 1, device });
    using student = model;
    // What is new is the feedforward layer's.
    const { feedforward: layer } = encoderOf(student).blocks[0].layers;
    const isNew = (layer?.parameters ?? []).filter((parameter) => added.includes(parameter));
    expect(isNew).toHaveLength(added.length);
    expect(added.length).toBeGreaterThan(0);
    const out = join(temporary, `${folder}-${feedforward.kind}`);
    const answered = await centering.folded(async () => {
      await saveCheckpoint(out, student);
      return answers(student, device, expected.texts);
    });
    using again = await loadModel(out, device);
    expect(again.config).toEqual({ ...student.config, feedforward: { ...again.config.feedforward, ...feedforward } });
    expect(await answers(again, device, expected.texts)).toEqual(answered);
  });

  test('tokens, offsets and decoded texts as transformers has them', async () => {
    const tokenizer = await loadTokenizer(`${fixtures}/${folder}`);
    for (const { text, ids, offsets, decoded } of expected.texts) {
      const encoding = tokenizer.encode(text);
      expect(encoding.ids, text).toEqual(ids);
      expect(encoding.offsets, text).toEqual(offsets);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decoded);
    }
    if (!expected.pair) return;
    const { text, text_pair: pair, ids } = expected.pair;
    expect(tokenizer.encode(text, { pair }).ids).toEqual(ids);
  });
});
