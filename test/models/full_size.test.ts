import { expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { fmix32 } from '../../src/backend/dropout.ts';
import { parseConfig } from '../../src/models/config_json.ts';
import { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import { ParameterFactory } from '../../src/models/parameter_factory.ts';
import { importParameter } from '../../src/nn/parameter_arrays.ts';
import { hashText } from '../../src/nn/random.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';
import { goldenJson, largest, tolerances } from '../goldens.ts';

interface FullSizeModel {
  name: string;
  arch: { embedding: object };
  vocab: number;
  input_ids: number[];
  parameterCount: number;
  /** For each position its ten largest logits, [token id, logit]. */
  top10: [number, number][][];
  encoderOutputFirst8: number[][];
  encoderOutputNorm: number[];
}

const { models, samples } = goldenJson<{ models: FullSizeModel[]; samples: Record<string, number[]> }>('full-size.json');

/** The weights by the golden's formula: center + scale (u - 1), u from 0 to 2 by the element's index and the parameter's name. */
function weights(name: string, size: number): Float32Array {
  const [center, scale] = centerAndScale(name);
  const offset = hashText(name);
  const values = new Float32Array(size);
  for (let i = 0; i < size; i++) values[i] = center + scale * unit(i, offset);
  return values;
}

const unit = (i: number, offset: number) => fmix32((i + offset) >>> 0) / 2 ** 31 - 1;

function centerAndScale(name: string): [number, number] {
  if (name.includes('word_embedding')) return [0, 0.1];
  if (name.endsWith('scale_factor')) return [0.05, 0];
  if (name.includes('norm') && name.endsWith('weight')) return [1, 0.2];
  if (name.endsWith('bias')) return [0, 0.1];
  return name.includes('linear_out') ? [0, 0.5] : [0, 0.05];
}

test('the formula is the golden one', () => {
  for (const [name, expected] of Object.entries(samples)) {
    expect(expected.length).toBeGreaterThan(0);
    expected.forEach((value, i) => {
      expect(Math.fround(unit(i, hashText(name)))).toBe(value);
    });
  }
});

// 650 MB of weights a model: on the reference, the native backend's widest instruction set, and the plainest of the WASM builds.
const devices = ['reference', 'native', 'wasm'].map((name) => candidates.filter(({ label }) => label.startsWith(name)).at(-1)!);

describeOnEach(devices, ({ create }) => {
  test.each(models)(
    '$name at full size agrees with float64',
    { timeout: 300_000 },
    async ({ arch, vocab, input_ids, parameterCount, ...expected }) => {
      const json = { model_type: 'crammedBERT', arch: { ...arch, embedding: { ...arch.embedding, vocab_size: vocab } } };
      using device = create();
      const model = new MaskedLanguageModel(parseConfig(json, 'full-size.json'), new ParameterFactory(device));
      let count = 0;
      for (const parameter of model.parameters) {
        if (parameter.buffer) {
          importParameter(parameter, []); // the paper's layer has no thresholds
          continue;
        }
        count += parameter.value.size;
        importParameter(
          parameter,
          parameter.layout.tensors.map(({ name, shape }) => ({
            name,
            shape,
            values: weights(
              name,
              shape.reduce((a, b) => a * b),
            ),
          })),
        );
        await device.finish();
      }
      expect(count).toBe(parameterCount);

      const context = { device, arena: new Arena(device), training: false };
      const batch = { batch: 1, length: input_ids.length, ids: Int32Array.from(input_ids) };
      const { hiddenSize } = model.config;
      const encoded = await device.read(model.encoder.forward(context, batch).output);
      const outputTolerance = tolerances.output * largest(encoded);
      input_ids.forEach((_, position) => {
        const row = encoded.subarray(position * hiddenSize, (position + 1) * hiddenSize);
        expected.encoderOutputFirst8[position].forEach((value, i) => {
          expect(Math.abs(row[i] - value)).toBeLessThan(outputTolerance);
        });
        expect(Math.sqrt(row.reduce((sum, value) => sum + value * value, 0))).toBeCloseTo(expected.encoderOutputNorm[position], 3);
      });

      context.arena.reset();
      const logits = await device.read(model.logits(context, batch));
      const logitTolerance = tolerances.output * largest(logits);
      expected.top10.forEach((top, position) => {
        const row = logits.subarray(position * vocab, (position + 1) * vocab);
        for (const [id, value] of top) expect(Math.abs(row[id] - value), `position ${position}, token ${id}`).toBeLessThan(logitTolerance);
        const tenth = top[9][1] - logitTolerance;
        const above = [...row.keys()].filter((id) => row[id] > tenth);
        expect(above.filter((id) => !top.some(([other]) => other === id)).every((id) => row[id] < top[9][1] + logitTolerance)).toBe(true);
      });
    },
  );
});
