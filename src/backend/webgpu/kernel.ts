/**
 * How the GPU computes an operation: shaders in WGSL, run one after another. What is bound, and in which way, follows from the operation's
 * definition (shader.ts); a kernel adds only what the definition does not say.
 */
import type { operations } from '../operations/operations.ts';

export type OperationName = keyof typeof operations;

/** An operation's numbers by name, and those that {@link Kernel.derive} adds. */
export type Numbers = Readonly<Record<string, number>>;

/** What a shader is written for, beside its operands. */
export interface Variant {
  /** Whether threads of a subgroup, of 4 to 128, may add up their values without workgroup memory. */
  readonly subgroups: boolean;
  /** Whether WGSL has products of four 8-bit integers at once. */
  readonly packedProducts: boolean;
  /** Bytes that a workgroup's threads share. */
  readonly workgroupStorage: number;
}

export interface Stage {
  /** Unique within the kernel. */
  readonly name: string;
  /** The operands that are bound; all by default. */
  readonly operands?: readonly string[];
  /** It runs only if one of these is given. */
  readonly onlyWith?: readonly string[];
  /** Threads of a workgroup: 64 by default. */
  readonly threads?: number;
  /** How many workgroups run. */
  readonly groups: (numbers: Numbers) => number;
  /**
   * WGSL that defines `fn run(group: u32, lane: u32)`, which each thread of each workgroup calls. There are: numbers as `p.name`; for each
   * operand `get_name(i)`, unless it is an input `set_name(i, value)`, and `has_name` if it is optional (an absent one gives 0);
   * `get_scratch(i)` and `set_scratch(i, word)` if the kernel has some; and what prelude.ts has. Of `numbers` it may take the constants.
   */
  readonly code: (numbers: Numbers, variant: Variant) => string;
  /** Parts of the prelude that it uses. */
  readonly uses?: readonly string[];
  /**
   * It may tell of a late error by `report(position)`. 'each': every thread for itself, of which the least position counts. 'first': it
   * runs to its end whatever was told before.
   */
  readonly reports?: 'each' | 'first';
  /** It runs whatever was told before: of values that are written. */
  readonly always?: boolean;
}

export interface Kernel {
  /** Numbers that are not u32. */
  readonly types?: Readonly<Record<string, 'f32' | 'i32'>>;
  /** Numbers that are compiled into the shader: there is one for each of their values in use. */
  readonly constants?: readonly string[];
  /** Further numbers that follow from the operation's, better computed once and in double precision. */
  readonly derive?: (numbers: Numbers) => Numbers;
  /** Bytes that stages hand to the next. */
  readonly scratch?: (numbers: Numbers) => number;
  readonly stages: (numbers: Numbers) => readonly Stage[];
  /** A late error in words: of the least position reported, with the values that were stored beside it. */
  readonly error?: (numbers: Numbers, position: number, value: number, second: number) => string;
}

export const ceilDivide = (count: number, by: number) => Math.ceil(count / by);

/** What runs for each element by itself: `code` defines `fn element(i: u32)`. */
export function elementStage(count: (numbers: Numbers) => number, code: Stage['code'] | string, more: Partial<Stage> = {}): Stage {
  return {
    name: 'elements',
    threads: 64,
    groups: (numbers) => ceilDivide(count(numbers), 64),
    ...more,
    code: (numbers, variant) => `
      ${typeof code === 'string' ? code : code(numbers, variant)}
      fn run(group: u32, lane: u32) {
        let i = group * 64u + lane;
        if (i < p.elements) { element(i); }
      }`,
  };
}

/** A kernel of one stage of {@link elementStage}. */
export function elementKernel(
  count: (numbers: Numbers) => number,
  code: string,
  { uses, ...more }: Partial<Kernel> & Pick<Stage, 'uses'> = {},
): Kernel {
  const stages = [elementStage(count, code, { uses })];
  return { ...more, derive: (numbers) => ({ ...more.derive?.(numbers), elements: count(numbers) }), stages: () => stages };
}

/**
 * Looks for the first of some places that `bad(i)` holds of, and reports it with `culprit(i)`, a number or two, which `code` defines; one
 * workgroup does, so that its answer does not depend on timing. Numbers have `checks`, how many places there are.
 */
export function checkStage(code: string, operands: readonly string[], more: Partial<Stage> = {}): Stage {
  return {
    name: 'check',
    operands,
    threads: 256,
    groups: ({ checks }) => Math.min(checks, 1),
    reports: 'first',
    ...more,
    code: () => `
      ${code}
      var<workgroup> first: atomic<u32>;
      fn run(group: u32, lane: u32) {
        for (var i = lane; i < p.checks; i += 256u) {
          if (bad(i)) { atomicMax(&first, ~i); }
        }
        workgroupBarrier();
        let found = atomicLoad(&first);
        if (lane == 0u && found != 0u) { report_values(~found, vec2i(culprit(~found))); }
      }`,
  };
}
