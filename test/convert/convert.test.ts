import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { measureAgreement } from '../../src/convert/agreement.ts';
import { type ConversionOptions, type ConversionSession, convert } from '../../src/convert/convert.ts';
import { heldOutTexts } from '../../src/convert/texts.ts';
import { InputError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/io/safetensors_writer.ts';
import { encoderOf, loadModel, loadSequenceClassifier, saveCheckpoint } from '../../src/models/checkpoint.ts';
import type { Context } from '../../src/nn/parameter.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import type { LeafUse } from '../../src/training/leaf_use.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, tinyBert, writeTinyModel } from '../tiny_model.ts';
import { writeCorpus } from '../training/corpora.ts';

const device = new ReferenceDevice();
const folder = temporaryFolder();
const model = join(folder, 'model');
let corpus: string;
beforeAll(async () => {
  await writeTinyModel(model, tinyBert, 'encoder');
  mkdirSync(join(model, '1_Pooling'));
  const modules = [
    { type: 'sentence_transformers.models.Transformer', path: '' },
    { type: 'sentence_transformers.models.Pooling', path: '1_Pooling' },
  ];
  writeFileSync(join(model, 'modules.json'), JSON.stringify(modules));
  writeFileSync(join(model, '1_Pooling', 'config.json'), JSON.stringify({ pooling_mode_mean_tokens: true }));
  const sentences = generatedSentences();
  corpus = writeCorpus(
    folder,
    'corpus.txt',
    Array.from({ length: 40 }, (_, i) => [sentences.slice(i * 5, i * 5 + 3).join(' '), sentences.slice(i * 5 + 3, i * 5 + 5).join(' ')]),
  );
});

let runs = 0;
const newFolder = () => join(folder, `run-${++runs}`);
const options = (changes: Partial<ConversionOptions> = {}): ConversionOptions => ({
  model,
  corpus: [corpus],
  feedforward: { kind: 'fff', trees: 1, depth: 2 },
  fitTokens: 1500,
  tokens: 3000,
  batch: 128,
  length: 32,
  learningRate: 1e-3,
  fitLearningRate: 1e-2,
  trainEmbeddings: true,
  pooling: 'mean',
  answerWeight: 1,
  fitBalance: 0.05,
  balance: 0.05,
  branchRate: 0.2,
  seed: 1,
  heldOutEvery: 5,
  heldOutTexts: 12,
  dtype: 'F32',
  ...changes,
});
const run = (out: string, changes: Partial<ConversionOptions> = {}, session: Partial<ConversionSession> = {}) =>
  convert(options(changes), { device, out, resume: false, checkpointEvery: 1e9, evaluateEvery: 1e9, ...session });

test('a converted model agrees more with every phase, and is a sentence model that opens by itself', async () => {
  const out = newFolder();
  const phases: string[] = [];
  const result = await run(out, {}, { onStep: ({ phase, loss }) => void phases.push(`${phase} ${Number.isFinite(loss)}`) });
  expect(result).toMatchObject({ finished: true, history: [{ trained: 0 }, { trained: result.trained }] });
  expect(new Set(phases)).toEqual(new Set(['fit true', 'train true']));
  const [fitted, trained] = result.history;
  trained.states.forEach((state, block) => {
    expect(state).toBeGreaterThan(fitted.states[block]);
  });
  expect(trained.cosine).toBeGreaterThan(fitted.cosine);
  expect(trained.layers).toHaveLength(2);
  for (const { used, leaves, entropy } of trained.layers) {
    expect([leaves, used >= 1 && used <= 4, entropy >= 0 && entropy <= 2]).toEqual([4, true, true]);
  }
  expect(JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'))).toMatchObject({
    model_type: 'ultrafastbert',
    intermed_type: 'fff',
    intermed_depth: 2,
  });
  using embed = await pipeline('feature-extraction', out, { device });
  using original = await pipeline('feature-extraction', model, { device });
  const [{ data, dims }, { data: expected }] = await Promise.all([embed('the cat sees the house .'), original('the cat sees the house .')]);
  expect(dims).toEqual([1, 16]);
  const error = data.reduce((sum, value, i) => sum + (value - expected[i]) ** 2, 0) / expected.reduce((sum, value) => sum + value ** 2, 0);
  expect(error).toBeLessThan(0.5);
});

test('products of the student are rounded if told to', async () => {
  const lossesOf = async (changes: Partial<ConversionOptions>) => {
    const losses: number[] = [];
    await run(newFolder(), { fitTokens: 256, tokens: 256, ...changes }, { onStep: ({ loss }) => void losses.push(loss) });
    return losses;
  };
  const [exact, rounded] = [await lossesOf({}), await lossesOf({ precision: 'bf16' })];
  expect(rounded).not.toEqual(exact);
  rounded.forEach((loss, step) => {
    expect(Math.abs(loss / exact[step] - 1)).toBeLessThan(0.05);
  });
});

test("a crammedBERT's: its final norm and its positions' factor stay as they are, the weights as small as told to", async () => {
  const [crammed, out] = [join(folder, 'crammed'), newFolder()];
  await writeTinyModel(crammed, { feedforward: { kind: 'dense', neurons: 24 } });
  const { history } = await run(out, { model: crammed, pooling: undefined, tokens: 1500, dtype: 'BF16' });
  const [fitted, trained] = history;
  expect(trained.states.at(-1)).toBeGreaterThan(fitted.states.at(-1)!);
  await using before = await readSafetensors(join(crammed, 'model.safetensors'));
  await using after = await readSafetensors(join(out, 'model.safetensors'));
  const kept = before.names.filter((name) => /final_norm|scale_factor/.test(name));
  expect(kept).toHaveLength(3);
  for (const name of kept) expect(await after.read(name)).toEqual(await before.read(name));
  const changed = 'encoder.layers.0.attn.self_attention.query_key_value.weight';
  expect(await after.read(changed)).not.toEqual(await before.read(changed));
  expect([after.info(changed).dtype, before.info(changed).dtype]).toEqual(['BF16', 'F32']);
});

test('what the answer counts changes what is learned', async () => {
  const lossesOf = async (changes: Partial<ConversionOptions>) => {
    const losses: number[] = [];
    await run(newFolder(), { fitTokens: 0, tokens: 128, ...changes }, { onStep: ({ loss }) => void losses.push(loss) });
    return losses;
  };
  const usual = await lossesOf({});
  expect((await lossesOf({ answerWeight: 3 }))[0]).toBeGreaterThan(usual[0]);
});

test('a branch rate reaches the optimizer: moments of branches are in the state', async () => {
  const [alone, together] = [newFolder(), newFolder()];
  const short = { fitTokens: 128, tokens: 128 };
  await run(alone, { ...short, branchRate: 0 });
  await run(together, short);
  const names = async (out: string) => {
    await using state = await readSafetensors(join(out, 'run', 'state.safetensors'));
    return [...state.names].filter((name) => name.startsWith('branches.'));
  };
  expect(await names(alone)).toEqual([]);
  expect((await names(together)).length).toBeGreaterThan(0);
});

test('thresholds follow their tokens in each phase, by the rate of its own', async () => {
  const largest = async (changes: Partial<ConversionOptions>) => {
    const out = newFolder();
    await run(out, { fitTokens: 256, tokens: 256, ...changes });
    await using file = await readSafetensors(join(out, 'model.safetensors'));
    const thresholds = await Promise.all(file.names.filter((name) => name.endsWith('thresholds')).map((name) => file.read(name)));
    return Math.max(0, ...thresholds.flatMap((ofLayer) => [...ofLayer]).map(Math.abs));
  };
  expect(await largest({ fitBalance: 0, balance: 0 })).toBe(0);
  const [fit, train] = [await largest({ fitBalance: 0.01, balance: 0 }), await largest({ fitBalance: 0, balance: 0.01 })];
  expect(Math.min(fit, train)).toBeGreaterThan(0);
  expect(await largest({ fitBalance: 0.1, balance: 0 })).toBeGreaterThan(3 * fit);
  expect(await largest({ fitBalance: 0, balance: 0.1 })).toBeGreaterThan(3 * train);
});

test('weights of new layers decay if told to, what is kept does not', async () => {
  const [plain, decayed] = [newFolder(), newFolder()];
  const short = { fitTokens: 0, tokens: 128, learningRate: 1e-6, branchRate: 0 };
  await run(plain, short);
  await run(decayed, { ...short, weightDecay: 1e5 });
  const norms = async (out: string, name: string) => {
    await using weights = await readSafetensors(join(out, 'model.safetensors'));
    const names = [...weights.names].filter((each) => each.includes(name));
    const values = await Promise.all(names.map((each) => weights.read(each)));
    return Math.hypot(...values.flatMap((each) => Array.from(each)));
  };
  const ratio = async (name: string) => (await norms(decayed, name)) / (await norms(plain, name));
  expect(await ratio('linear_out.weight')).toBeLessThan(0.95);
  expect(await ratio('attention.self.query.weight')).toBeCloseTo(1, 4);
});

test('nothing to do is refused, and leaves nothing behind', async () => {
  const out = newFolder();
  await expect(run(out, { fitTokens: 0, tokens: 0 })).rejects.toThrow('--fit-tokens and --tokens are both 0');
  expect(existsSync(out)).toBe(false);
});

test('blocks that are kept as they are are not fitted: all tokens train the whole network', async () => {
  const fewer = { feedforward: tinyBert.feedforward, layers: 1 };
  const results = [];
  for (const changes of [
    { fitTokens: 128, tokens: 128 },
    { fitTokens: 0, tokens: 256 },
  ]) {
    const out = newFolder();
    const { fitted } = await run(out, { ...fewer, ...changes });
    expect(fitted).toBe(0);
    results.push(readFileSync(join(out, 'model.safetensors')));
  }
  expect(results[0].equals(results[1])).toBe(true);
});

test('stopped with the last step of the fit: what is due then is measured', async () => {
  const stop = new AbortController();
  const onStep = ({ tokens }: { tokens: number }) => tokens >= 256 && stop.abort();
  const { history, finished } = await run(newFolder(), { fitTokens: 256, tokens: 256 }, { onStep, signal: stop.signal });
  expect(finished).toBe(false);
  expect(history).toMatchObject([{ trained: 0 }]);
});

test('what was measured last is the model that was saved', async () => {
  const out = newFolder();
  const { history } = await run(out);
  using teacher = await loadModel(model, device);
  using own = await loadModel(out, device);
  const tokenizer = await Tokenizer.load(join(out, 'tokenizer.json'));
  const { heldOutEvery, heldOutTexts: count, length, batch: batchTokens, seed } = options();
  const texts = await heldOutTexts({ paths: [corpus], tokenizer, length, batchTokens, seed, heldOutEvery, count });
  const infer = async <Result>(work: (context: Context) => Promise<Result>) => {
    using arena = new Arena(device);
    return await work({ device, arena, training: false });
  };
  const { states } = await measureAgreement(infer, encoderOf(teacher), encoderOf(own), { map: [0, 1], pooling: 'mean' }, texts);
  // The teacher of the run is in int8.
  states.forEach((state, block) => {
    expect(Math.abs(state - (history.at(-1)?.states[block] as number))).toBeLessThan(0.01);
  });
});

test('stopped and resumed, it ends with the same weights as if it had never been stopped', async () => {
  const [whole, stopped] = [newFolder(), newFolder()];
  const expected = await run(whole);
  for (const last of [5, 20]) {
    const abort = new AbortController();
    let steps = 0;
    const result = await run(
      stopped,
      {},
      { resume: last > 5, signal: abort.signal, onStep: () => void (++steps >= last && abort.abort()) },
    );
    expect(result.finished).toBe(false);
  }
  const result = await run(stopped, {}, { resume: true });
  expect([result.step, result.fitted, result.trained]).toEqual([expected.step, expected.fitted, expected.trained]);
  expect(readFileSync(join(stopped, 'model.safetensors')).equals(readFileSync(join(whole, 'model.safetensors')))).toBe(true);
  expect(result.history.at(-1)?.states).toEqual(expected.history.at(-1)?.states);
});

test('a run that was saved before there were thresholds, and leaf use in another form, goes on', async () => {
  const out = newFolder();
  const abort = new AbortController();
  await run(out, {}, { signal: abort.signal, onStep: ({ tokens }) => tokens >= 1600 && abort.abort() });
  const path = join(out, 'run', 'state.safetensors');
  await rewriteState(path);
  const { finished, history } = await run(out, {}, { resume: true });
  expect(finished).toBe(true);
  expect(history.map(({ layers }) => layers.length)).toEqual([0, 2]);
});

/** As states were until then. */
async function rewriteState(path: string): Promise<void> {
  await using file = await readSafetensors(path);
  const tensors: TensorToWrite[] = [];
  for (const name of file.names.filter((name) => !name.endsWith('thresholds') && name !== 'checksum')) {
    const { dtype, shape } = file.info(name);
    if (dtype === 'I32') tensors.push({ name, dtype, shape, values: await file.readIntegers(name) });
    else tensors.push({ name, dtype: 'F32', shape, values: await file.read(name) });
  }
  expect(tensors.length).toBeLessThan([...file.names].length);
  const progress = JSON.parse(file.metadata.progress);
  for (const point of progress.history) {
    point.leaves = point.layers.map(({ used, leaves, entropy }: LeafUse) => ({ used, leaves, entropy }));
    delete point.layers;
  }
  await writeSafetensors(path, tensors, { ...file.metadata, progress: JSON.stringify(progress) });
}

test.each<[string, Partial<ConversionOptions>, object]>([
  ['dense layers of a few neurons', { feedforward: { kind: 'dense', neurons: 3 } }, { model_type: 'bert', intermediate_size: 3 }],
  ['no feedforward', { feedforward: { kind: 'none' } }, { model_type: 'ultrafastbert', intermed_type: 'none' }],
  ['fewer blocks', { feedforward: tinyBert.feedforward, layers: 1 }, { model_type: 'bert', num_hidden_layers: 1 }],
  [
    'several trees and neurons that are always on',
    { feedforward: { kind: 'fff', trees: 2, depth: 1, leafWidth: 3, alwaysOn: 2 } },
    { intermed_leaf_width: 3, intermed_always_on: 2 },
  ],
])('%s', async (_, changes, config) => {
  const out = newFolder();
  let first: number | undefined;
  const { history } = await run(out, changes, { evaluateEvery: 1e-9, onAgreement: ({ states }) => void (first ??= states.at(-1)) });
  // A random network's block has no other that could stand for it: there it is enough that it learns.
  expect(history.at(-1)?.states.at(-1)).toBeGreaterThan(changes.layers ? first! + 0.1 : 0);
  expect(JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'))).toMatchObject(config);
  using again = await loadModel(out, device);
  expect(again.task).toBe('encoder');
});

test('the pooler that the encoder does not use is carried along, for classifiers made of it', async () => {
  const [withPooler, out] = [join(folder, 'with-pooler'), newFolder()];
  const values = Float32Array.from({ length: 16 * 16 }, (_, i) => i / 100);
  const rest = [
    { name: 'pooler.dense.weight', shape: [16, 16], values },
    { name: 'pooler.dense.bias', shape: [16], values: values.slice(0, 16) },
  ];
  {
    using original = await loadModel(model, device);
    const { json } = await Tokenizer.load(join(model, 'tokenizer.json'));
    await saveCheckpoint(withPooler, original, { tokenizer: json, rest });
  }
  await run(out, { model: withPooler, tokens: 200, fitTokens: 200, pooling: undefined });
  for (const folder of [withPooler, out]) {
    using classifier = await loadSequenceClassifier(folder, device, { fresh: { labels: 2, seed: 1 } });
    const pooler = classifier.parameters.find(({ name }) => name.endsWith('pooler.dense.weight'));
    expect(await device.read(pooler!.value)).toEqual(values);
  }
});

test('embeddings are trained along unless they are to be left', async () => {
  const word = async (of: string) => {
    using loaded = await loadModel(of, device);
    return await device.read(loaded.parameters[0].value);
  };
  const [kept, trained] = [newFolder(), newFolder()];
  await run(kept, { tokens: 500, fitTokens: 0, trainEmbeddings: false });
  await run(trained, { tokens: 500, fitTokens: 0 });
  expect(await word(kept)).toEqual(await word(model));
  expect(await word(trained)).not.toEqual(await word(model));
});

test('a masked language model keeps its head and is trained to give the same logits', async () => {
  const masked = join(folder, 'masked');
  await writeTinyModel(masked, { ...tinyBert });
  const out = newFolder();
  const { history } = await run(out, { model: masked, pooling: undefined, tokens: 1500 });
  expect(history[1].logits).toBeGreaterThan(history[0].logits!);
  using fill = await pipeline('fill-mask', out, { device });
  expect(await fill('the cat sees [MASK]')).toHaveLength(5);
});

test('a classifier keeps its classes and is trained to give the same logits', async () => {
  const classifier = join(folder, 'classifier');
  await writeTinyModel(classifier, { ...tinyBert, numLabels: 3 }, 'sequence-classification');
  const out = newFolder();
  const { history } = await run(out, { model: classifier, pooling: undefined, tokens: 1500 });
  expect(history[1].logits).toBeGreaterThan(history[0].logits!);
  using classify = await pipeline('text-classification', out, { device });
  expect(await classify('the cat sees the house .')).toMatchObject([{ label: expect.any(String) }]);
});

describe('what cannot be converted', () => {
  test('a model whose tokenizer has more tokens than it', async () => {
    const [other, out] = [join(folder, 'other-tokenizer'), newFolder()];
    cpSync(model, other, { recursive: true });
    const path = join(other, 'tokenizer.json');
    const json = JSON.parse(readFileSync(path, 'utf8'));
    json.model.vocab.zzz = Object.keys(json.model.vocab).length;
    writeFileSync(path, JSON.stringify(json));
    await expect(run(out, { model: other })).rejects.toThrow(
      /other-tokenizer: tokenizer\.json has \d+ tokens, but .* do not belong together/,
    );
    expect(existsSync(out)).toBe(false);
  });

  test('a model with trees', async () => {
    const trees = join(folder, 'trees');
    await writeTinyModel(trees);
    const out = newFolder();
    await expect(run(out, { model: trees })).rejects.toThrow(/trees: its feedforward layers are 1x3, expected dense ones/);
    expect(existsSync(out)).toBe(false);
  });

  test('a corpus whose texts are all too short to train on', async () => {
    const documents = Array.from({ length: 20 }, (_, i) => [
      i % 5 === 4
        ? generatedSentences()
            .slice(i, i + 4)
            .join(' ')
        : 'a cat',
    ]);
    const short = writeCorpus(folder, 'short.txt', documents);
    await expect(run(newFolder(), { corpus: [short] })).rejects.toThrow('short.txt: no text has 8 tokens or more');
  });

  test.each<[Partial<ConversionOptions>, RegExp]>([
    [{ layers: 3 }, /--layers 3: .* has 2 layers/],
    [{ heldOutEvery: 1000 }, /the documents held out, one of 1000, have 0 texts of 8 tokens or more, expected at least 2/],
    [{ heldOutTexts: 1 }, /--held-out-texts 1: expected at least 2/],
    [{ length: 7 }, /--length 7: expected at least 8/],
    [{ feedforward: { kind: 'fff', trees: 1, depth: 60 } }, /the model asked for: 'intermed_depth'/],
    [{ corpus: ['/nowhere.txt'] }, /nowhere\.txt: cannot read: no such file/],
  ])('%j', async (changes, message) => {
    const out = newFolder();
    await expect(run(out, changes)).rejects.toThrow(InputError);
    await expect(run(out, changes)).rejects.toThrow(message);
    expect(existsSync(out)).toBe(false);
  });
});
