import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Device } from '../../src/backend/device.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { FastFeedforward } from '../../src/nn/fast_feedforward.ts';
import type { Context, NamedArray } from '../../src/nn/parameter.ts';
import { exportParameter, importParameter } from '../../src/nn/parameter_arrays.ts';
import { normalValues } from '../../src/nn/random.ts';
import { LeafCounts, watchLeaves } from '../../src/training/leaf_use.ts';
import { Trainer } from '../../src/training/trainer.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';
import { expectClose, fileTensors, goldenJson, goldenPath, tolerances } from '../goldens.ts';
import { allocateGradients } from '../models/training.ts';

interface Case {
  name: string;
  width: number;
  depth: number;
  trees: number;
  nodesPerTree: number;
  batch: number;
}

/** Inner nodes with thresholds, by a PyTorch script beside them. */
const thresholdsFolder = fileURLToPath(new URL('../fixtures/thresholds', import.meta.url));
const thresholdCases = (JSON.parse(readFileSync(join(thresholdsFolder, 'cases.json'), 'utf8')) as Case[]).map((golden) => ({
  ...golden,
  of: thresholdsFolder,
}));

describeOnEach(candidates, ({ create }) => {
  let device: Device;
  let arena: Arena;
  beforeAll(() => {
    device = create();
    arena = new Arena(device);
  });
  afterAll(() => device?.dispose());

  test.each([...goldenJson<Case[]>('fff', 'cases.json').map((golden) => ({ ...golden, of: goldenPath('fff') })), ...thresholdCases])(
    '$name agrees with PyTorch ($of)',
    async ({ name, width, depth, trees, nodesPerTree, batch, of }) => {
      const golden = await fileTensors(join(of, `${name}.safetensors`));
      const arrays = golden.names
        .filter((tensor) => /^(linear_|thresholds)/.test(tensor))
        .map((tensor) => ({ name: tensor, shape: golden.shape(tensor), values: golden.floats(tensor) }));
      using layer = FastFeedforward.create(device, { width, trees, depth, seed: 1 });
      for (const parameter of layer.parameters) importParameter(parameter, arrays);
      for (const parameter of layer.parameters) {
        for (const { name, values } of await exportParameter(parameter))
          expect(values).toEqual(golden.names.includes(name) ? golden.floats(name) : new Float32Array(values.length));
      }

      arena.reset();
      const context = { device, arena, training: true };
      const x = device.tensor('x', [batch, width], 'f32', golden.floats('x'));
      const activations = layer.forward(context, x);
      expectClose('y', await device.read(activations.output), golden.floats('y'), tolerances.output);
      const pathNodes = await device.readIntegers(activations.pathNodes!);
      expect(pathNodes).toEqual(golden.integers('visited_nodes'));
      const untrained = layer.forward({ ...context, training: false }, x);
      expect(await device.read(untrained.output)).toEqual(await device.read(activations.output));

      if (!golden.names.includes('grad_y')) return;
      const trained = layer.parameters.filter(({ buffer }) => !buffer);
      allocateGradients(device, trained);
      const gradY = device.tensor('grad y', [batch, width], 'f32', golden.floats('grad_y'));
      const gradX = await device.read(layer.backward(context, activations, gradY));
      expectClose('gradient of x', gradX, golden.floats('grad_x'), tolerances.gradient);
      for (const parameter of trained) {
        for (const array of await exportParameter(parameter, parameter.gradient)) {
          expectClose(`gradient of ${array.name}`, array.values, golden.floats(`grad.${array.name}`), tolerances.gradient);
        }
      }
      const rows = new Set(pathNodes.map((node, i) => node + nodesPerTree * (Math.floor(i / (depth + 1)) % trees)));
      const rowMask = await device.readIntegers(layer.nodes.rowMask!);
      expect([...rowMask.keys()].filter((row) => rowMask[row] !== 0)).toEqual([...rows].sort((a, b) => a - b));

      // Frozen parameters get nothing, and the input's gradient is the same.
      const before = await device.read(layer.nodes.gradient!);
      layer.nodes.frozen = true;
      expect(await device.read(layer.backward(context, activations, gradY))).toEqual(gradX);
      expectClose(
        'gradient of the bias, twice',
        await device.read(layer.bias.gradient!),
        golden.floats('grad.linear_in.bias').map((x) => 2 * x),
        tolerances.gradient,
      );
      layer.bias.frozen = true;
      expect(await device.read(layer.backward(context, activations, gradY))).toEqual(gradX);
      expect(await device.read(layer.nodes.gradient!)).toEqual(before);
    },
  );

  test('random weights give logits and outputs of about unit size, repeat with the seed and differ without', async () => {
    const shape = { width: 64, trees: 3, depth: 5 };
    using layer = FastFeedforward.create(device, { ...shape, seed: 7 });
    using same = FastFeedforward.create(device, { ...shape, seed: 7 });
    using other = FastFeedforward.create(device, { ...shape, seed: 8 });
    const [values, sameValues, otherValues] = [await read(layer), await read(same), await read(other)];
    expect(values).toEqual(sameValues);
    expect(values).not.toEqual(otherValues);
    const x = Float32Array.from({ length: 200 * 64 }, (_, i) => Math.sqrt(2) * Math.sin(i * i));
    const input = device.tensor('x', [200, 64], 'f32', x);
    arena.reset();
    const { output, logits } = layer.forward({ device, arena, training: true }, input);
    expect(deviation(await device.read(logits!))).toBeCloseTo(1, 0.5);
    expect(deviation(await device.read(output))).toBeGreaterThan(0.3);
    expect(deviation(await device.read(output))).toBeLessThan(1.5);
  });

  test('leaves of 1 neuron are what a layer has that says nothing of them', async () => {
    const shape = { width: 16, trees: 2, depth: 3, seed: 7 };
    using layer = FastFeedforward.create(device, shape);
    using same = FastFeedforward.create(device, { ...shape, leafWidth: 1 });
    expect(await read(same)).toEqual(await read(layer));
  });

  test('without inner nodes it is a dense layer of as many neurons as its leaves hold', async () => {
    const [width, leafWidth, tokens] = [20, 13, 9];
    using layer = FastFeedforward.create(device, { width, trees: 1, depth: 0, leafWidth, seed: 3 });
    const [weightIn, weightOut] = await exportParameter(layer.nodes);
    expect([weightIn.shape, weightOut.shape]).toEqual([
      [leafWidth, width],
      [width, leafWidth],
    ]);
    const x = device.tensor('x', [tokens, width], 'f32', normalValues(tokens * width, 1, 5, 0));
    const hidden = device.tensor('hidden', [tokens, leafWidth]);
    const expected = device.tensor('expected', [tokens, width]);
    const weight = ({ name, shape, values }: NamedArray) => device.tensor(name, shape, 'f32', values);
    device.linear({ input: x, weight: weight(weightIn), output: hidden, activation: 'gelu' });
    device.linear({ input: hidden, weight: weight(weightOut), output: expected });
    arena.reset();
    const { output, pathNodes, logits } = layer.forward({ device, arena, training: true }, x);
    expectClose('output', await device.read(output), await device.read(expected), tolerances.output);
    expect(await device.readIntegers(pathNodes!)).toEqual(new Int32Array(tokens));
    expect(logits!.shape).toEqual([tokens, 1, leafWidth]);
  });

  test('thresholds follow the tokens that come, whatever the logits are worth', async () => {
    const [width, tokens] = [16, 512];
    using layer = FastFeedforward.create(device, { width, trees: 2, depth: 3, seed: 3 });
    device.fill({ output: layer.bias.value, value: 2 }); // most tokens go right everywhere
    using trainer = new Trainer(device, layer.parameters);
    using x = device.tensor('x', [tokens, width], 'f32', normalValues(tokens * width, 1, 5, 0));
    using gradient = device.zeros('gradient', [tokens, width]);
    const pass = (context: Context) => {
      const activations = layer.forward(context, x);
      layer.backward(context, activations, gradient);
      return gradient;
    };
    const use = async () => {
      const counts = new LeafCounts({ kind: 'fff', trees: 2, depth: 3 });
      const [, leaves] = await trainer.inference((context) => watchLeaves(context, (watched) => layer.forward(watched, x)));
      counts.add(leaves);
      return counts.uses[0].entropy;
    };
    const before = await use();
    const nodes = await device.read(layer.nodes.value);
    for (let step = 0; step < 60; step++) await trainer.step([pass], 1, 0, 0.2);
    expect(before).toBeLessThan(2.2);
    expect(await use()).toBeGreaterThan(2.9);
    // No weight has moved, and nothing moves without a rate.
    expect(await device.read(layer.nodes.value)).toEqual(nodes);
    const thresholds = await device.read(layer.thresholds!.value);
    await trainer.step([pass], 1, 0);
    expect(await device.read(layer.thresholds!.value)).toEqual(thresholds);
  });

  const read = (layer: FastFeedforward) => device.read(layer.nodes.value);
});

function deviation(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

test('sizes that are none are refused when the layer is made', () => {
  using device = new ReferenceDevice();
  const sizes = { width: 8, trees: 1, depth: 2, leafWidth: 1, seed: 0 };
  for (const [name, value] of [
    ['width', 8.5],
    ['trees', 0],
    ['depth', -1],
    ['leafWidth', 0],
  ])
    expect(() => FastFeedforward.create(device, { ...sizes, [name]: value })).toThrow(
      `'${name}' is ${value}, expected a whole number from`,
    );
});
