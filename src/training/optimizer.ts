import type { Backend } from '../backend/backend.ts';
import type { Tensor } from '../backend/tensor.ts';
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
   * Rows of a group (see `Parameter.groups`) also take a step together, so many times as large as their own: an AdamW step on the sum of
   * their gradients. 0, or absent: each row learns by itself.
   */
  groupRate?: number;
}

/** crammedBERT's pretraining (arXiv 2212.14034). */
export const pretrainingAdamW: AdamWOptions = { beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0.01, clipNorm: 0.5 };

/** A parameter with its moments, shaped like its value. */
export interface OptimizedParameter {
  readonly parameter: Parameter;
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly group?: GroupState;
}

/** What the groups of a parameter's rows step by. */
export interface GroupState {
  /** i32 [rows]: the group of each. */
  readonly of: Tensor;
  /** [groups, width]: sums of gradients, their moments, and the step. */
  readonly gradient: Tensor;
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly change: Tensor;
}

/**
 * AdamW (arXiv 1711.05101) over the parameters that are not frozen. Gives each a gradient, zero at first; a model's backward adds
 * to it, `step` uses it up and zeroes it again. Everything is queued, nothing waits.
 *
 * Row-sparse gradients stay sparse: norm, update and clearing read the touched rows only (the moments of the others move all the same).
 */
export class AdamW {
  readonly parameters: readonly OptimizedParameter[];
  /** Steps taken; the bias correction depends on it. */
  steps = 0;
  private readonly sums: Tensor;
  private readonly flags: ReadonlySet<Tensor>;

  constructor(
    readonly backend: Backend,
    parameters: readonly Parameter[],
    readonly options: AdamWOptions = pretrainingAdamW,
  ) {
    this.parameters = parameters
      .filter((parameter) => !parameter.frozen)
      .map((parameter) => {
        const { value, name } = parameter;
        parameter.gradient = backend.zeros(`${name}.gradient`, value.shape);
        return {
          parameter,
          mean: backend.zeros(`${name}.mean`, value.shape),
          variance: backend.zeros(`${name}.variance`, value.shape),
          group: options.groupRate ? groupState(backend, parameter) : undefined,
        };
      });
    this.flags = new Set(this.parameters.flatMap(({ parameter }) => parameter.touched ?? []));
    for (const flags of this.flags) backend.fill({ output: flags, value: 0 });
    this.sums = backend.zeros('sums of squares', [this.parameters.length]);
  }

  /**
   * Clips the gradient by its norm, updates every parameter and zeroes the gradients.
   *
   * @param clip [2], overwritten: the factor applied to the gradient, and the gradient's norm before clipping
   */
  step(learningRate: number, clip: Tensor): void {
    const { backend, sums, options } = this;
    this.steps++;
    this.parameters.forEach(({ parameter }, index) => {
      backend.sumOfSquares({ input: gradientOf(parameter), touched: parameter.touched, output: sums.view([1], index) });
    });
    backend.clipScale({ sums, maximum: options.clipNorm, output: clip });
    const gradientScale = clip.view([1]);
    const { beta1, beta2, epsilon } = options;
    const common = { gradientScale, beta1, beta2, epsilon, step: this.steps };
    for (const { parameter, mean, variance, group } of this.parameters) {
      const { value, touched } = parameter;
      const gradient = gradientOf(parameter);
      const weightDecay = parameter.decay ? options.weightDecay : 0;
      backend.adamw({ parameter: value, gradient, mean, variance, touched, learningRate, weightDecay, ...common });
      if (group) this.stepTogether(value, gradient, group, { learningRate: learningRate * (options.groupRate as number), ...common });
    }
    this.clearGradients();
  }

  private stepTogether(
    value: Tensor,
    gradient: Tensor,
    group: GroupState,
    how: Omit<Parameters<Backend['adamw']>[0], keyof GroupState | 'parameter' | 'weightDecay'>,
  ) {
    const { backend } = this;
    const rows = [group.of.size, value.size / group.of.size];
    const { change, mean, variance } = group;
    backend.fill({ output: group.gradient, value: 0 });
    backend.embeddingBackward({ indices: group.of, gradOutput: gradient.view(rows), gradTable: group.gradient });
    backend.fill({ output: change, value: 0 });
    backend.adamw({ parameter: change, gradient: group.gradient, mean, variance, weightDecay: 0, ...how });
    backend.embedding({ table: change, indices: group.of, output: value.view(rows), accumulate: true });
  }

  private clearGradients(): void {
    const { backend } = this;
    for (const { parameter } of this.parameters) {
      const gradient = gradientOf(parameter);
      if (parameter.touched) backend.clearRows({ gradient, touched: parameter.touched });
      else backend.fill({ output: gradient, value: 0 });
    }
    for (const flags of this.flags) backend.fill({ output: flags, value: 0 });
  }

  /** Frees the moments and the gradients; the parameters stay. */
  dispose(): void {
    this.sums.dispose();
    for (const { parameter, mean, variance, group } of this.parameters) {
      for (const tensor of [mean, variance, ...Object.values(group ?? {})]) tensor.dispose();
      parameter.gradient?.dispose();
      parameter.gradient = undefined;
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Lets the rows of each group start as its first one does. */
export async function startGroupsAlike({ value, groups }: Parameter): Promise<void> {
  if (!groups) return;
  const values = await value.backend.read(value);
  const width = values.length / groups.length;
  const first = new Map<number, number>();
  for (const [row, group] of groups.entries()) {
    const from = first.get(group) ?? row;
    first.set(group, from);
    values.copyWithin(row * width, from * width, (from + 1) * width);
  }
  value.backend.write(value, values);
}

function groupState(backend: Backend, { groups, value, name }: Parameter): GroupState | undefined {
  if (!groups) return undefined;
  const shape = [groups.reduce((count, group) => Math.max(count, group + 1), 0), value.size / groups.length];
  const zeros = (what: string) => backend.zeros(`${name}.group ${what}`, shape);
  return {
    of: backend.tensor(`${name}.groups`, [groups.length], 'i32', groups),
    gradient: zeros('gradient'),
    mean: zeros('mean'),
    variance: zeros('variance'),
    change: zeros('change'),
  };
}

function gradientOf(parameter: Parameter): Tensor {
  if (!parameter.gradient) throw new Error(`parameter '${parameter.name}' has lost its gradient`);
  return parameter.gradient;
}
