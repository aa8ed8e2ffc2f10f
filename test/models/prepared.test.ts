import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Device } from '../../src/backend/device.ts';
import type { Precision } from '../../src/backend/prepared_weight.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { createMaskedLanguageModel, loadMaskedLanguageModel, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';
import { expectClose, type GoldenTensors, goldenPath, goldenTensors, largest, tolerances } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';

const folder = temporaryFolder();
const folders = ['crammed-bert-fff', 'crammed-bert-dense', 'hf-bert'];

async function logitsOf(folder: string, golden: GoldenTensors, device: Device, dtype: Precision) {
  using model = await loadMaskedLanguageModel(goldenPath(folder), device, { dtype });
  using arena = new Arena(device);
  const [batch, length] = golden.shape('input_ids');
  const optional = (name: string) => (folder === 'hf-bert' ? golden.integers(name) : undefined);
  const ids = golden.integers('input_ids');
  const tokens = { batch, length, ids, attentionMask: optional('attention_mask'), typeIds: optional('token_type_ids') };
  return device.read(model.logits({ device, arena, training: false }, tokens));
}

/** The reference, rounding in attention where the backend that it is compared with does. */
class ReferenceOf extends ReferenceDevice {
  constructor(private readonly device: Device) {
    super();
  }
  override get multipliesBf16(): boolean {
    return this.device.multipliesBf16;
  }
}

/** Root of the mean square of the differences over that of the values. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  const squares = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0);
  return Math.sqrt(squares(actual.map((value, i) => value - expected[i])) / squares(expected));
}

describeOnEach(candidates, ({ create }) => {
  let device: Device;
  beforeAll(() => {
    device = create();
  });
  afterAll(() => device?.dispose());

  describe.each(folders)('%s', (folder) => {
    test('prepared in f32 agrees with PyTorch as the trainable model does', async () => {
      const golden = await goldenTensors(folder, 'forward.safetensors');
      expectClose('logits', await logitsOf(folder, golden, device, 'f32'), golden.floats('logits'), tolerances.output);
    });

    // Roundings of weights and inputs, 2^-9 and 2^-8 of the largest, through two layers; a path that flips changes a token by more.
    test.each([
      ['bf16', 0.02],
      ['i8', 0.06],
    ] as const)('prepared in %s is near it, and agrees with the reference', async (dtype, allowed) => {
      const golden = await goldenTensors(folder, 'forward.safetensors');
      const logits = await logitsOf(folder, golden, device, dtype);
      expect(largest(logits)).toBeGreaterThan(0);
      const error = relativeError(logits, golden.floats('logits'));
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(allowed);
      using reference = new ReferenceOf(device);
      const expected = await logitsOf(folder, golden, reference, dtype);
      // A float32 difference in a hidden state can move an element by one step of rounding.
      expect(relativeError(logits, expected)).toBeLessThan(allowed / 4);
    });
  });

  test.each([
    ['bf16', 0.02],
    ['i8', 0.06],
  ] as const)('leaves of several neurons prepared in %s are near those in f32', async (dtype, allowed) => {
    const feedforward = { kind: 'fff', trees: 2, depth: 2, leafWidth: 9 } as const;
    const config = crammedBertConfig({
      vocabSize: 50,
      hiddenSize: 48,
      numAttentionHeads: 3,
      numHiddenLayers: 2,
      maxPositionEmbeddings: 32,
      feedforward,
    });
    using created = createMaskedLanguageModel(config, device, 3);
    await saveCheckpoint(folder, created);
    const tokens = { batch: 2, length: 32, ids: Int32Array.from({ length: 64 }, (_, i) => (i * i) % 50) };
    const logits = async (dtype: Precision, on: Device = device) => {
      using model = await loadMaskedLanguageModel(folder, on, { dtype });
      using arena = new Arena(on);
      return on.read(model.logits({ device: on, arena, training: false }, tokens));
    };
    const [exact, rounded] = [await logits('f32'), await logits(dtype)];
    expect(rounded).not.toEqual(exact);
    expect(relativeError(rounded, exact)).toBeLessThan(allowed);
    using reference = new ReferenceOf(device);
    expect(relativeError(rounded, await logits(dtype, reference))).toBeLessThan(allowed / 4);
  });

  test('a prepared model can be neither trained nor saved, and says why', async () => {
    using model = await loadMaskedLanguageModel(goldenPath('crammed-bert-fff'), device, { dtype: 'bf16' });
    using arena = new Arena(device);
    const ids = Int32Array.of(1, 2, 3, 4);
    const step = () => model.lossAndGradients({ device, arena, training: true }, { batch: 1, length: 4, ids, labels: ids });
    expect(step).toThrow(InputError);
    expect(step).toThrow(/was prepared in bf16 for inference and cannot be trained/);
    await expect(saveCheckpoint(folder, model)).rejects.toThrow(/was prepared in bf16 for inference and cannot be saved/);
  });
});
