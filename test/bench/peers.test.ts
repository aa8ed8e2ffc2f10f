import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createDevice, type DeviceName, nativeMissing } from '../../src/backend/create.ts';
import type { Device } from '../../src/backend/device.ts';
import { benchmarkConditionalMatmul } from '../../src/bench/conditional_matmul.ts';
import { benchmarkDecode } from '../../src/bench/decode.ts';
import { benchmarkLayer } from '../../src/bench/layer.ts';
import { benchmarkConfig, benchmarkModel } from '../../src/bench/model.ts';
import { linearGraph } from '../../src/bench/onnx_graphs.ts';
import { loadOnnxRuntime, type OnnxRuntime } from '../../src/bench/peers.ts';
import { randomTrees } from '../../src/bench/queued_layers.ts';
import { randomTokens } from '../../src/bench/work.ts';
import { encodeOnnx } from '../../src/io/onnx_writer.ts';
import { parseConfig } from '../../src/models/config_json.ts';
import { wasmMissing } from '../../src/platform/node.ts';
import { goldenJson, goldenPath } from '../goldens.ts';

// onnxruntime is set beside the native backend; where that is missing there is nothing to compare.
const missing = nativeMissing();
let device: Device;
let onnxRuntime: OnnxRuntime;
beforeAll(async () => {
  if (missing) return;
  device = await createDevice({ name: 'native', threads: 1 });
  const loaded = await loadOnnxRuntime(device);
  // A development dependency: it must be there.
  if ('missing' in loaded) throw new Error(loaded.missing);
  onnxRuntime = loaded;
});
afterAll(() => device?.dispose());

// onnxruntime rests after each round.
const short = { rounds: 1, roundMilliseconds: 1 };

describe.skipIf(missing)(`layer${missing ? ` (skipped: ${missing})` : ''}`, () => {
  test('trees and dense layers, ours and onnxruntime’s, compute the same', async () => {
    const options = { ...short, tokens: randomTokens(64, [1, 16]), batches: [1, 16], dtypes: ['f32', 'bf16', 'i8'] as const };
    const results = await benchmarkLayer(device, { ...options, layers: [randomTrees({ width: 64, trees: 3, depth: 4 })], onnxRuntime });
    expect(results.map(({ config, batch, dtype }) => `${config} ${batch} ${dtype}`)).toEqual(
      [1, 16].flatMap((batch) => ['f32', 'bf16', 'i8'].map((dtype) => `3x4 64 ${batch} ${dtype}`)),
    );
    // A path that flips changes a token altogether: bf16 and i8 are only held to what rounding does when none does.
    const allowed = { f32: 1e-5, bf16: 0.5, i8: 1 };
    const dense = { f32: 1e-5, bf16: 0.02, i8: 0.1 };
    for (const { dtype, maxRelativeError, peers, usPerToken, ratio } of results) {
      expect(maxRelativeError).toBeLessThan(allowed[dtype]);
      expect(peers.map(({ kind, dtype }) => `${kind} ${dtype}`).sort()).toEqual(
        ['dense bf16', 'dense f32', 'dense f32', 'dense i8', 'dense i8', 'trees f32'].sort(),
      );
      for (const peer of peers) expect(peer.maxRelativeError, peer.name).toBeLessThan(dense[peer.dtype]);
      const sameDtype = peers.filter((peer) => peer.kind === 'dense' && peer.dtype === (dtype === 'i8' ? 'i8' : 'f32'));
      expect(ratio).toBeCloseTo(Math.min(...sameDtype.map((peer) => peer.usPerToken)) / usPerToken, 6);
    }
  });

  test('without onnxruntime only ours', async () => {
    const options = { ...short, tokens: randomTokens(16, [4]), batches: [4], dtypes: ['i8'] as const };
    const [{ peers }] = await benchmarkLayer(device, { ...options, layers: [randomTrees({ width: 16, trees: 1, depth: 2 })] });
    expect(peers.map(({ name, dtype }) => `${name} ${dtype}`)).toEqual(['ours dense i8', 'ours dense f32']);
  });
});

test.skipIf(missing)('conditional products, ours and onnxruntime’s, are the chosen part of the dense product', async () => {
  const shape = { width: 48, neurons: 64, batches: [1, 20], blockSizes: [1, 8], chosen: [8, 12] };
  const results = await benchmarkConditionalMatmul(device, { ...short, ...shape, onnxRuntime });
  expect(results.map(({ batch, blockSize, chosen }) => [batch, blockSize, chosen])).toEqual([
    [1, 1, 8],
    [1, 1, 12],
    [20, 1, 8],
    [20, 1, 12],
    [1, 8, 8],
    [20, 8, 8],
  ]);
  for (const { maxRelativeError, peers, usPerToken, ratio } of results) {
    expect(maxRelativeError).toBeLessThan(1e-5);
    expect(peers.map(({ kind }) => kind)).toEqual(['dense', 'dense', 'conditional']);
    for (const peer of peers) expect(peer.maxRelativeError, peer.name).toBeLessThan(1e-5);
    expect(ratio).toBeCloseTo(Math.min(peers[0].usPerToken, peers[1].usPerToken) / usPerToken, 6);
  }
});

/** The backends that have a peer; WASM stands beside onnxruntime-web. */
const whole: [DeviceName, string | undefined][] = [
  ['native', missing],
  ['wasm', wasmMissing()],
];
for (const [name, unavailable] of whole) {
  test.skipIf(unavailable)(`model: encoders, ours and onnxruntime’s, compute the same: ${name}`, async () => {
    using on = await createDevice({ name, threads: 2 });
    const loaded = await loadOnnxRuntime(on);
    if ('missing' in loaded) throw new Error(loaded.missing);
    const shape = { layers: 2, width: 32, heads: 4, neurons: 48, length: 9 };
    const other = { kind: 'fff' as const, trees: 1, depth: 3 };
    const common = { ...short, other, length: 9, batches: [1, 3], dtypes: ['f32', 'i8'] as const, onnxRuntime: loaded };
    const rows = await benchmarkModel(on, { ...common, config: benchmarkConfig(shape) });
    const model = goldenPath('hf-bert');
    const config = parseConfig(goldenJson('hf-bert', 'config.json'), 'config.json');
    rows.push(...(await benchmarkModel(on, { ...common, model, config })));
    expect(rows).toHaveLength(2 * 2 * 6);
    expect(rows.filter((row) => row.name.startsWith(name === 'wasm' ? 'onnxruntime-web ' : 'onnxruntime ')).length).toBe(8);
    for (const { name, dtype, relativeError, milliseconds } of rows) {
      expect(milliseconds.median).toBeGreaterThan(0);
      expect(relativeError, `${name} ${dtype}`).toBeLessThan(dtype === 'f32' ? 1e-5 : 0.1);
    }
  });
}

test.skipIf(missing)('onnxruntime waits for its threads to sleep, where it has any but the caller', async () => {
  const graph = linearGraph(new Float32Array(4), 2, 2);
  const [one, two] = [await onnxRuntime.session(graph, 1), await onnxRuntime.session(graph, 2)];
  vi.useFakeTimers();
  try {
    await one.rest();
    const resting = two.rest();
    expect(vi.getTimerCount()).toBe(1);
    vi.runAllTimers();
    await resting;
  } finally {
    vi.useRealTimers();
    for (const session of [one, two]) await session.release();
  }
});

test('an ONNX file larger than the format holds is refused before it is made', () => {
  // Views of one large buffer: nothing is copied before the check.
  const data = new Uint8Array(2 ** 30);
  const initializers = ['a', 'b', 'c'].map((name) => ({ name, type: 'u8' as const, shape: [data.length], data }));
  const graph = { name: 'large', inputs: [], outputs: [], nodes: [], initializers };
  expect(() => encodeOnnx(graph)).toThrow(/'large' takes 3\d+ bytes, more than the format's 2 GiB/);
});

describe.skipIf(missing)(`decode${missing ? ` (skipped: ${missing})` : ''}`, () => {
  test('ours, and onnxruntime with a cache, read a prompt to the same logits', async () => {
    const rows = await benchmarkDecode(device, {
      ...short,
      shape: { vocabSize: 90, hiddenSize: 32, numHiddenLayers: 2, numAttentionHeads: 2 },
      feedforwards: [
        { kind: 'fff', trees: 1, depth: 3 },
        { kind: 'dense', neurons: 48 },
      ],
      prompt: 9,
      written: 5,
      batches: [1, 3],
      dtypes: ['f32', 'bf16', 'i8'],
      onnxRuntime,
    });
    const names = ['ours 1x3', 'ours dense 48', `${onnxRuntime.name} dense 48`];
    const dtypes = ['f32', 'bf16', 'i8'];
    const expected = (batch: number) =>
      names.flatMap((name) => dtypes.flatMap((dtype) => (name === names[2] && dtype === 'bf16' ? [] : [`${batch} ${name} ${dtype}`])));
    expect(rows.map(({ batch, name, dtype }) => `${batch} ${name} ${dtype}`)).toEqual([...expected(1), ...expected(3)]);
    for (const { name, dtype, error, tokensPerSecond, promptMilliseconds } of rows) {
      if (dtype === 'f32') expect(error).toBeLessThan(1e-5);
      // A path that flips changes a token altogether.
      else if (name !== names[0]) expect(error).toBeLessThan(0.1);
      for (const { low, median, high } of [tokensPerSecond, promptMilliseconds]) {
        expect(low).toBeGreaterThan(0);
        expect(median).toBeGreaterThanOrEqual(low);
        expect(high).toBeGreaterThanOrEqual(median);
      }
    }
    // 2 layers of 4 x 32 x 32 for attention, 2 x 32 for each neuron used, and the head.
    expect(rows.find(({ name, dtype }) => name === names[0] && dtype === 'bf16')?.bytes).toBe(
      2 * (2 * (4 * 32 * 32 + 2 * 32 * 4) + 90 * 32),
    );
    expect(rows.find(({ name }) => name === names[2])?.bytes).toBe(4 * (2 * (4 * 32 * 32 + 2 * 32 * 48) + 90 * 32));
  });
});
