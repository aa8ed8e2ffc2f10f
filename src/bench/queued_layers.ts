/** The layers that are measured, in any backend and precision, with weights that are random but the same each time. */
import type { Device } from '../backend/device.ts';
import type { Precision, PreparedWeight } from '../backend/prepared_weight.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { DenseWeights, TreeWeights } from './onnx_graphs.ts';
import { fillUniform } from './timing.ts';
import type { QueuedLayer } from './work.ts';

/** Values of zero mean and this variance. */
export function uniform(size: number, variance: number, seed: number): Float32Array {
  return fillUniform(new Float32Array(size), Math.sqrt(3 * variance), seed);
}

/** Logits of unit variance for inputs of unit variance: the signs, and so the paths, are even. */
export function randomTrees({ width, trees, depth }: { width: number; trees: number; depth: number }): TreeWeights {
  const neurons = trees * (2 ** (depth + 1) - 1);
  return { width, trees, depth, nodes: uniform(neurons * 2 * width, 1 / width, 2), bias: new Float32Array(neurons) };
}

export function randomDense(width: number, neurons: number): DenseWeights {
  return { width, neurons, up: uniform(neurons * width, 1 / width, 3), down: uniform(neurons * width, 1 / neurons, 4) };
}

export function treeLayer(device: Device, tree: TreeWeights, precision: Precision): QueuedLayer {
  const { width, trees, depth, nodes, bias } = tree;
  const count = bias.length;
  const weight = device.tensor('nodes', [count, 2 * width], 'f32', nodes);
  const biases = device.tensor('bias', [count], 'f32', bias);
  const thresholds = tree.thresholds && device.tensor('thresholds', [tree.thresholds.length], 'f32', tree.thresholds);
  const prepared: Tensor | PreparedWeight = precision === 'f32' ? weight : device.prepareNodes({ nodes: weight, precision });
  if (prepared !== weight) weight.dispose();
  return {
    outputs: width,
    call: ({ x }, output) => device.fff({ input: x, nodes: prepared, bias: biases, thresholds, trees, depth, output }),
    dispose: () => [prepared, biases, thresholds].forEach((made) => void made?.dispose()),
  };
}

export function denseLayer(device: Device, { width, neurons, up, down }: DenseWeights, precision: Precision): QueuedLayer {
  const [first, second] = [preparedLinear(device, up, neurons, width, precision), preparedLinear(device, down, width, neurons, precision)];
  let hidden: Tensor | undefined;
  return {
    outputs: width,
    call({ x }, output) {
      const rows = x.size / width;
      if (hidden?.shape[0] !== rows) {
        hidden?.dispose();
        hidden = device.tensor('hidden', [rows, neurons]);
      }
      device.linear({ input: x, weight: first, output: hidden, activation: 'gelu' });
      device.linear({ input: hidden, weight: second, output });
    },
    dispose: () => [first, second, hidden].forEach((made) => void made?.dispose()),
  };
}

export function preparedLinear(
  device: Device,
  values: Float32Array,
  outputs: number,
  inputs: number,
  precision: Precision,
): PreparedWeight {
  using weight = device.tensor('weight', [outputs, inputs], 'f32', values);
  return device.prepareLinear({ weight, precision });
}
