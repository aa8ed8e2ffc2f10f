/** How the gradients of a step's passes add up, in one process and over ranks. */
import type { Device } from '../backend/device.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { ExchangePart, Group } from '../distributed/group.ts';
import type { Parameter } from '../nn/parameter.ts';

/** Gradients of so many bytes, about, are exchanged together: fewer, and their number would cost; more, and all would come at the end. */
const bucketBytes = 2 ** 22;
/** Of a table, the share of rows that a step touches, about, for the size of a bucket. */
const touchedShare = 1 / 8;

/** Sums of passes that wait for as many others: a set of gradients, flags of rows, and whether they are in use. */
interface Held {
  gradients: Map<Parameter, Tensor>;
  masks: Map<Tensor, Tensor>;
  inUse: boolean;
}

/**
 * Adds up the gradients of a step's passes in the order of a tree: of passes 0 to 3 it is (0 + 1) + (2 + 3). Where each of several ranks takes
 * two of them, these pairs are what it has, and the exchange adds them up (kernels/runtime/exchange.h): the order, and with it every bit, is
 * the same however many ranks there are, as long as each takes the same power of two of passes (docs/decisions/47-mpi.md).
 *
 * As many more gradients are held as the number of passes has binary digits, less one.
 */
export class GradientSums {
  private readonly held: Held[] = [];
  private readonly own: Tensor[] = [];
  private readonly buckets: Parameter[][];
  /** Of the step at hand: gradients that no pass adds to any more, and buckets that are on their way. */
  private readonly complete = new Set<Parameter>();
  private started = 0;

  /** `parameters`: those that have gradients. */
  constructor(
    private readonly device: Device,
    private readonly parameters: readonly Parameter[],
    private readonly group: Group,
    private readonly options: { bf16?: boolean } = {},
  ) {
    this.buckets = bucketsOf(parameters);
  }

  /** For the last pass of a step: told of parameters whose gradients that pass has added to for the last time, which may then travel. */
  readonly onGradients = (parameters: readonly Parameter[]): void => {
    for (const parameter of parameters) {
      if (!parameter.gradient || this.complete.has(parameter)) continue;
      this.addHeld(parameter);
      this.complete.add(parameter);
    }
    this.startComplete();
  };

  /** After a pass that is not the last: its gradients are kept, and those of the next one start at 0. */
  hold(): void {
    let level = 0;
    for (; this.held[level]?.inUse; level++) {
      for (const parameter of this.parameters) this.addLevel(parameter, this.held[level]);
      this.free(this.held[level]);
    }
    const held = this.held[level] ?? this.add();
    for (const parameter of this.parameters) {
      const spare = held.gradients.get(parameter) as Tensor;
      held.gradients.set(parameter, parameter.gradient as Tensor);
      parameter.gradient = spare;
    }
    for (const [mask, copy] of held.masks) {
      this.device.copy({ input: mask, output: copy });
      this.device.fill({ output: mask, value: 0 });
    }
    held.inUse = true;
  }

  /** After the last pass: all gradients, and `exact` and `counts` with them, become the sums over all passes of all ranks. */
  finish(exact: readonly Tensor[], counts: readonly Tensor[]): void {
    this.onGradients(this.parameters);
    for (const held of this.held) this.free(held);
    const part = (kind: 'exact' | 'count') => (tensor: Tensor) => ({ kind, tensor, rows: 1 });
    this.group.startSum([...exact.map(part('exact')), ...counts.map(part('count'))]);
    this.group.awaitExchanges();
    this.complete.clear();
    this.started = 0;
  }

  /** After a failure: what passes have added is forgotten, but for the parameters' own gradients. */
  discard(): void {
    for (const held of this.held) {
      for (const gradient of held.gradients.values()) this.device.fill({ output: gradient, value: 0 });
      for (const mask of held.masks.values()) this.device.fill({ output: mask, value: 0 });
      held.inUse = false;
    }
    this.complete.clear();
    this.started = 0;
  }

  dispose(): void {
    for (const tensor of this.own) tensor.dispose();
  }

  private add(): Held {
    const { device, parameters } = this;
    const keep = (tensor: Tensor) => {
      this.own.push(tensor);
      return tensor;
    };
    const masks = new Set(parameters.flatMap(({ rowMask }) => rowMask ?? []));
    const held = {
      gradients: new Map(parameters.map((parameter) => [parameter, keep(device.zeros(`${parameter.name}.held`, parameter.value.shape))])),
      masks: new Map([...masks].map((mask) => [mask, keep(device.zeros(`${mask.name}.held`, mask.shape, 'i32'))])),
      inUse: false,
    };
    this.held.push(held);
    return held;
  }

  /** The narrow sums first, as the tree has them. */
  private addHeld(parameter: Parameter): void {
    for (const held of this.held) if (held.inUse) this.addLevel(parameter, held);
  }

  /** What is held is 0 then. */
  private addLevel(parameter: Parameter, { gradients, masks }: Held): void {
    const { device } = this;
    const { gradient, rowMask } = parameter as { gradient: Tensor; rowMask?: Tensor };
    const input = gradients.get(parameter) as Tensor;
    if (rowMask) {
      const inputMask = masks.get(rowMask) as Tensor;
      device.addRows({ input, inputMask, output: gradient, rowMask });
      device.clearRows({ gradient: input, rowMask: inputMask });
    } else {
      device.add({ a: gradient, b: input, output: gradient });
      device.fill({ output: input, value: 0 });
    }
  }

  private free(held: Held): void {
    if (!held.inUse) return;
    for (const mask of held.masks.values()) this.device.fill({ output: mask, value: 0 });
    held.inUse = false;
  }

  /** In one order on all ranks, whatever they are told of first. */
  private startComplete(): void {
    for (; this.started < this.buckets.length; this.started++) {
      const bucket = this.buckets[this.started];
      if (!bucket.every((parameter) => this.complete.has(parameter))) return;
      this.group.startSum(bucket.map(partOf), this.options);
    }
  }
}

function partOf({ gradient, rowMask: flags }: Parameter): ExchangePart {
  const tensor = gradient as Tensor;
  return flags ? { kind: 'table', tensor, rows: flags.size, flags } : { kind: 'gradient', tensor, rows: 1 };
}

/** From the last parameter to the first, as a backward pass comes to them. */
function bucketsOf(parameters: readonly Parameter[]): Parameter[][] {
  const buckets: Parameter[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  let last: Parameter | undefined;
  for (const parameter of [...parameters].reverse()) {
    // Rows whose flags are shared travel together: the sum sets the flags.
    const isShared = parameter.rowMask !== undefined && parameter.rowMask === last?.rowMask;
    last = parameter;
    if (bytes >= bucketBytes && !isShared) {
      buckets.push([]);
      bytes = 0;
    }
    buckets[buckets.length - 1].push(parameter);
    bytes += 4 * parameter.value.size * (parameter.rowMask ? touchedShare : 1);
  }
  return buckets;
}
