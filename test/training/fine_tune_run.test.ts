import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { runFineTuning } from '../../src/training/fine_tune_run.ts';
import { expectClose } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyClassifier, writeTinyModel } from '../tiny_model.ts';

const device = new ReferenceDevice();
const folder = temporaryFolder();
const classifier = join(folder, 'classifier');
beforeAll(async () => {
  await writeTinyModel(join(folder, 'model'));
  await writeTinyClassifier(join(folder, 'model'), classifier);
});

function fineTune(classes: readonly string[], model = classifier) {
  const name = classes.join('-');
  const train = join(folder, `${name}.csv`);
  const rows = generatedSentences().map((text, i) => `${JSON.stringify(text)},${classes[i % classes.length]}`);
  writeFileSync(train, `text,label\n${rows.slice(0, 60).join('\n')}\n`);
  const options = { model, train, epochs: 1, batch: 16, learningRate: 1e-12, length: 32, seed: 0, dtype: 'F32' as const };
  return runFineTuning(options, { device, out: join(folder, `out-${name}`), resume: false, checkpointEvery: 1e9 });
}

test('a classifier that is trained on keeps the order of its classes, whatever their names', async () => {
  const { labels } = await fineTune(['bird', 'cat', 'dog']);
  expect(labels).toEqual(['cat', 'dog', 'bird']);
  const out = join(folder, 'out-bird-cat-dog');
  expect(Object.values(JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')).id2label)).toEqual(labels);
  await using before = await readSafetensors(join(classifier, 'model.safetensors'));
  await using after = await readSafetensors(join(out, 'model.safetensors'));
  const head = [...before.names].filter((name) => /head.*weight/.test(name));
  expect(head.length).toBeGreaterThan(0);
  for (const name of head) expectClose(name, await after.read(name), await before.read(name), 1e-9);
});

test('a classifier of other classes is refused, both named', async () => {
  await expect(fineTune(['cat', 'horse'])).rejects.toThrow(
    /classifier: is a classifier already, of cat, dog, bird; .*\.csv has cat, horse: name the model from before/,
  );
});
