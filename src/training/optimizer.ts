import { checkArgument, kinds } from '../arguments.ts';
import type { Device } from '../backend/device.ts';
import type { Tensor } from '../backend/tensor.ts';
import { alone, type Group } from '../distributed/group.ts';
import type { Parameter } from '../nn/parameter.ts';

export interface AdamWOptions {
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Applies to parameters whose `decay` is set. */
  weightDecay: number;
  /** Largest norm of the whole gradient; a longer one is scaled down to it. Infinity: no clipping. */
  clipNorm: number;
  /**
   * Of trees: how far branches step, of the learning rate; 0, or absent: each neuron learns by itself. See {@link AdamW}; trees that
   * train from scratch are to start alike as well, by {@link startBranchesAlike}.
   */
  branchRate?: number;
}

/** crammedBERT's pretraining (arXiv 2212.14034). */
export const pretrainingAdamW: AdamWOptions = { beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0.01, clipNorm: 0.5 };

/** A parameter with its moments, shaped like its value; of a sharded optimizer those of this rank's rows (see {@link AdamW}). */
export interface OptimizedParameter {
  readonly parameter: Parameter;
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** Where it steps by branches: of each list of its branches, from the narrow ones to the wide. */
  readonly branches: readonly BranchState[];
}

/** What branches step by. */
interface BranchState {
  /** i32: the branch of each row or, after the first, of each narrower branch. */
  readonly of: Tensor;
  /** `[branches, width]`: moments of the sums of their gradients. */
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** `[branches, width]`: those sums, and the step. Of use within one step only, so parameters of one shape share them. */
  readonly gradient: Tensor;
  readonly change: Tensor;
}

/** Of a step by its own gradient, what a row takes that steps by branches as well: the fewer tokens it has seen, the noisier. */
const ownShare = 0.3;

/**
 * AdamW (arXiv 1711.05101) over the parameters that are not frozen. Gives each a gradient, zero at first; a model's backward adds
 * to it, `step` uses it up and zeroes it again. Everything is queued, nothing waits.
 *
 * Row-sparse gradients stay sparse: norm, update and clearing read the touched rows only (the moments of the others move all the same);
 * branches read all rows, of which the untouched are 0.
 *
 * With a `branchRate` a tree's neurons learn from each other: for every other level, the neurons of one place on the path that lie below
 * one node of that level take a step together, an AdamW step on the sum of their gradients, beside a small one of their own. A token
 * passes one neuron of each place, so what all branches step by is a dense layer of as many neurons as a token uses, and what narrower ones add is
 * learnt the later the fewer tokens they see. Without it, a leaf learns from its own tokens alone, one in thousands
 * (docs/decisions/27-steps-by-branches.md).
 * Steps add up: a neuron far below takes 0.3 of a step of its own and one of `branchRate` for each of these levels, six of them at
 * depth 12, five at 10 and 11, one at 2 and 3. So does one far above, which is a branch by itself: all of its steps are its own.
 *
 * Of a group of ranks, each keeps the moments of a share of each parameter's rows, steps these, and hands the values to the others. All have the
 * whole gradient, and branches' moments. That all rows move costs the whole table on the wire, of trees too.
 */
export class AdamW {
  readonly parameters: readonly OptimizedParameter[];
  /** What is stored with them but moved by others, routing thresholds: part of a run's state all the same. */
  readonly buffers: readonly Parameter[];
  /** Steps taken; the bias correction depends on it. */
  steps = 0;
  private readonly sums: Tensor;
  private readonly flags: ReadonlySet<Tensor>;
  /** Scratch that branches of one shape share. */
  private readonly scratch = new Map<string, Tensor>();
  /** All that was made here, gradients too. */
  private readonly made: Tensor[] = [];

  constructor(
    readonly device: Device,
    parameters: readonly Parameter[],
    readonly options: AdamWOptions = pretrainingAdamW,
    private readonly group: Group = alone,
  ) {
    checkArgument('device', device, kinds.device);
    checkArgument('parameters', parameters, kinds.list);
    checkArgument('options', options, kinds.object);
    this.buffers = parameters.filter(({ buffer }) => buffer);
    const trained = parameters.filter(({ frozen, buffer }) => !frozen && !buffer);
    try {
      this.parameters = trained.map((parameter) => {
        const { value, name } = parameter;
        parameter.gradient = this.keep(device.zeros(`${name}.gradient`, value.shape));
        const shape = group.size === 1 ? value.shape : this.shardOf(parameter).shape;
        return {
          parameter,
          mean: this.keep(device.zeros(`${name}.mean`, shape)),
          variance: this.keep(device.zeros(`${name}.variance`, shape)),
          branches: options.branchRate ? this.branchStates(parameter) : [],
        };
      });
      this.sums = this.keep(device.zeros('sums of squares', [trained.length]));
    } catch (error) {
      this.release(trained); // nobody else has what was made before the memory was full
      throw error;
    }
    this.flags = new Set(trained.flatMap(({ rowMask }) => rowMask ?? []));
    for (const flags of this.flags) device.fill({ output: flags, value: 0 });
  }

  private keep(tensor: Tensor): Tensor {
    this.made.push(tensor);
    return tensor;
  }

  private release(parameters: readonly Parameter[]): void {
    for (const tensor of this.made.splice(0)) tensor.dispose();
    for (const parameter of parameters) parameter.gradient = undefined;
  }

  /**
   * Clips the gradient by its norm, updates every parameter and zeroes the gradients.
   *
   * @param clip [2], overwritten: the factor applied to the gradient, and the gradient's norm before clipping
   */
  step(learningRate: number, clip: Tensor): void {
    const { device, sums, options } = this;
    this.steps++;
    this.parameters.forEach(({ parameter }, index) => {
      device.sumOfSquares({ input: gradientOf(parameter), rowMask: parameter.rowMask, output: sums.view([1], index) });
    });
    device.clipScale({ sums, maximum: options.clipNorm, output: clip });
    const gradientScale = clip.view([1]);
    const { beta1, beta2, epsilon } = options;
    const common = { gradientScale, beta1, beta2, epsilon, step: this.steps };
    for (const { parameter, mean, variance, branches } of this.parameters) {
      const { value } = parameter;
      const gradient = gradientOf(parameter);
      // The whole decay comes with a row's own step.
      const share = branches.length > 0 ? ownShare : 1;
      const own = { learningRate: share * learningRate, weightDecay: parameter.decay ? options.weightDecay / share : 0 };
      device.adamw({ ...this.own(parameter), mean, variance, ...own, ...common });
      this.stepBranches(value, gradient, branches, { learningRate: learningRate * (options.branchRate ?? 0), ...common });
    }
    if (this.group.size > 1) {
      this.group.startGather(this.parameters.map(({ parameter }) => ({ tensor: parameter.value, rows: rowsOf(parameter) })));
      this.group.awaitExchanges();
    }
    this.clearGradients();
  }

  /** This rank's rows of a parameter. */
  private shardOf(parameter: Parameter): { first: number; shape: [number, number] } {
    const rows = rowsOf(parameter);
    const { first, end } = this.group.share(rows);
    return { first, shape: [end - first, parameter.value.size / rows] };
  }

  /** What this rank steps of a parameter. */
  private own(optimized: Parameter): { parameter: Tensor; gradient: Tensor; rowMask?: Tensor } {
    const { value: parameter, rowMask } = optimized;
    const gradient = gradientOf(optimized);
    if (this.group.size === 1) return { parameter, gradient, rowMask };
    const { first, shape } = this.shardOf(optimized);
    const part = (tensor: Tensor) => tensor.view(shape, first * shape[1]);
    return { parameter: part(parameter), gradient: part(gradient), rowMask: rowMask?.view([shape[0]], first) };
  }

  /** Each rank has moments of its share only. */
  get isSharded(): boolean {
    return this.group.size > 1;
  }

  /** A moment of all of a parameter's rows; for all ranks to call, if it is sharded. */
  async moment({ parameter, ...moments }: OptimizedParameter, which: 'mean' | 'variance'): Promise<Float32Array> {
    const own = await this.device.read(moments[which]);
    if (this.group.size === 1) return own;
    const all = await this.group.gather(`${which} of ${parameter.name}`, own);
    const whole = new Float32Array(parameter.value.size);
    all.reduce((at, part) => {
      whole.set(part, at);
      return at + part.length;
    }, 0);
    return whole;
  }

  /** Takes this rank's rows of a moment of all. */
  setMoment({ parameter, ...moments }: OptimizedParameter, which: 'mean' | 'variance', values: Float32Array): void {
    const { first, shape } = this.group.size === 1 ? { first: 0, shape: [1, values.length] } : this.shardOf(parameter);
    this.device.write(moments[which], values.subarray(first * shape[1], (first + shape[0]) * shape[1]));
  }

  /**
   * After a step that failed, with an error of which the backend skipped what was queued behind: forgets what its passes have added to the
   * gradients. `steps`: taken before it.
   */
  discard(steps: number): void {
    const { device } = this;
    this.steps = steps;
    for (const { parameter } of this.parameters) device.fill({ output: gradientOf(parameter), value: 0 });
    for (const flags of this.flags) device.fill({ output: flags, value: 0 });
  }

  private stepBranches(
    value: Tensor,
    gradient: Tensor,
    branches: readonly BranchState[],
    how: { learningRate: number; gradientScale: Tensor; beta1: number; beta2: number; epsilon: number; step: number },
  ): void {
    const { device } = this;
    const asRows = (tensor: Tensor, { of }: BranchState) => tensor.view([of.size, tensor.size / of.size]);
    for (const [i, branch] of branches.entries()) {
      const { of, mean, variance, change } = branch;
      const members = asRows(i === 0 ? gradient : branches[i - 1].gradient, branch);
      device.fill({ output: branch.gradient, value: 0 });
      device.scatterAdd({ indices: of, input: members, table: branch.gradient });
      device.fill({ output: change, value: 0 });
      device.adamw({ parameter: change, gradient: branch.gradient, mean, variance, weightDecay: 0, ...how });
    }
    // Steps of wide branches join those of the narrow ones, and these the rows.
    for (const [i, branch] of [...branches.entries()].reverse()) {
      const members = asRows(i === 0 ? value : branches[i - 1].change, branch);
      device.gather({ table: branch.change, indices: branch.of, output: members, accumulate: true });
    }
  }

  private clearGradients(): void {
    const { device } = this;
    for (const { parameter } of this.parameters) {
      const gradient = gradientOf(parameter);
      if (parameter.rowMask) device.clearRows({ gradient, rowMask: parameter.rowMask });
      else device.fill({ output: gradient, value: 0 });
    }
    for (const flags of this.flags) device.fill({ output: flags, value: 0 });
  }

  private branchStates({ branches, value, name }: Parameter): BranchState[] {
    const { device, scratch } = this;
    const width = value.size / value.shape[0];
    let [rows] = value.shape;
    return (branches?.() ?? []).map((of, i) => {
      const count = of.reduce((most, branch) => Math.max(most, branch + 1), 0);
      const shape = [count, width];
      const zeros = (what: string) => this.keep(device.zeros(`${name}.branches ${i} ${what}`, shape));
      const shared = (what: string) => {
        const key = `${what} of branches ${i} [${shape}]`;
        const tensor = scratch.get(key) ?? this.keep(device.tensor(key, shape));
        scratch.set(key, tensor);
        return tensor;
      };
      const state = {
        of: this.keep(device.tensor(`${name}.branches ${i}`, [rows], 'i32', of)),
        mean: zeros('mean'),
        variance: zeros('variance'),
        gradient: shared('gradient'),
        change: shared('change'),
      };
      rows = count;
      return state;
    });
  }

  /** Frees the moments and the gradients; the parameters stay. */
  dispose(): void {
    this.release(this.parameters.map(({ parameter }) => parameter));
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Lets the neurons of a place start as the first of them, in trees that step by branches: what they have in common is not to be hidden by chance. */
export async function startBranchesAlike(parameter: Parameter): Promise<void> {
  checkArgument('parameter', parameter, kinds.object);
  const { value, branches } = parameter;
  if (!branches) return;
  const [narrowest, ...wider] = branches();
  const values = await value.device.read(value);
  const width = values.length / narrowest.length;
  const first = new Map<number, number>();
  for (const [row, branch] of narrowest.entries()) {
    const place = wider.reduce((narrow, wide) => wide[narrow], branch);
    const from = first.get(place) ?? row;
    first.set(place, from);
    values.copyWithin(row * width, from * width, (from + 1) * width);
  }
  value.device.write(value, values);
}

/** What ranks divide: rows that are flagged, or else elements. */
const rowsOf = ({ value, rowMask }: Parameter) => rowMask?.size ?? value.size;

function gradientOf(parameter: Parameter): Tensor {
  if (!parameter.gradient) throw new Error(`parameter '${parameter.name}' has lost its gradient`);
  return parameter.gradient;
}
