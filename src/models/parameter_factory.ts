import type { Device } from '../backend/device.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { Activation } from '../nn/activation.ts';
import { FastFeedforward, type FastFeedforwardShape, fastFeedforwardLayouts } from '../nn/fast_feedforward.ts';
import { LayerNorm } from '../nn/layer_norm.ts';
import { headsLayout, packArrays, plainLayout, stackedLayout, transposedLayout } from '../nn/layouts.ts';
import { Linear } from '../nn/linear.ts';
import { Parameter, type ParameterLayout } from '../nn/parameter.ts';
import { hashText, normalValues } from '../nn/random.ts';
import { RmsNorm } from '../nn/rms_norm.ts';

/** How a parameter starts: normal with the model's deviation (row `zeroRow` 0), or one number throughout. */
export type InitialValue = { normal: number; zeroRow?: number } | { constant: number };

/**
 * Makes a model's parameters, uninitialized, in the order of the model's parts, and remembers how each would start. `admit` is called
 * before each is allocated: a loader's chance to refuse what does not agree with the file.
 */
export class ParameterFactory {
  readonly parameters: Parameter[] = [];
  private readonly constants: Tensor[] = [];
  private readonly initialValues = new Map<Parameter, InitialValue>();

  constructor(
    readonly device: Device,
    private readonly admit: (layout: ParameterLayout) => void = () => {},
  ) {}

  /** A parameter of `shape` on the device. */
  parameter(layout: ParameterLayout, shape: readonly number[], initial: InitialValue): Parameter {
    this.admit(layout);
    return this.keep(new Parameter(this.device.tensor(layout.tensors[0].name, shape), layout, decays(layout)), initial);
  }

  /** NAME as it lies in the checkpoint. */
  plain(name: string, shape: readonly number[], initial: InitialValue): Parameter {
    return this.parameter(plainLayout(name, shape), shape, initial);
  }

  /** `transposed`: the checkpoint has the weight as [inputs, outputs]. */
  linear(
    name: string,
    outputs: number,
    inputs: number,
    options: { deviation: number; bias: boolean; activation?: Activation; transposed?: boolean },
  ): Linear {
    const initial = { normal: options.deviation };
    const shape = [outputs, inputs] as const;
    const weight = options.transposed
      ? this.parameter(transposedLayout(`${name}.weight`, shape), shape, initial)
      : this.plain(`${name}.weight`, shape, initial);
    const bias = options.bias ? this.plain(`${name}.bias`, [outputs], { constant: 0 }) : undefined;
    return new Linear(weight, bias, options.activation);
  }

  norm(name: string, width: number, epsilon: number): LayerNorm {
    const gamma = this.plain(`${name}.weight`, [width], { constant: 1 });
    return new LayerNorm(gamma, this.plain(`${name}.bias`, [width], { constant: 0 }), epsilon);
  }

  rmsNorm(name: string, width: number, epsilon: number): RmsNorm {
    return new RmsNorm(this.plain(`${name}.weight`, [width], { constant: 1 }), epsilon);
  }

  /** The projection to each head's query, key and value, from one tensor of the checkpoint or from three. */
  queryKeyValue(
    names: string | readonly [string, string, string],
    options: { width: number; heads: number; deviation: number; bias: boolean },
  ): Linear {
    const { width, heads, deviation, bias } = options;
    if (typeof names === 'string') return this.linear(names, 3 * width, width, { deviation, bias });
    const [query, key, value] = names;
    const layout = (suffix: string, inputs?: number) =>
      headsLayout([`${query}.${suffix}`, `${key}.${suffix}`, `${value}.${suffix}`], heads, width / heads, inputs);
    const weight = this.parameter(layout('weight', width), [3 * width, width], { normal: deviation });
    return new Linear(weight, bias ? this.parameter(layout('bias'), [3 * width], { constant: 0 }) : undefined);
  }

  /** The projection to all queries, then all keys, then all values, from one tensor of the checkpoint or from three. */
  queriesKeysValues(
    names: string | readonly [string, string, string],
    options: { inputs: number; queries: number; keys: number; deviation: number; bias: boolean; transposed: boolean },
  ): Linear {
    const { inputs, queries, keys, deviation, bias } = options;
    const outputs = queries + 2 * keys;
    if (typeof names === 'string') return this.linear(names, outputs, inputs, options);
    const layout = (suffix: string, columns?: number) =>
      stackedLayout(
        names.map((name, part) => ({ name: `${name}.${suffix}`, rows: part === 0 ? queries : keys })),
        columns,
      );
    const weight = this.parameter(layout('weight', inputs), [outputs, inputs], { normal: deviation });
    return new Linear(weight, bias ? this.parameter(layout('bias'), [outputs], { constant: 0 }) : undefined);
  }

  fastFeedforward(name: string, shape: FastFeedforwardShape, deviation: number): FastFeedforward {
    const layouts = fastFeedforwardLayouts(`${name}.`, shape);
    this.admit(layouts.nodes);
    this.admit(layouts.bias);
    if (layouts.thresholds) this.admit(layouts.thresholds);
    const layer = FastFeedforward.allocate(this.device, layouts, shape);
    this.keep(layer.nodes, { normal: deviation });
    this.keep(layer.bias, { constant: 0 });
    if (layer.thresholds) this.keep(layer.thresholds, { constant: 0 });
    return layer;
  }

  /** A tensor of fixed values that is no parameter. */
  constant(name: string, shape: readonly number[], values: Float32Array): Tensor {
    const tensor = this.device.tensor(name, shape, 'f32', values);
    this.constants.push(tensor);
    return tensor;
  }

  /** Writes a parameter's initial value. What it gets depends on the seed and its names only. */
  initialize(parameter: Parameter, seed: number): void {
    const initial = this.initialValues.get(parameter);
    if (!initial) throw new Error(`parameter '${parameter.name}' is not of this factory`);
    if ('constant' in initial) {
      this.device.fill({ output: parameter.value, value: initial.constant });
      return;
    }
    const arrays = parameter.layout.tensors.map(({ name, shape }) => {
      const values = normalValues(
        shape.reduce((a, b) => a * b, 1),
        initial.normal,
        seed,
        hashText(name),
      );
      if (initial.zeroRow !== undefined) values.fill(0, initial.zeroRow * shape[1], (initial.zeroRow + 1) * shape[1]);
      return values;
    });
    this.device.write(parameter.value, packArrays(parameter.layout, arrays));
  }

  /** Frees what was made, when a model could not be completed. */
  dispose(): void {
    for (const made of [...this.parameters, ...this.constants]) made.dispose();
  }

  private keep(parameter: Parameter, initial: InitialValue): Parameter {
    this.parameters.push(parameter);
    this.initialValues.set(parameter, initial);
    return parameter;
  }
}

/** crammedBERT's and BERT's rule: no weight decay where a name contains 'bias', 'norm' or 'LayerNorm'; GPT-2's norms are called ln_1, ln_2 and ln_f. */
function decays(layout: ParameterLayout): boolean {
  return !layout.tensors.some(({ name }) => /bias|norm|LayerNorm/.test(name) || /\bln_\w+\.weight$/.test(name));
}
