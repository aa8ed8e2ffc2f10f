import { expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { createMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { compareLeaves, watchLeaves } from '../../src/training/paths.ts';

test('the leaves of each layer are those that training keeps', async () => {
  using backend = new ReferenceBackend();
  using arena = new Arena(backend);
  const feedforward = { kind: 'fff' as const, trees: 2, depth: 3 };
  const config = crammedBertConfig({ vocabularySize: 30, hiddenSize: 8, layers: 2, heads: 2, feedforward, initialDeviation: 1 });
  using model = createMaskedLanguageModel(config, backend, 1);
  const batch = { batch: 2, length: 5, ids: Int32Array.from({ length: 10 }, (_, i) => (i * 7) % 30) };
  const [, leaves] = await watchLeaves({ backend, arena, training: false }, (run) => model.encoder.forward(run, batch));
  const { blocks } = model.encoder.forward({ backend, arena, training: true }, batch);
  expect(leaves).toHaveLength(2);
  for (const [layer, { feedforward }] of blocks.entries()) {
    if (!feedforward || !('visited' in feedforward) || !feedforward.visited) throw new Error('training keeps the visited nodes');
    const visited = await backend.readIntegers(feedforward.visited);
    expect(leaves[layer]).toEqual(Int32Array.from({ length: 20 }, (_, walk) => visited[walk * 4 + 3]));
    expect(Math.min(...leaves[layer])).toBeGreaterThanOrEqual(7);
  }
});

test('changed leaves are counted', () => {
  const leaves = [Int32Array.of(3, 4, 5), Int32Array.of(6, 3, 3)];
  expect(compareLeaves(leaves, leaves)).toEqual({ changed: 0, walks: 6 });
  expect(compareLeaves(leaves, [Int32Array.of(3, 5, 5), Int32Array.of(3, 3, 3)])).toEqual({ changed: 2, walks: 6 });
});
