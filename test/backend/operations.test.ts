import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import { dropoutKey } from '../../src/backend/dropout.ts';
import { operations } from '../../src/backend/operations/operations.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { type AsyncCandidate, candidates, describeOnEach, webGpuCandidates } from './backends.ts';
import { operationCases } from './operation_cases.ts';
import { expectedValues, gradientErrors, normalizedError, operandsOf, runCase } from './run_case.ts';

/** float32 gradients, sums included, against finite differences that are exact to 1e-7. */
const gradientTolerance = 2e-5;

/** Compiling shaders for a processor takes most of the time of a case: of all, the first of each kind and one of fifteen besides, unless all are asked for. */
const isOnWebGpu = ({ name }: { name: string }, index: number) =>
  process.env.UFB_WEBGPU_CASES === 'all' || index % 15 === 0 || kindOf(operationCases[index - 1].name) !== kindOf(name);
const kindOf = (name: string) => name.split(' ')[0];

const webGpuCases = operationCases.filter(isOnWebGpu);

const casesOf = (label: string) => {
  if (!label.startsWith('webgpu')) return operationCases;
  if (label === 'webgpu, subgroups') return webGpuCases;
  // Without subgroups WebGPU adds up values of threads in another way: what does, and a few others, are tested once more.
  return webGpuCases.filter(({ name }) => /^(fff|layerNorm|rmsNorm|crossEntropy|sum|conditional|linear 5 x)/.test(name));
};

describe('the list of cases', () => {
  test('every operation has a case', () => {
    const covered = new Set<string>();
    class RecordingDevice extends ReferenceDevice {
      override enqueue(operation: string, operands: readonly (Tensor | undefined)[], numbers: readonly number[]): void {
        covered.add(operation);
        super.enqueue(operation, operands, numbers);
      }
    }
    using device = new RecordingDevice();
    for (const operationCase of operationCases) {
      const operands = Object.entries(operandsOf(operationCase));
      // The small cases already cover every operation.
      if (operands.some(([, { values }]) => values.length > 1000)) continue;
      const tensors = Object.fromEntries(operands.map(([name, o]) => [name, device.tensor(name, o.shape, o.dtype, o.values)]));
      operationCase.forward(device, tensors);
      operationCase.backward?.(device, tensors);
    }
    expect([...covered].sort()).toEqual(Object.keys(operations).sort());
  });

  test('names of cases are unique', () => {
    expect(new Set(operationCases.map(({ name }) => name)).size).toBe(operationCases.length);
  });
});

describeOnEach<AsyncCandidate>([...candidates, ...webGpuCandidates], ({ label, create }) => {
  let device: Device;
  beforeAll(async () => {
    device = await create();
  });
  afterAll(() => device?.dispose());

  for (const operationCase of casesOf(label)) {
    // Compiling shaders for a processor takes its time.
    test(operationCase.name, { timeout: label.startsWith('webgpu') ? 240_000 : 60_000 }, async () => {
      const actual = await runCase(device, operationCase);
      const expected = await expectedValues(operationCase, device.name === 'reference');
      const { value, reason, atLeast } = operationCase.tolerance;
      for (const name in expected) {
        const integers = actual[name] instanceof Int32Array;
        const error = normalizedError(actual[name], expected[name], atLeast);
        expect(error, `${name} (${reason})`).toBeLessThanOrEqual(integers ? 0 : value);
      }
      if (!operationCase.gradient) return;
      for (const [name, error] of Object.entries(await gradientErrors(operationCase, actual))) {
        expect(error, `${name} against finite differences`).toBeLessThanOrEqual(gradientTolerance);
      }
    });
  }

  if (label !== 'reference' && !label.startsWith('webgpu')) {
    test('results do not depend on the number of threads', { timeout: 120_000 }, async () => {
      using one = await create(1);
      using two = await create(2);
      for (const operationCase of operationCases) {
        const expected = await runCase(one, operationCase);
        for (const other of [two, device]) {
          const actual = await runCase(other, operationCase);
          for (const name in expected) expect(normalizedError(actual[name], expected[name]), `${operationCase.name}: ${name}`).toBe(0);
        }
      }
    });
  }

  describe('late errors', () => {
    const badEmbedding = (index: number) => {
      const table = device.zeros('table', [11, 4]);
      const indices = device.tensor('indices', [3], 'i32', [0, 10, index]);
      const output = device.tensor('output', [3, 4]);
      device.gather({ table, indices, output });
      return { table, indices, output };
    };
    const indexError = (index: number, operation = 'gather') => `${operation}: index ${index} of row 2 is not in a table of 11 rows`;

    test.each([11, -1, 2 ** 31 - 1])('index %d surfaces at read, once', async (index) => {
      const { output } = badEmbedding(index);
      await expect(device.read(output)).rejects.toThrow(indexError(index));
      await device.read(output);
      await device.finish();
    });

    test('surfaces at finish too', async () => {
      badEmbedding(12);
      await expect(device.finish()).rejects.toThrow(indexError(12));
      const { output } = badEmbedding(13);
      await expect(device.read(output)).rejects.toThrow(indexError(13));
      device.fill({ output, value: 3 });
      expect(await device.read(output)).toEqual(new Float32Array(12).fill(3));
    });

    test('operations queued behind it are skipped, writes are not', async () => {
      const [small, large] = [device.zeros('small', [3]), device.zeros('large', [5000])];
      badEmbedding(17);
      device.fill({ output: small, value: 1 });
      device.write(large, new Float32Array(5000).fill(2));
      device.submit();
      device.fill({ output: large, value: 3 });
      const written = device.tensor('written', [2], 'f32', [4, 5]);
      await expect(device.finish()).rejects.toThrow(indexError(17));
      expect(await device.read(small)).toEqual(new Float32Array(3));
      expect(await device.read(large)).toEqual(new Float32Array(5000).fill(2));
      expect(await device.read(written)).toEqual(Float32Array.of(4, 5));
    });

    test('the first of several wins', async () => {
      badEmbedding(14);
      badEmbedding(15);
      await expect(device.finish()).rejects.toThrow(indexError(14));
      await device.finish();
    });

    test('indices of rows that are copied: none is', async () => {
      const { table, output: input } = badEmbedding(0);
      device.fill({ output: input, value: 1 });
      device.scatterRows({ input, indices: device.tensor('indices', [3], 'i32', [0, 1, 11]), table });
      await expect(device.finish()).rejects.toThrow(indexError(11, 'scatterRows'));
      expect(await device.read(table)).toEqual(new Float32Array(44));
    });

    test.each([
      ['behind the last query', [4, 2, 0, 2], 2],
      ['behind the last key', [0, 2, 6, 2], 2],
      ['before the first', [-1, 2, 0, 2], 2],
      ['longer than is said', [0, 3, 0, 3], 3],
      ['without queries', [0, 0, 0, 2], 2],
      ['of more queries than keys', [0, 2, 0, 1], 1],
      ['of absurd lengths', [0, 2, 0, 2 ** 31 - 1], 2 ** 31 - 1],
    ])('sequences %s', async (_, sequence, keys) => {
      const [tensor, output] = [device.zeros('rows', [7, 4]), device.zeros('output', [5, 4])];
      const rows = { offset: 0, batchStride: 0, rowStride: 4, headStride: 2 };
      const sequences = device.tensor('sequences', [1, 4], 'i32', sequence);
      const query = { tensor: tensor.view([5, 4]), ...rows };
      const lengths = { batch: 1, queryLength: 2, keyLength: 2 };
      const parts = { query, key: { tensor, ...rows }, value: { tensor, ...rows }, sequences, heads: 2, headSize: 2, causal: true };
      device.attention({ ...parts, ...lengths, output });
      await expect(device.finish()).rejects.toThrow(
        `attention: sequence 0 has ${sequence[1]} queries and ${keys} keys, or places, that do not fit the operands`,
      );
      expect(await device.read(output)).toEqual(new Float32Array(20));
    });

    test('indices of the embedding gradients', async () => {
      const { table, indices, output: gradOutput } = badEmbedding(16);
      await expect(device.finish()).rejects.toThrow(indexError(16));
      device.fill({ output: gradOutput, value: 1 });
      device.scatterAdd({ indices, input: gradOutput, table });
      await expect(device.finish()).rejects.toThrow(indexError(16, 'scatterAdd'));
      device.gatherScaleBackward({ table, indices, gradOutput, gradScale: device.zeros('gradScale', [1]) });
      await expect(device.finish()).rejects.toThrow(indexError(16));
      device.scatterAdd({ indices, input: gradOutput, table, skipIndex: 16 });
      await device.finish();
      // Nothing is skipped that was not named.
      device.scatterAdd({ indices: device.tensor('-1', [3], 'i32', [0, 1, -1]), input: gradOutput, table });
      await expect(device.finish()).rejects.toThrow(indexError(-1, 'scatterAdd'));
    });

    test.each([3, -1])('block %d, chosen in a conditional product', async (block) => {
      const zeros = (...shape: number[]) => device.zeros('zeros', shape);
      const chosen = device.tensor('chosen', [2, 2], 'i32', [0, 2, 1, block]);
      const [input, output, weight] = [zeros(2, 5), zeros(2, 8), zeros(12, 5)];
      const error = (operation: string) => `${operation}: block ${block}, chosen by row 1, is not one of 3`;
      device.conditionalMatmul({ input, weight, chosen, blockSize: 4, output });
      await expect(device.finish()).rejects.toThrow(error('conditionalMatmul'));
      device.conditionalMatmulBackwardInput({ gradOutput: output, weight, chosen, blockSize: 4, gradInput: input });
      await expect(device.finish()).rejects.toThrow(error('conditionalMatmulBackwardInput'));
      device.conditionalMatmulBackwardWeight({ input, gradOutput: output, chosen, blockSize: 4, gradWeight: weight });
      await expect(device.finish()).rejects.toThrow(error('conditionalMatmulBackwardWeight'));
    });

    test.each([Number.NaN, Number.POSITIVE_INFINITY])('a weight of %d, prepared in i8', async (value) => {
      // First of its row, and followed by larger ones than any before it.
      const weight = device.tensor('weight', [3, 4], 'f32', [1, 2, 3, 4, value, 6, 7, 8, 9, 10, 11, 12]);
      device.prepareLinear({ weight, precision: 'i8' }).dispose();
      await expect(device.finish()).rejects.toThrow('prepareLinear: the weights of output 1 are not finite and cannot be rounded to i8');
      device.prepareNodes({ nodes: weight, precision: 'i8' }).dispose();
      await expect(device.finish()).rejects.toThrow('prepareNodes: the weights of neuron 1 are not finite and cannot be rounded to i8');
      device.prepareLinear({ weight, precision: 'bf16' }).dispose();
      await device.finish();
    });

    test.each(['F32', 'BF16', 'F16'] as const)('a value of a file, %s, that is not finite', async (type) => {
      const bits = { F32: [0, 0x7f80], BF16: [0x7fc0], F16: [0xfc00] }[type];
      const input = device.borrow('input', new Uint8Array(Uint16Array.from([...bits, ...bits]).buffer));
      const output = device.tensor('output', [2]);
      device.stridedCopy({ input, type, output, rows: 1, columns: 2, offset: 0, rowStride: 2, columnStride: 1 });
      await expect(device.finish()).rejects.toThrow('stridedCopy: the input holds a value that is not finite');
    });

    test.each([5, -1])('label %d', async (label) => {
      const logits = device.zeros('logits', [2, 5]);
      device.crossEntropy({ logits, labels: device.tensor('labels', [2], 'i32', [4, label]), losses: device.tensor('losses', [2]) });
      await expect(device.finish()).rejects.toThrow(`crossEntropy: label ${label} of row 1 is not one of 5 classes`);
    });

    test.each([3, 0, -1, 1e9])('visited node %d on level 1', async (node) => {
      const zeros = (...shape: number[]) => device.zeros('zeros', shape);
      const pathNodes = device.tensor('pathNodes', [2, 1, 2], 'i32', [0, 2, 0, node]);
      const gradients = { gradNodes: zeros(3, 8), gradBias: zeros(3), rowMask: device.zeros('rowMask', [3], 'i32') };
      const rows = { input: zeros(2, 4), gradOutput: zeros(2, 4), gradInput: zeros(2, 4) };
      device.fffBackward({ ...rows, ...gradients, nodes: zeros(3, 8), trees: 1, depth: 1, pathNodes, logits: zeros(2, 1, 2) });
      await expect(device.finish()).rejects.toThrow(`fffBackward: node ${node}, visited by token 1, is not on level 1`);
      device.countSplits({ pathNodes, counts: device.zeros('counts', [1, 2], 'i32'), trees: 1, depth: 1 });
      await expect(device.finish()).rejects.toThrow('countSplits: the nodes visited are no paths of trees of depth 1');
    });
  });

  describe('dropout', () => {
    const count = 100_000;
    const run = async (probability: number, key: number) => {
      using ones = device.tensor('ones', [count]);
      device.fill({ output: ones, value: 1 });
      device.dropout({ input: ones, output: ones, dropout: { probability, key } });
      return device.read(ones);
    };

    test.each([0.1, 0.5, 0.9])('keeps all but a share of %d, scaled to the same mean', async (probability) => {
      const values = await run(probability, dropoutKey(1, 2, 3));
      const kept = values.filter((value) => value !== 0);
      expect(new Set(kept)).toEqual(new Set([Math.fround(1 / (1 - probability))]));
      // Five standard deviations of the binomial distribution.
      const deviation = Math.sqrt(count * probability * (1 - probability));
      expect(Math.abs(kept.length - count * (1 - probability))).toBeLessThan(5 * deviation);
    });

    test('the key alone decides, and its parts all count', async () => {
      const first = await run(0.5, dropoutKey(1, 2, 3));
      expect(await run(0.5, dropoutKey(1, 2, 3))).toEqual(first);
      for (const key of [dropoutKey(2, 2, 3), dropoutKey(1, 3, 3), dropoutKey(1, 2, 4)]) {
        const other = await run(0.5, key);
        const agreeing = other.filter((value, i) => value === first[i]).length;
        expect(Math.abs(agreeing - count / 2)).toBeLessThan(5 * Math.sqrt(count / 4));
      }
    });
  });
});
