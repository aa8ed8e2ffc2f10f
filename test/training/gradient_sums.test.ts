import { expect, onTestFinished, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Device } from '../../src/backend/device.ts';
import { alone } from '../../src/distributed/group.ts';
import { createMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { evaluationBatches } from '../../src/training/batches.ts';
import { GradientSums } from '../../src/training/gradient_sums.ts';
import { AdamW } from '../../src/training/optimizer.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';

const [vocabularySize, length] = [60, 16];

/** A model whose trees are so deep that passes visit different nodes, and a pass for each of so many sequences. */
function setUp(device: Device, count: number) {
  const shape = { hiddenSize: 16, numAttentionHeads: 2, numHiddenLayers: 2, maxPositionEmbeddings: length };
  const config = crammedBertConfig({ vocabSize: vocabularySize, ...shape, feedforward: { kind: 'fff', trees: 1, depth: 6 } });
  const model = createMaskedLanguageModel(config, device, 1);
  const optimizer = new AdamW(device, model.parameters);
  const parameters = optimizer.parameters.map(({ parameter }) => parameter);
  const sums = new GradientSums(device, parameters, alone);
  const arena = new Arena(device);
  onTestFinished(() => {
    sums.dispose();
    optimizer.dispose();
    model.dispose();
    arena.dispose();
    device.dispose();
  });
  const ids = Int32Array.from({ length: count * length }, (_, i) => 5 + ((i * i * 7 + i * 13) % (vocabularySize - 5)));
  const batches = evaluationBatches(ids, { batch: 1, length }, 3, { maskId: 4, vocabularySize });
  /** The gradients of some passes. */
  const gradientsOf = async (which: readonly number[]) => {
    for (const [at, index] of which.entries()) {
      arena.reset();
      const isLast = at === which.length - 1;
      const context = { device, arena, training: true, onGradients: isLast ? sums.onGradients : undefined };
      model.lossAndGradients(context, batches[index], { scale: 0.1 });
      if (!isLast) sums.hold();
    }
    sums.finish([], []);
    const found = await Promise.all(parameters.map(({ gradient }) => device.read(gradient!)));
    const flags = await Promise.all(parameters.map(({ rowMask }) => (rowMask ? device.readIntegers(rowMask) : undefined)));
    optimizer.discard(0);
    return { found, flags };
  };
  return { parameters, gradientsOf, sums, optimizer };
}

const added = (one: Float32Array, other: Float32Array) => one.map((value, i) => Math.fround(value + other[i]));

describeOnEach(candidates, ({ create }) => {
  test.each([1, 2, 3, 4, 5, 7, 8])('of %d passes are those of a tree', async (count) => {
    const { gradientsOf, parameters } = setUp(create(), count);
    let level: Float32Array[][] = [];
    for (let index = 0; index < count; index++) level.push((await gradientsOf([index])).found);
    for (; level.length > 1; ) {
      const next: Float32Array[][] = [];
      for (let i = 0; i < level.length; i += 2)
        next.push(i + 1 < level.length ? level[i].map((one, at) => added(one, level[i + 1][at])) : level[i]);
      level = next;
    }
    const { found, flags } = await gradientsOf([...new Array(count).keys()]);
    for (const [i, { name, value, rowMask }] of parameters.entries()) {
      // A sum of 0 and -0 is 0 where rows were added, and either one is as good.
      expect(
        found[i].map((each) => each + 0),
        name,
      ).toEqual(level[0][i].map((each) => each + 0));
      if (!rowMask) continue;
      const width = value.size / rowMask.size;
      expect(flags[i]!.some((flag) => flag !== 0)).toBe(true);
      flags[i]!.forEach((flag, row) => {
        if (flag === 0) expect(found[i].subarray(row * width, (row + 1) * width).every((each) => each === 0)).toBe(true);
      });
    }
  });

  test('that were given up are forgotten', async () => {
    const { gradientsOf, sums, optimizer } = setUp(create(), 2);
    const { found: expected } = await gradientsOf([0, 1]);
    sums.hold();
    sums.discard();
    optimizer.discard(0);
    const { found } = await gradientsOf([0, 1]);
    expect(found).toEqual(expected);
  });
});
