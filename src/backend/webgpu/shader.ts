/** A shader's text, and what is bound to it, from an operation's definition, a kernel's stage and the operands of a call. */
import type { AnyOperation } from '../operations/operation.ts';
import type { Storage, Tensor } from '../tensor.ts';
import type { Kernel, Numbers, Stage, Variant } from './kernel.ts';
import { preludeOf } from './prelude.ts';

/** Bindings before those of operands: numbers, and the record of a late error. */
export const firstSlot = 2;

export interface Slot {
  readonly storage: Storage;
  readonly type: 'f32' | 'i32' | 'u32';
  readonly written: boolean;
}

/** What a stage binds for a call. Operands in one block of memory share a slot: WebGPU takes no block twice if one of them is written. */
export interface Layout {
  readonly slots: readonly Slot[];
  /** Of each operand of the definition its slot; undefined where it is absent, null where the stage has no use for it. */
  readonly places: readonly (number | undefined | null)[];
  readonly scratch: number | undefined;
  /** Calls with the same one share their shader's text. */
  readonly key: string;
}

export function layOut(
  { plan }: AnyOperation,
  stage: Stage,
  tensors: readonly (Tensor | undefined)[],
  scratch: Storage | undefined,
): Layout {
  const slots: { storage: Storage; type: Slot['type']; written: boolean }[] = [];
  const places = plan.operands.map(({ name, role, dtype }, i) => {
    const tensor = tensors[i];
    if (stage.operands && !stage.operands.includes(name)) return null;
    if (!tensor) return undefined;
    const type = dtype === 'f32' || dtype === 'i32' ? dtype : dtype === 'word' ? (tensor.dtype as 'f32' | 'i32') : 'u32';
    let slot = slots.findIndex(({ storage }) => storage === tensor.storage);
    if (slot < 0) slot = slots.push({ storage: tensor.storage, type, written: false }) - 1;
    const found = slots[slot];
    if (found.type !== type) found.type = 'u32';
    found.written ||= role !== 'input';
    return slot;
  });
  const scratchSlot = scratch ? slots.push({ storage: scratch, type: 'u32', written: true }) - 1 : undefined;
  const types = slots.map(({ type, written }) => `${type}${written ? '!' : ''}`);
  return {
    slots,
    places,
    scratch: scratchSlot,
    key: `${types.join(' ')} ${places.map((place) => place ?? (place === null ? '_' : '-')).join(' ')}`,
  };
}

const wordType = { f32: 'f32', i32: 'i32', word: 'u32', i8: 'u32', bf16: 'u32' } as const;

/** The whole text of a stage's shader. `numbers` are all the kernel's, of which it may only take those that are constants. */
export function shaderOf(
  operation: AnyOperation,
  kernel: Kernel,
  stage: Stage,
  numbers: Numbers,
  layout: Layout,
  variant: Variant,
): string {
  const { threads = 64, reports } = stage;
  const code = stage.code(numbers, variant);
  const pieces = preludeOf(stage.uses ?? [], threads, variant);
  const subgroups = /\bsubgroup(Add|Max)\b/.test(pieces + code);
  const fields = fieldsOf(operation, kernel, numbers).map((name) => `${name}: ${kernel.types?.[name] ?? 'u32'}`);
  const skip = {
    none: 'if (failure[0] != 0u) { return; }',
    each: 'let told = atomicLoad(&failure[0]); if (told != 0u && told != p.call) { return; }',
    first: '',
  }[reports ?? 'none'];
  return `${subgroups ? 'enable subgroups;\ndiagnostic(off, subgroup_uniformity);\n' : ''}
struct Numbers { ${fields.join(', ')} }
@group(0) @binding(0) var<uniform> p: Numbers;
@group(0) @binding(1) var<storage, ${reports ? 'read_write> failure: array<atomic<u32>' : 'read> failure: array<u32'}>;
${layout.slots.map(({ type, written }, i) => `@group(0) @binding(${i + firstSlot}) var<storage, ${written ? 'read_write' : 'read'}> slot${i}: array<${type}>;`).join('\n')}
${operation.plan.operands.map((operand, i) => accessors(operand, layout.places[i], layout)).join('\n')}
${layout.scratch === undefined ? '' : scratchAccessors(layout.scratch)}
${reports ? reporting : ''}
${subgroups ? 'var<private> subgroup_lane: u32;' : ''}
${pieces}
${code}
@compute @workgroup_size(${threads}) fn main(
  @builtin(workgroup_id) workgroup: vec3u, @builtin(num_workgroups) workgroups: vec3u, @builtin(local_invocation_index) lane: u32
  ${subgroups ? ', @builtin(subgroup_invocation_id) subgroup_invocation: u32' : ''}
) {
  let group = workgroup.x + workgroup.y * workgroups.x;
  if (group >= p.groups) { return; }
  ${stage.always ? '' : skip}
  ${subgroups ? 'subgroup_lane = subgroup_invocation;' : ''}
  run(group, lane);
}`;
}

/** The numbers that a shader finds, in the order in which {@link writeNumbers} puts them. */
function fieldsOf(operation: AnyOperation, kernel: Kernel, numbers: Numbers): string[] {
  return ['call', 'groups', ...operation.plan.operands.map(({ name }) => `${name}_at`), ...varying(kernel, numbers)];
}

/** Those that are not compiled in. */
const varying = ({ constants }: Kernel, numbers: Numbers) => Object.keys(numbers).filter((name) => !constants?.includes(name));

/** Puts a call's numbers where the shader looks for them. */
export function writeNumbers(
  view: DataView,
  at: number,
  {
    kernel,
    numbers,
    tensors,
    call,
    groups,
  }: { kernel: Kernel; numbers: Numbers; tensors: readonly (Tensor | undefined)[]; call: number; groups: number },
): void {
  const put = (value: number) => {
    view.setUint32(at, value, true);
    at += 4;
  };
  put(call);
  put(groups);
  for (const tensor of tensors) put(tensor?.offset ?? 0);
  for (const name of varying(kernel, numbers)) {
    const value = numbers[name];
    const type = kernel.types?.[name];
    if (type === 'f32') view.setFloat32(at, value, true);
    else if (type === 'i32') view.setInt32(at, value, true);
    else view.setUint32(at, value, true);
    at += 4;
  }
}

type PlannedOperand = AnyOperation['plan']['operands'][number];

/** Functions that read and write an operand's elements; words of what has smaller ones, from a start that lies on a word. */
function accessors({ name, role, dtype, optional }: PlannedOperand, place: number | undefined | null, { slots }: Layout): string {
  if (place === null) return '';
  const type = wordType[dtype as keyof typeof wordType];
  const has = optional ? `const has_${name} = ${place !== undefined};\n` : '';
  if (place === undefined) {
    const set = role === 'input' ? '' : `fn set_${name}(i: u32, value: ${type}) {}`;
    return `${has}fn get_${name}(i: u32) -> ${type} { return ${type}(0); } ${set}`;
  }
  const stored = slots[place].type;
  const element = `slot${place}[${wordType[dtype as keyof typeof wordType] === 'u32' && dtype !== 'word' ? `(p.${name}_at >> 2u)` : `p.${name}_at`} + i]`;
  const cast = (to: string, from: string, value: string) => (to === from ? value : `bitcast<${to}>(${value})`);
  const set = role === 'input' ? '' : `fn set_${name}(i: u32, value: ${type}) { ${element} = ${cast(stored, type, 'value')}; }`;
  const byte = `fn get_${name}_byte(i: u32) -> u32 { let at = p.${name}_at + i; return (slot${place}[at >> 2u] >> (8u * (at & 3u))) & 0xffu; }`;
  return `${has}fn get_${name}(i: u32) -> ${type} { return ${cast(type, stored, element)}; } ${set} ${dtype === 'i8' && stored === 'u32' ? byte : ''}`;
}

const scratchAccessors = (slot: number) => `
fn get_scratch(i: u32) -> u32 { return slot${slot}[i]; }
fn set_scratch(i: u32, value: u32) { slot${slot}[i] = value; }`;

/** failure: the call that told first, the complement of the least position it told of, and two values. */
const reporting = `
fn report(position: u32) { atomicStore(&failure[0], p.call); atomicMax(&failure[1], ~position); }
fn report_values(position: u32, values: vec2i) {
  if (atomicLoad(&failure[0]) != 0u) { return; }
  report(position);
  atomicStore(&failure[2], bitcast<u32>(values.x));
  atomicStore(&failure[3], bitcast<u32>(values.y));
}`;
