import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { nodesLayout } from '../../src/nn/layouts.ts';
import { candidates } from './backends.ts';
import { normalisedError } from './run_case.ts';

const folder = join(process.env.UFB_GOLDENS ?? fileURLToPath(new URL('../fixtures/goldens', import.meta.url)), 'fff');

interface Golden {
  name: string;
  width: number;
  depth: number;
  trees: number;
  nodesPerTree: number;
  batch: number;
}
const goldens: Golden[] = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8'));

for (const { label, create, unavailable } of candidates) {
  describe.skipIf(unavailable)(unavailable ? `${label} (skipped: ${unavailable})` : label, () => {
    let backend: Backend;
    beforeAll(() => {
      backend = create();
    });
    afterAll(() => backend?.dispose());

    test.each(goldens)('$name', async ({ name, width, depth, trees, nodesPerTree, batch }) => {
      await using file = await readSafetensors(join(folder, `${name}.safetensors`));
      const count = trees * nodesPerTree;
      const layout = nodesLayout('linear_in.weight', 'linear_out.weight', count, width);
      const nodes = layout.pack([await file.read('linear_in.weight'), await file.read('linear_out.weight')]);
      const t = {
        input: backend.tensor('x', [batch, width], 'f32', await file.read('x')),
        nodes: backend.tensor('nodes', [count, 2 * width], 'f32', nodes),
        bias: backend.tensor('linear_in.bias', [count], 'f32', await file.read('linear_in.bias')),
        output: backend.tensor('y', [batch, width]),
        visited: backend.tensor('visited', [batch, trees, depth + 1], 'i32'),
        logits: backend.tensor('logits', [batch, trees, depth + 1]),
      };
      backend.fff({ ...t, trees, depth });
      expect(await backend.readIntegers(t.visited)).toEqual(await file.readIntegers('visited_nodes'));
      expect(normalisedError(await backend.read(t.output), await file.read('y'))).toBeLessThan(2e-5);
      if (!file.has('grad_y')) return;

      const gradients = {
        gradOutput: backend.tensor('grad_y', [batch, width], 'f32', await file.read('grad_y')),
        gradInput: backend.tensor('grad_x', [batch, width]),
        gradNodes: backend.zeros('grad_nodes', [count, 2 * width]),
        gradBias: backend.zeros('grad_bias', [count]),
        touched: backend.zeros('touched', [count], 'i32'),
      };
      backend.fffBackward({ ...t, ...gradients, trees, depth });
      const [gradIn, gradOut] = layout.unpack(await backend.read(gradients.gradNodes));
      const actual = {
        grad_x: await backend.read(gradients.gradInput),
        'grad.linear_in.weight': gradIn,
        'grad.linear_out.weight': gradOut,
      };
      for (const [key, values] of Object.entries(actual)) {
        expect(normalisedError(values, await file.read(key)), key).toBeLessThan(1e-4);
      }
      expect(normalisedError(await backend.read(gradients.gradBias), await file.read('grad.linear_in.bias'))).toBeLessThan(1e-4);

      const visited = new Set(
        (await backend.readIntegers(t.visited)).map((k, visit) => (Math.floor(visit / (depth + 1)) % trees) * nodesPerTree + k),
      );
      const touched = await backend.readIntegers(gradients.touched);
      expect([...touched.keys()].filter((node) => touched[node] !== 0)).toEqual([...visited].sort((a, b) => a - b));
    });
  });
}
