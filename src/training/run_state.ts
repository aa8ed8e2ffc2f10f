/** What a resumed run needs beside its options: run/state.safetensors in its folder, in the checkpoint's layout (see run_folder.ts). */
import * as v from 'valibot';
import { joinPath } from '#platform';
import type { Tensor } from '../backend/tensor.ts';
import { alone, type Group } from '../distributed/group.ts';
import { InputError } from '../errors.ts';
import { problemOf } from '../io/checked_json.ts';
import { kindOf } from '../io/files.ts';
import { extentOfResults, parseJsonText } from '../io/json.ts';
import { readSafetensors, type SafetensorsFile } from '../io/safetensors.ts';
import { type TensorToWrite, verifyChecksum, writeSafetensors } from '../io/safetensors_writer.ts';
import { countSchema, secondsSchema } from '../io/schemas.ts';
import type { Parameter } from '../nn/parameter.ts';
import { importParameter, packParameter, parameterTensors } from '../nn/parameter_arrays.ts';
import { leafUseSchema } from './leaf_use.ts';
import type { AdamW, OptimizedParameter } from './optimizer.ts';

const curvePointSchema = v.object({
  step: countSchema,
  tokens: countSchema,
  /** Mean over the steps since the point before, nats; absent where only the held-out loss was taken. */
  loss: v.optional(v.number()),
  heldOutLoss: v.optional(v.number()),
  /** How the held-out text's tokens spread over the leaves of each layer; none without trees. */
  layers: v.optional(v.array(leafUseSchema)),
});

/** One point of the loss curve. */
export type CurvePoint = v.InferOutput<typeof curvePointSchema>;

export const runProgressSchema = v.object({
  /** Optimizer steps taken. */
  step: countSchema,
  /** Tokens trained on. */
  tokens: countSchema,
  /** Seconds spent, over all sessions. */
  seconds: secondsSchema,
  history: v.array(curvePointSchema),
  /** Losses since the last point of the curve. */
  recentLosses: v.array(v.number()),
});

/** How far a run has come. */
export type RunProgress = v.InferOutput<typeof runProgressSchema>;

const stateFile = (folder: string) => joinPath(folder, 'run', 'state.safetensors');

/** What a run keeps beside weights and moments: values that JSON can hold, and lists of integers. */
export interface RunState {
  records: Record<string, unknown>;
  integers: Record<string, Int32Array>;
}

/** Saves weights, moments and what else the run needs to go on. For all ranks to call: the first writes, the others give their shares of moments. */
export async function saveState(folder: string, optimizer: AdamW, { records, integers }: RunState, group: Group = alone): Promise<void> {
  const tensors: TensorToWrite[] = optimizer.parameters.flatMap((parameter) => [
    ...stateTensors(optimizer, parameter),
    ...branchTensors(parameter),
  ]);
  if (!group.isFirst) {
    if (optimizer.isSharded)
      for (const optimized of optimizer.parameters) for (const part of moments) await optimizer.moment(optimized, part);
    await group.gather('the end of a save', undefined);
    return;
  }
  for (const buffer of optimizer.buffers) tensors.push(...stored('value', buffer));
  for (const [name, values] of Object.entries(integers)) tensors.push({ name, dtype: 'I32', shape: [values.length], values });
  const metadata = Object.entries(records).map(([name, value]) => [name, JSON.stringify(value)]);
  await writeSafetensors(stateFile(folder), tensors, Object.fromEntries(metadata), { checksum: true });
  await group.gather('the end of a save', undefined);
}

/** The three parts of a parameter's state, each in the checkpoint's layout, are its value and these. */
const moments = ['mean', 'variance'] as const;

function stateTensors(optimizer: AdamW, optimized: OptimizedParameter): TensorToWrite[] {
  const { parameter } = optimized;
  return [stored('value', parameter), ...moments.map((part) => stored(part, parameter, () => optimizer.moment(optimized, part)))].flat();
}

function stored(part: 'value' | (typeof moments)[number], parameter: Parameter, values?: () => Promise<Float32Array>): TensorToWrite[] {
  return parameterTensors(parameter, values).map((array) => ({ ...array, name: `${part}.${array.name}`, dtype: 'F32' as const }));
}

/** The moments of a parameter's branches, as they lie. */
function branchMoments({ parameter, branches }: OptimizedParameter): { name: string; tensor: Tensor }[] {
  return branches.flatMap((branch, i) =>
    (['mean', 'variance'] as const).map((part) => ({ name: `branches.${i}.${part}.${parameter.name}`, tensor: branch[part] })),
  );
}

function branchTensors(optimized: OptimizedParameter): TensorToWrite[] {
  return branchMoments(optimized).map(({ name, tensor }) => ({
    name,
    dtype: 'F32' as const,
    shape: tensor.shape,
    values: () => tensor.device.read(tensor),
  }));
}

/** Whether a folder has a state to resume from; a run that was stopped before its first save has none and starts again. */
export async function hasState(folder: string): Promise<boolean> {
  return (await kindOf(stateFile(folder))) === 'file';
}

/**
 * Puts weights and moments back and returns what was saved beside them, records by what they must look like; the optimizer's count of
 * steps is the caller's to set. For all ranks to call: the first reads, and the others get what it read.
 * @throws InputError if the state does not fit the model or is damaged
 */
export async function loadState<Records extends Record<string, v.GenericSchema>, Integers extends string = never>(
  folder: string,
  optimizer: AdamW,
  wanted: { records: Records; integers?: { names: readonly Integers[]; below: number } },
  group: Group = alone,
): Promise<{ records: { [Name in keyof Records]: v.InferOutput<Records[Name]> }; integers: Record<Integers, Int32Array> }> {
  const file = await openState(folder, group);
  /** What the first rank's `read` gives. */
  const shared = <Value>(what: string, read: (state: SafetensorsFile) => Promise<Value> | Value) =>
    group.fromFirst(what, () => read(file as SafetensorsFile));
  const readTensor = (name: string, shape: readonly number[]) =>
    shared(name, async (state) => {
      const stored = state.info(name).shape;
      if (`${stored}` !== `${shape}`)
        throw new InputError(`${state.source}: tensor '${name}' is [${stored}], expected [${shape}] for the run's configuration`);
      const values = await state.read(name);
      const at = values.findIndex((value) => !Number.isFinite(value));
      if (at >= 0)
        throw new InputError(`${state.source}: tensor '${name}' holds ${values[at]} at element ${at}, expected finite numbers; ${anew}`);
      return values;
    });
  const readArrays = async (part: string, { layout }: Parameter) => {
    const arrays = [];
    for (const { name, shape } of layout.tensors) arrays.push({ name, shape, values: await readTensor(`${part}.${name}`, shape) });
    return arrays;
  };
  try {
    for (const optimized of optimizer.parameters) {
      const { parameter } = optimized;
      importParameter(parameter, await readArrays('value', parameter));
      for (const part of moments) optimizer.setMoment(optimized, part, packParameter(parameter, await readArrays(part, parameter)));
      for (const { name, tensor } of branchMoments(optimized)) tensor.device.write(tensor, await readTensor(name, tensor.shape));
    }
    // A state from before there were thresholds has none.
    const hasBuffers = await shared('buffers', (state) =>
      optimizer.buffers.some(({ layout }) => layout.tensors.some(({ name }) => state.has(`value.${name}`))),
    );
    if (hasBuffers) for (const buffer of optimizer.buffers) importParameter(buffer, await readArrays('value', buffer));
    const records: [string, unknown][] = [];
    for (const [name, schema] of Object.entries(wanted.records))
      records.push([name, await shared(name, (state) => parseRecord(name, schema, state))]);
    const integers: [string, Int32Array][] = [];
    const { names = [], below = 0 } = wanted.integers ?? {};
    for (const name of names) integers.push([name, await shared(name, (state) => readIntegers(state, name, below))]);
    return {
      records: Object.fromEntries(records) as { [Name in keyof Records]: v.InferOutput<Records[Name]> },
      integers: Object.fromEntries(integers) as Record<Integers, Int32Array>,
    };
  } finally {
    await file?.close();
  }
}

/** The first rank's file; undefined on the others. */
async function openState(folder: string, { isFirst }: Group): Promise<SafetensorsFile | undefined> {
  if (!isFirst) return undefined;
  if ((await verifyChecksum(stateFile(folder))) === false)
    throw new InputError(`${stateFile(folder)}: is not as it was written: its checksum is another; ${anew}`);
  return await readSafetensors(stateFile(folder));
}

async function readIntegers(state: SafetensorsFile, name: string, below: number): Promise<Int32Array> {
  const values = await state.readIntegers(name);
  const at = values.findIndex((value) => value < 0 || value >= below);
  if (at >= 0)
    throw new InputError(`${state.source}: tensor '${name}' holds ${values[at]} at element ${at}, expected 0 to ${below - 1}; ${anew}`);
  return values;
}

/** What to do about a state that is damaged. */
const anew = 'put back a copy, or start the run again in another folder';

function parseRecord(name: string, schema: v.GenericSchema, { metadata, source }: Pick<SafetensorsFile, 'metadata' | 'source'>): unknown {
  const text = metadata[name];
  if (text === undefined) throw new InputError(`${source}: has no record '${name}'; it is not a state that this program wrote`);
  let value: unknown;
  try {
    value = parseJsonText(text, source, extentOfResults);
  } catch {}
  const { output, issues } = v.safeParse(schema, value);
  if (issues) throw new InputError(`${source}: the record '${name}' is damaged: ${problemOf(issues[0])}; ${anew}`);
  return output;
}
