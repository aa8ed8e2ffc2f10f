import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { loadMaskedLanguageModel, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { drawPaths, pathsOf } from '../../src/pipelines/token_paths.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const model = join(folder, 'model');
const text = 'the cat sees a long road & a <small> bird';
beforeAll(() => writeTinyModel(model));

test('the paths are those of the walk', async () => {
  using device = new ReferenceDevice();
  const { encoder } = await loadMaskedLanguageModel(model, device);
  const tokenizer = await Tokenizer.load(join(model, 'tokenizer.json'));
  const { tokens, trees, depth, leaves } = await pathsOf(encoder, tokenizer, device, text);
  const { ids } = tokenizer.encode(text);
  expect([tokens.length, trees, depth, leaves.length]).toEqual([ids.length, 1, 3, 2]);
  // By the signs of the logits that training keeps, level by level.
  using arena = new Arena(device);
  const { blocks } = encoder.forward({ device, arena, training: true }, { batch: 1, length: ids.length, ids: Int32Array.from(ids) });
  for (const [layer, block] of blocks.entries()) {
    const { logits } = block.feedforward as { logits?: never };
    const z = await device.read(logits as never);
    const expected = tokens.map((_, t) => [0, 1, 2].reduce((leaf, level) => 2 * leaf + (z[4 * t + level] > 0 ? 1 : 0), 0));
    expect(leaves[layer].map(([leaf]) => leaf)).toEqual(expected);
  }
});

test('the picture has a path for each token, tree and layer, and says nothing that is markup', () => {
  const svg = drawPaths(
    {
      tokens: ['<a>', '&'],
      trees: 2,
      depth: 0,
      leaves: [
        [
          [0, 0],
          [0, 0],
        ],
      ],
      layers: [{ leaves: 2, used: 2, entropy: 0, mostCrowded: 1 }],
    },
    'a "model"',
  );
  expect(svg.match(/<polyline/g)).toHaveLength(4);
  expect(svg).toContain('&lt;a&gt;');
  expect(svg).not.toMatch(/<a>|NaN|undefined/);
});

describe('ufb inspect', () => {
  test('a model, a text and a picture', async () => {
    const out = join(folder, 'paths.svg');
    const { code, stdout, stderr } = await ufb(['inspect', '--model', model, '--text', text, '--out', out, '--tensors']);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^feedforward +1x3: 4 of 15 neurons a token and layer \(27 %\)$/m);
    expect(stdout).toMatch(/^encoder\.layers\.1\.ffn\.linear_in\.weight +F32 +\[15, 16\] +960 bytes$/m);
    expect(stdout).toMatch(/^leaf of each token, counted from the left, 0 to 7:\n +layer 1 +layer 2\n/m);
    expect(readFileSync(out, 'utf8')).toMatch(/^<svg[\s\S]*<\/svg>\n$/);
    const { paths, parameters } = JSON.parse((await ufb(['inspect', '--model', model, '--text', text, '--json'])).stdout);
    expect(paths.leaves).toHaveLength(2);
    expect(parameters).toBeGreaterThan(1000);
  });

  test('routing thresholds are named, and an export tells who does not know them', async () => {
    const [routed, out] = [join(folder, 'routed'), join(folder, 'exported')];
    await writeTinyModel(routed);
    {
      using device = new ReferenceDevice();
      using of = await loadMaskedLanguageModel(routed, device);
      for (const { buffer, value } of of.parameters) if (buffer) device.fill({ output: value, value: 0.25 });
      await saveCheckpoint(routed, of);
    }
    const exported = await ufb(['export', 'safetensors', '--model', routed, '--out', out, '--dtype', 'bf16']);
    expect(exported).toMatchObject({
      code: 0,
      stderr: `${out}: crammedBERT, bf16\n${out}: the authors' PyTorch code does not know routing thresholds: there this model would answer otherwise\n`,
    });
    const { stdout } = await ufb(['inspect', '--model', out, '--tensors']);
    expect(stdout).toMatch(/^feedforward +1x3, routing thresholds: 4 of 15 neurons/m);
    expect(stdout).toMatch(/^encoder\.layers\.1\.ffn\.thresholds +F32 +\[1, 7\] +28 bytes$/m);
  });

  test('how the texts of a file spread over the leaves', async () => {
    const file = join(folder, 'texts.txt');
    writeFileSync(file, `${text}\n\n${text}\nthe dog likes a river .\n`);
    const { code, stdout, stderr } = await ufb(['inspect', '--model', model, '--text-file', file]);
    expect([code, stderr]).toEqual([0, '']);
    const { tokens, layers } = JSON.parse((await ufb(['inspect', '--model', model, '--text-file', file, '--json'])).stdout).leafUse;
    expect(stdout).toContain(`\n${tokens} tokens of 3 texts:\n`);
    expect(stdout).toMatch(/^ +leaves used +entropy, bits +of tokens in the most crowded\nlayer 1 +\d of 8 +[\d.]+ +[\d.]+ %$/m);
    // The same as the texts one by one.
    const one = async (of: string) => JSON.parse((await ufb(['inspect', '--model', model, '--text', of, '--json'])).stdout).paths.leaves;
    const [twice, once] = [await one(text), await one('the dog likes a river .')];
    const reached = [...twice[1], ...twice[1], ...once[1]].map(([leaf]) => leaf);
    expect(tokens).toBe(reached.length);
    const counts = [...new Set(reached)].map((leaf) => reached.filter((other) => other === leaf).length);
    expect(layers[1]).toMatchObject({ leaves: 8, used: counts.length, mostCrowded: Math.max(...counts) / tokens });
    const empty = join(folder, 'empty.txt');
    writeFileSync(empty, '\n');
    expect(await ufb(['inspect', '--model', model, '--text-file', empty])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`${empty}: has no tokens to count`),
    });
  });

  test('a model of sentences, and one whose modules are not run here', async () => {
    const sentences = join(folder, 'sentences');
    await writeTinyModel(sentences);
    const module = (path: string, type: string) => ({ path, type: `sentence_transformers.models.${type}` });
    const modules = [module('', 'Transformer'), module('1_Pooling', 'Pooling'), module('2_Normalize', 'Normalize')];
    const write = (list: object[]) => writeFileSync(join(sentences, 'modules.json'), JSON.stringify(list));
    mkdirSync(join(sentences, '1_Pooling'));
    writeFileSync(join(sentences, '1_Pooling', 'config.json'), '{"pooling_mode_mean_tokens": true}');
    const inspect = async (...args: string[]) => {
      const { code, stdout, stderr } = await ufb(['inspect', '--model', sentences, ...args]);
      expect([code, stderr]).toEqual([0, '']);
      return stdout;
    };
    write(modules);
    expect(await inspect()).toMatch(/^texts .*, mean-pooled and scaled into vectors of sentences$/m);
    expect(JSON.parse(await inspect('--json')).sentences).toMatchObject({ pooling: 'mean', modules: [{ kind: 'normalize' }] });
    write([...modules, module('3_LSTM', 'LSTM')]);
    expect(await inspect()).toMatch(/^sentences +not supported: .*modules\.json: module "LSTM" is not supported.*\n(.+\n)*weights /m);
    expect(JSON.parse(await inspect('--json')).sentences).toEqual({
      unsupported: expect.stringContaining('module "LSTM" is not supported'),
    });
  });

  test('the shipped model', async () => {
    expect((await ufb(['inspect'])).stdout).toMatch(/12 of 4095 neurons a token and layer \(0\.29 %\)/);
  });

  test('what cannot be', async () => {
    expect(await ufb(['inspect', 'nowhere', '--model', model])).toMatchObject({ code: 2, stderr: expect.stringContaining('both given') });
    expect(await ufb(['inspect', '--out', 'x.svg'])).toMatchObject({
      code: 2,
      stderr: 'ufb: --out draws the paths of a text: give one by --text\n',
    });
    const long = Array(100).fill('the cat').join(' ');
    expect(await ufb(['inspect', '--model', model, '--text', long])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/at most 64: shorten it/),
    });
  });
});
