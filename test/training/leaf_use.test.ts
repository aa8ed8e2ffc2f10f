import { describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { createMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import type { FastFeedforwardActivations } from '../../src/nn/fast_feedforward.ts';
import { CollapseNotice, compareLeaves, describeLeafUse, LeafCounts, watchLeaves } from '../../src/training/leaf_use.ts';

test('the leaves of each layer are those that training keeps', async () => {
  using device = new ReferenceDevice();
  using arena = new Arena(device);
  const feedforward = { kind: 'fff' as const, trees: 2, depth: 3 };
  const config = crammedBertConfig({
    vocabSize: 30,
    hiddenSize: 8,
    numHiddenLayers: 2,
    numAttentionHeads: 2,
    feedforward,
    initializerRange: 1,
  });
  using model = createMaskedLanguageModel(config, device, 1);
  const batch = { batch: 2, length: 5, ids: Int32Array.from({ length: 10 }, (_, i) => (i * 7) % 30) };
  const [, leaves] = await watchLeaves({ device, arena, training: false }, (context) => model.encoder.forward(context, batch));
  const { blocks } = model.encoder.forward({ device, arena, training: true }, batch);
  expect(leaves).toHaveLength(2);
  for (const [layer, { feedforward }] of blocks.entries()) {
    const { pathNodes: kept } = feedforward as FastFeedforwardActivations;
    if (!kept) throw new Error('training keeps the visited nodes');
    const pathNodes = await device.readIntegers(kept);
    expect(leaves[layer]).toEqual(Int32Array.from({ length: 20 }, (_, walk) => pathNodes[walk * 4 + 3]));
    expect(Math.min(...leaves[layer])).toBeGreaterThanOrEqual(7);
  }
});

test('changed leaves are counted', () => {
  const leaves = [Int32Array.of(3, 4, 5), Int32Array.of(6, 3, 3)];
  expect(compareLeaves(leaves, leaves)).toEqual({ changed: 0, walks: 6 });
  expect(compareLeaves(leaves, [Int32Array.of(3, 5, 5), Int32Array.of(3, 3, 3)])).toEqual({ changed: 2, walks: 6 });
});

describe('how tokens spread over leaves', () => {
  const feedforward = { kind: 'fff' as const, trees: 2, depth: 2 };
  // The leaves of a tree of depth 2 are its nodes 3 to 6.
  const twoTokens = Int32Array.of(3, 3, 3, 4);

  test('is counted tree by tree', () => {
    const counts = new LeafCounts(feedforward);
    counts.add([twoTokens]);
    expect(counts.uses).toEqual([{ leaves: 8, used: 3, entropy: 0.5, mostCrowded: 1 }]);
    counts.add([Int32Array.of(6, 5, 3, 6)]);
    const { entropy, ...others } = counts.uses[0];
    expect(others).toEqual({ leaves: 8, used: 6, mostCrowded: 0.75 });
    // Three to one in the first tree, evenly over four leaves in the second.
    expect(entropy).toBeCloseTo((0.8112781 + 2) / 2, 6);
  });

  test('leaves padding out', () => {
    const counts = new LeafCounts(feedforward);
    counts.add([Int32Array.of(3, 3, 6, 6)], Int32Array.of(1, 0));
    expect(counts.uses).toEqual([{ leaves: 8, used: 2, entropy: 0, mostCrowded: 1 }]);
  });

  test('is nothing without trees', () => {
    expect(new LeafCounts({ kind: 'dense', neurons: 3 }).uses).toEqual([]);
    expect(describeLeafUse([], { kind: 'dense', neurons: 3 })).toBe('');
  });

  test('is told when it falls under a quarter of the bits, once', () => {
    const told: string[] = [];
    const notice = new CollapseNotice({ kind: 'fff', trees: 1, depth: 8 }, (line) => told.push(line));
    const layers = (...bits: number[]) => bits.map((entropy) => ({ leaves: 256, used: 4, entropy, mostCrowded: 0.5 }));
    notice.check(layers(2, 7));
    expect(told).toEqual([]);
    notice.check(layers(1.9, 7));
    notice.check(layers(1.8, 7));
    expect(told).toEqual([
      'trees hardly branch: layer 1 of 2 below a quarter of 8 bits (1.9 7.0 of 8 bits, 4 4 of 256 leaves, 50.0 50.0 % in the most crowded); most neurons are not reached',
    ]);
    notice.check(layers(3, 7));
    notice.check(layers(1, 1));
    expect(told).toHaveLength(2);
    expect(told[1]).toMatch(/layers 1, 2 of 2 below/);
  });
});
