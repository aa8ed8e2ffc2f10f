import { checkArgument, kinds } from '../arguments.ts';
import type { Device } from '../backend/device.ts';
import { Tensor } from '../backend/tensor.ts';
import { branches, innerNodes, neuronCounts } from '../backend/tree_shape.ts';
import { InputError } from '../errors.ts';
import { gradientOf, type Target } from './layer.ts';
import { nodesLayout, packArrays, plainLayout } from './layouts.ts';
import { type Context, Parameter, type ParameterLayout } from './parameter.ts';
import { hashText, normalValues } from './random.ts';

/**
 * A layer's size: `trees` balanced binary trees over vectors of `width`, each of 2^depth - 1 inner nodes of one neuron and 2^depth leaves of
 * `leafWidth` neurons (1 if absent, as in UltraFastBERT).
 */
export interface FastFeedforwardShape {
  width: number;
  trees: number;
  depth: number;
  leafWidth?: number;
}

export interface FastFeedforwardActivations {
  /** [tokens, width]. */
  input: Tensor;
  /** [tokens, width]. */
  output: Tensor;
  /** i32 [tokens, trees, depth + 1], each visited node's index within its tree; kept in training. */
  pathNodes?: Tensor;
  /** [tokens, trees, depth + leafWidth], the visited neurons' logits; kept in training. */
  logits?: Tensor;
}

/**
 * The fast feedforward layer (arXiv 2308.14711, in the form of UltraFastBERT, arXiv 2311.10770). Each token walks one path through
 * each tree, from the root to a leaf, and only the neurons on it are computed, depth of them and the leaf's (one, or a block of
 * leafWidth: arXiv 2308.14711): in each, z = w_in . x + b, gelu(z) w_out joins the output, and the child is the right one if z > t. The
 * node's threshold t is 0 in the papers; with one of its own a node can split its tokens evenly and fire for few of them
 * (docs/decisions/28-thresholds.md).
 *
 * @example
 * const layer = FastFeedforward.create(device, { width: 768, trees: 1, depth: 11, seed: 1 });
 * const context = { device, arena: new Arena(device), training: false };
 * const { output } = layer.forward(context, input); // [tokens, 768]
 */
export class FastFeedforward {
  readonly width: number;

  constructor(
    /** [trees n, 2 width], n = 2^depth (1 + leafWidth) - 1: each neuron's input weights and, beside them, its output weights. */
    readonly nodes: Parameter,
    /** [trees n]. */
    readonly bias: Parameter,
    /** [trees, 2^depth - 1], of the inner nodes; none in trees of depth 0. */
    readonly thresholds: Parameter | undefined,
    readonly trees: number,
    readonly depth: number,
    readonly leafWidth: number,
  ) {
    this.width = nodes.value.shape[1] / 2;
    nodes.product = { operation: 'fff' };
  }

  /**
   * A layer by itself, with random weights: zero biases, w_in and w_out normal and scaled so that inputs of unit variance give logits of
   * unit variance and outputs of about unit variance. `name` prefixes the parameters' names. Dispose it when done.
   */
  static create(device: Device, options: FastFeedforwardShape & { seed: number; name?: string }): FastFeedforward {
    checkArgument('device', device, kinds.device);
    checkArgument('options', options, kinds.object);
    const { width, seed, name } = options;
    checkTreeShape(options);
    checkArgument('seed', seed, kinds.integer);
    const { total, used } = neuronCounts(options);
    const layer = FastFeedforward.allocate(device, fastFeedforwardLayouts(name ? `${name}.` : '', options), options);
    const deviations = [1 / Math.sqrt(width), 1 / Math.sqrt(used)];
    const { tensors } = layer.nodes.layout;
    try {
      const weights = tensors.map((tensor, i) => normalValues(total * width, deviations[i], seed, hashText(tensor.name)));
      device.write(layer.nodes.value, packArrays(layer.nodes.layout, weights));
      device.fill({ output: layer.bias.value, value: 0 });
      if (layer.thresholds) device.fill({ output: layer.thresholds.value, value: 0 });
      return layer;
    } catch (error) {
      layer.dispose();
      throw error;
    }
  }

  /** A layer whose weights are yet to be written. No row of its gradients is flagged in the row mask. */
  static allocate(device: Device, layouts: FastFeedforwardLayouts, shape: FastFeedforwardShape): FastFeedforward {
    const count = neuronCounts(shape).total;
    const [nodesName, biasName] = [layouts.nodes.tensors[0].name, layouts.bias.tensors[0].name];
    const made: Tensor[] = [];
    const make = (tensor: Tensor) => {
      made.push(tensor);
      return tensor;
    };
    let [nodes, bias, thresholds]: (Parameter | undefined)[] = [];
    try {
      nodes = new Parameter(make(device.tensor(nodesName, [count, 2 * shape.width])), layouts.nodes, true);
      bias = new Parameter(make(device.tensor(biasName, [count])), layouts.bias, false);
      if (layouts.thresholds) {
        const { name, shape: splits } = layouts.thresholds.tensors[0];
        thresholds = new Parameter(make(device.tensor(name, splits)), layouts.thresholds, false, true);
      }
      nodes.rowMask = bias.rowMask = device.zeros(`${nodesName} row mask`, [count], 'i32');
    } catch (error) {
      // Memory may have ended between two of them.
      for (const tensor of made) tensor.dispose();
      throw error;
    }
    let lists: Int32Array[] | undefined;
    nodes.branches = bias.branches = () => {
      lists ??= branches(shape);
      return lists;
    };
    return new FastFeedforward(nodes, bias, thresholds, shape.trees, shape.depth, shape.leafWidth ?? 1);
  }

  get parameters(): readonly Parameter[] {
    return [this.nodes, this.bias, ...(this.thresholds ? [this.thresholds] : [])];
  }

  /** input, output [tokens, width]. */
  forward(context: Context, input: Tensor, target?: Target): FastFeedforwardActivations {
    checkArgument('context', context, kinds.object);
    const { device, arena } = context;
    checkArgument('context.device', device, kinds.device);
    checkArgument('context.arena', arena, kinds.object);
    checkArgument('input', input, { expected: 'a tensor', holds: (value) => value instanceof Tensor });
    const { trees, depth, leafWidth } = this;
    const rows = input.size / this.width;
    const output = target?.tensor ?? arena.tensor('fff output', input.shape);
    const pathNodes =
      context.training || context.watchPaths ? arena.tensor('fff visited nodes', [rows, trees, depth + 1], 'i32') : undefined;
    const logits = context.training ? arena.tensor('fff logits', [rows, trees, depth + leafWidth]) : undefined;
    const accumulate = target?.accumulate;
    const nodes = this.nodes.operand(context);
    device.fff({
      ...{ input, nodes, bias: this.bias.value, thresholds: this.thresholds?.value, trees, depth, leafWidth },
      ...{ output, accumulate, pathNodes, logits },
    });
    if (pathNodes) context.watchPaths?.(input, pathNodes);
    return { input, output, pathNodes, logits };
  }

  /**
   * Touches the visited neurons only: adds to their rows of the gradients and flags them in `nodes.rowMask`, and counts the sides that
   * tokens took in `thresholds.splits`. gradOutput [tokens, width]; returns the input's gradient, of the same shape.
   */
  backward(context: Context, activations: FastFeedforwardActivations, gradOutput: Tensor, target?: Target): Tensor {
    const { input } = activations;
    const { arena } = context;
    const gradInput = target?.tensor ?? arena.tensor('fff input gradient', input.shape);
    const mark = arena.mark();
    context.device.fffBackward({
      input,
      nodes: this.nodes.value,
      trees: this.trees,
      depth: this.depth,
      leafWidth: this.leafWidth,
      pathNodes: activations.pathNodes!,
      logits: activations.logits!,
      gradOutput,
      gradInput,
      accumulate: target?.accumulate,
      ...this.gradients(context),
    });
    arena.release(mark);
    const { trees, depth } = this;
    const counts = this.thresholds?.splits;
    if (counts) context.device.countSplits({ pathNodes: activations.pathNodes!, counts, trees, depth });
    return gradInput;
  }

  private gradients(context: Context): { gradNodes?: Tensor; gradBias?: Tensor; rowMask?: Tensor } {
    const [gradNodes, gradBias] = [this.nodes, this.bias].map(gradientOf);
    if (!gradNodes && !gradBias) return {};
    // The operation makes both; a frozen one's goes to scratch.
    const scratch = ({ value }: Parameter) => context.arena.tensor('gradient of frozen nodes', value.shape);
    return { gradNodes: gradNodes ?? scratch(this.nodes), gradBias: gradBias ?? scratch(this.bias), rowMask: this.nodes.rowMask };
  }

  dispose(): void {
    for (const parameter of this.parameters) parameter.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkTreeShape({ width, trees, depth, leafWidth = 1 }: FastFeedforwardShape): void {
  const wrong = Object.entries({ width, trees, leafWidth, depth }).find(
    ([name, value]) => !Number.isSafeInteger(value) || value < (name === 'depth' ? 0 : 1),
  );
  if (wrong)
    throw new InputError(
      `fast feedforward layer: '${wrong[0]}' is ${wrong[1]}, expected a whole number from ${wrong[0] === 'depth' ? 0 : 1}`,
    );
}

export interface FastFeedforwardLayouts {
  nodes: ParameterLayout;
  bias: ParameterLayout;
  thresholds?: ParameterLayout;
}

/**
 * How a layer lies in a checkpoint: PREFIXlinear_in.weight, PREFIXlinear_out.weight, PREFIXlinear_in.bias, as the authors' code has
 * it, and PREFIXthresholds where they are not all 0.
 */
export function fastFeedforwardLayouts(prefix: string, shape: FastFeedforwardShape): FastFeedforwardLayouts {
  const count = neuronCounts(shape).total;
  return {
    nodes: nodesLayout(`${prefix}linear_in.weight`, `${prefix}linear_out.weight`, count, shape.width),
    bias: plainLayout(`${prefix}linear_in.bias`, [count]),
    thresholds:
      shape.depth > 0 ? { ...plainLayout(`${prefix}thresholds`, [shape.trees, innerNodes(shape.depth)]), absentIfZero: true } : undefined,
  };
}
