import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { type AsyncCandidate, candidates, describeOnEach, webGpuCandidates } from './backends.ts';
import { Random } from './random.ts';
import { normalizedError } from './run_case.ts';

const width = 32;
const trees = 1;
const depth = 11;
const nodeCount = trees * (2 ** (depth + 1) - 1);
const tokens = 100_000;

/** The layer at random, and random tokens: nothing keeps z off zero here. */
function layer() {
  const random = new Random(20231115);
  return {
    nodes: random.normals(nodeCount * 2 * width, 1 / Math.sqrt(width)),
    bias: random.normals(nodeCount, 0.1),
    input: random.normals(tokens * width),
  };
}

describeOnEach<AsyncCandidate>([...candidates, ...webGpuCandidates.slice(0, 1)], ({ label, create }) => {
  let device: Device;
  const { nodes, bias, input } = layer();
  beforeAll(async () => {
    device = await create();
  });
  afterAll(() => device?.dispose());

  async function walk(on: Device, rows: Float32Array) {
    const count = rows.length / width;
    using x = on.tensor('input', [count, width], 'f32', rows);
    using w = on.tensor('nodes', [nodeCount, 2 * width], 'f32', nodes);
    using b = on.tensor('bias', [nodeCount], 'f32', bias);
    using output = on.tensor('output', [count, width]);
    using pathNodes = on.tensor('pathNodes', [count, trees, depth + 1], 'i32');
    using logits = on.tensor('logits', [count, trees, depth + 1]);
    on.fff({ input: x, nodes: w, bias: b, trees, depth, output, pathNodes, logits });
    return { output: await on.read(output), pathNodes: await on.readIntegers(pathNodes), logits: await on.read(logits) };
  }

  test.skipIf(label.startsWith('reference'))(
    'of 100,000 tokens fewer than 1 in 10,000 take another path than in the reference',
    { timeout: 60_000 },
    async () => {
      using reference = new ReferenceDevice();
      const expected = await walk(reference, input);
      const actual = await walk(device, input);
      let flips = 0;
      for (let t = 0; t < tokens; t++) {
        const last = (t + 1) * (depth + 1) - 1;
        if (actual.pathNodes[last] !== expected.pathNodes[last]) flips++;
      }
      expect(flips).toBeLessThan(tokens / 10_000);
    },
  );

  test('a batch answers as its rows alone do, by the same paths, whatever its size', async () => {
    const rows = input.subarray(0, 77 * width);
    const { output, pathNodes, logits } = await walk(device, rows);
    for (const count of [1, 2, 7, 16, 33]) {
      for (let t = 0; t + count <= 77; t += count) {
        const alone = await walk(device, rows.slice(t * width, (t + count) * width));
        expect(alone.pathNodes).toEqual(pathNodes.slice(t * (depth + 1), (t + count) * (depth + 1)));
        // Each z is summed in one fixed order: not merely close.
        expect(alone.logits).toEqual(logits.slice(t * (depth + 1), (t + count) * (depth + 1)));
        expect(normalizedError(alone.output, output.subarray(t * width, (t + count) * width))).toBeLessThan(2e-5);
      }
    }
  });
});
