import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { nodesLayout, packArrays, unpackArrays } from '../../src/nn/layouts.ts';
import { expectClose, goldenJson, goldenTensors, tolerances } from '../goldens.ts';
import { candidates } from './backends.ts';

interface Golden {
  name: string;
  width: number;
  depth: number;
  trees: number;
  nodesPerTree: number;
  batch: number;
}
const goldens = goldenJson<Golden[]>('fff', 'cases.json');

for (const { label, create, unavailable } of candidates) {
  describe.skipIf(unavailable)(unavailable ? `${label} (skipped: ${unavailable})` : label, () => {
    let backend: Backend;
    beforeAll(() => {
      backend = create();
    });
    afterAll(() => backend?.dispose());

    test.each(goldens)('$name', async ({ name, width, depth, trees, nodesPerTree, batch }) => {
      const golden = await goldenTensors('fff', `${name}.safetensors`);
      const count = trees * nodesPerTree;
      const layout = nodesLayout('linear_in.weight', 'linear_out.weight', count, width);
      const nodes = packArrays(layout, [golden.floats('linear_in.weight'), golden.floats('linear_out.weight')]);
      const t = {
        input: backend.tensor('x', [batch, width], 'f32', golden.floats('x')),
        nodes: backend.tensor('nodes', [count, 2 * width], 'f32', nodes),
        bias: backend.tensor('linear_in.bias', [count], 'f32', golden.floats('linear_in.bias')),
        output: backend.tensor('y', [batch, width]),
        visited: backend.tensor('visited', [batch, trees, depth + 1], 'i32'),
        logits: backend.tensor('logits', [batch, trees, depth + 1]),
      };
      backend.fff({ ...t, trees, depth });
      expect(await backend.readIntegers(t.visited)).toEqual(golden.integers('visited_nodes'));
      expectClose('y', await backend.read(t.output), golden.floats('y'), tolerances.output);
      if (!golden.names.includes('grad_y')) return;

      const gradients = {
        gradOutput: backend.tensor('grad_y', [batch, width], 'f32', golden.floats('grad_y')),
        gradInput: backend.tensor('grad_x', [batch, width]),
        gradNodes: backend.zeros('grad_nodes', [count, 2 * width]),
        gradBias: backend.zeros('grad_bias', [count]),
        touched: backend.zeros('touched', [count], 'i32'),
      };
      backend.fffBackward({ ...t, ...gradients, trees, depth });
      const [gradIn, gradOut] = unpackArrays(layout, await backend.read(gradients.gradNodes));
      const actual = {
        grad_x: await backend.read(gradients.gradInput),
        'grad.linear_in.weight': gradIn,
        'grad.linear_out.weight': gradOut,
        'grad.linear_in.bias': await backend.read(gradients.gradBias),
      };
      for (const [key, values] of Object.entries(actual)) expectClose(key, values, golden.floats(key), tolerances.gradient);

      const visited = new Set(
        (await backend.readIntegers(t.visited)).map((k, visit) => (Math.floor(visit / (depth + 1)) % trees) * nodesPerTree + k),
      );
      const touched = await backend.readIntegers(gradients.touched);
      expect([...touched.keys()].filter((node) => touched[node] !== 0)).toEqual([...visited].sort((a, b) => a - b));
    });
  });
}
