import { expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { activations } from '../../src/nn/activation.ts';
import { plainLayout } from '../../src/nn/layouts.ts';
import { Linear } from '../../src/nn/linear.ts';
import { Parameter } from '../../src/nn/parameter.ts';

test.each(activations)('a linear layer with %s: the gradient is the slope of what inference gives', async (activation) => {
  using device = new ReferenceDevice();
  const parameter = (name: string, shape: number[], values: number[]) =>
    new Parameter(device.tensor(name, shape, 'f32', values), plainLayout(name, shape), false);
  const layer = new Linear(parameter('w', [2, 3], [0.5, -1, 0.25, 2, 0.75, -0.5]), parameter('b', [2], [0.1, -0.2]), activation);
  const x = [0.3, -0.8, 1.4];
  const forward = async (values: number[]) => {
    const context = { device, arena: new Arena(device), training: false };
    return Array.from(await device.read(layer.forward(context, device.tensor('x', [1, 3], 'f32', values)).output));
  };
  const context = { device, arena: new Arena(device), training: true };
  const activations = layer.forward(context, device.tensor('x', [1, 3], 'f32', x));
  expect(Array.from(await device.read(activations.output))).toEqual(await forward(x));
  const gradient = await device.read(layer.backward(context, activations, device.tensor('dy', [1, 2], 'f32', [1, -2])));
  for (let i = 0; i < 3; i++) {
    const at = async (step: number) => {
      const [a, b] = await forward(x.map((value, j) => (i === j ? value + step : value)));
      return a - 2 * b;
    };
    expect(gradient[i]).toBeCloseTo(((await at(0.01)) - (await at(-0.01))) / 0.02, 3);
  }
});
