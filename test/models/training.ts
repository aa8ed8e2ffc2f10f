import { expect } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import type { Parameter } from '../../src/nn/parameter.ts';
import { exportParameter } from '../../src/nn/parameter_arrays.ts';
import { AdamW } from '../../src/training/optimizer.ts';
import { expectClose, type GoldenTensors, largest, tolerances } from '../goldens.ts';

/** What a golden's info.json says of its training. */
export interface GoldenTraining {
  steps: number;
  lr: number;
  betas: [number, number];
  eps: number;
  weightDecay: number;
  clipNorm: number;
  lossPerStep: number[];
  gradNormBeforeClipPerStep: number[];
}

/** Gradients that are this small beside the model's largest are nothing but rounding (a key's bias, say, has none in exact arithmetic). */
const roundingNoise = 1e-6;

export function allocateGradients(device: Device, parameters: readonly Parameter[]): void {
  for (const parameter of parameters) parameter.gradient = device.zeros(`${parameter.name} gradient`, parameter.value.shape);
}

export function mean(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Compares every gradient with the goldens' (names there may have a prefix), and that each of the goldens' was met. */
export async function expectGradients(parameters: readonly Parameter[], goldens: GoldenTensors, prefix = ''): Promise<void> {
  const expected = goldens.names.filter((name) => name.startsWith(prefix));
  const all = Math.max(...expected.map((name) => largest(goldens.floats(name))));
  const seen: string[] = [];
  for (const parameter of parameters.filter(({ buffer }) => !buffer)) {
    for (const { name, shape, values } of await exportParameter(parameter, parameter.gradient)) {
      seen.push(prefix + name);
      expect(shape, name).toEqual(goldens.shape(prefix + name));
      const golden = goldens.floats(prefix + name);
      const noise = largest(golden) < roundingNoise * all;
      if (noise) expectClose(`gradient of ${name}`, values, new Float32Array(values.length), roundingNoise, all);
      else expectClose(`gradient of ${name}`, values, golden, tolerances.gradient);
    }
  }
  expect(seen.sort()).toEqual(expected.sort());
}

/** Takes the goldens' AdamW steps and compares losses and gradient norms at each, and all weights after them. */
export async function expectTraining(
  device: Device,
  parameters: readonly Parameter[],
  golden: { training: GoldenTraining; gradients: GoldenTensors; weights: GoldenTensors },
  lossAndGradients: (step: number) => Tensor,
): Promise<void> {
  const { training, gradients, weights } = golden;
  const [beta1, beta2] = training.betas;
  using optimizer = new AdamW(device, parameters, {
    beta1,
    beta2,
    epsilon: training.eps,
    weightDecay: training.weightDecay,
    clipNorm: training.clipNorm,
  });
  using clip = device.tensor('clip', [2]);
  for (let step = 0; step < training.steps; step++) {
    const loss = mean(await device.read(lossAndGradients(step)));
    expect(Math.abs(loss - training.lossPerStep[step]), `loss at step ${step}: ${loss}`).toBeLessThan(tolerances.loss);
    optimizer.step(training.lr, clip);
    const [, norm] = await device.read(clip);
    const expected = training.gradNormBeforeClipPerStep[step];
    expect(Math.abs(norm - expected), `gradient norm at step ${step}: ${norm}`).toBeLessThan(1e-4 * expected);
  }
  const all = Math.max(...gradients.names.map((name) => largest(gradients.floats(name))));
  for (const parameter of parameters.filter(({ buffer }) => !buffer)) {
    for (const { name, values } of await exportParameter(parameter)) {
      const gradient = gradients.floats(name);
      if (largest(gradient) < roundingNoise * all) continue;
      const threshold = 1e-7 * largest(gradient);
      const kept = [...gradient.keys()].filter((i) => Math.abs(gradient[i]) >= threshold);
      const golden = weights.floats(name);
      expectClose(
        `${name} after training`,
        kept.map((i) => values[i]),
        kept.map((i) => golden[i]),
        tolerances.trainedWeight,
        largest(golden),
      );
    }
  }
}
