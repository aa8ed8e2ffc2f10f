/** What a resumed run needs beside its options: run/state.safetensors in its folder, in the checkpoint's layout (see run_folder.ts). */
import * as v from 'valibot';
import { joinPath } from '#platform';
import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import { problemOf } from '../io/checked_json.ts';
import { kindOf } from '../io/files.ts';
import { extentOfResults, parseJsonText } from '../io/json.ts';
import { readSafetensors, type SafetensorsFile } from '../io/safetensors.ts';
import { type TensorToWrite, verifyChecksum, writeSafetensors } from '../io/safetensors_writer.ts';
import { countSchema, secondsSchema } from '../io/schemas.ts';
import type { Parameter } from '../nn/parameter.ts';
import { importParameter, parameterTensors } from '../nn/parameter_arrays.ts';
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

/** Saves weights, moments and what else the run needs to go on. */
export async function saveState(folder: string, optimizer: AdamW, { records, integers }: RunState): Promise<void> {
  const tensors: TensorToWrite[] = optimizer.parameters.flatMap((parameter) => [...stateTensors(parameter), ...branchTensors(parameter)]);
  for (const buffer of optimizer.buffers) tensors.push(...stored('value', buffer));
  for (const [name, values] of Object.entries(integers)) tensors.push({ name, dtype: 'I32', shape: [values.length], values });
  const metadata = Object.entries(records).map(([name, value]) => [name, JSON.stringify(value)]);
  await writeSafetensors(stateFile(folder), tensors, Object.fromEntries(metadata), { checksum: true });
}

/** The three parts of a parameter's state, each in the checkpoint's layout. */
const parts = ['value', 'mean', 'variance'] as const;
const partOf = (optimized: OptimizedParameter, part: (typeof parts)[number]) =>
  part === 'value' ? optimized.parameter.value : optimized[part];

function stateTensors(optimized: OptimizedParameter): TensorToWrite[] {
  return parts.flatMap((part) => stored(part, optimized.parameter, partOf(optimized, part)));
}

function stored(part: (typeof parts)[number], parameter: Parameter, tensor?: Tensor): TensorToWrite[] {
  return parameterTensors(parameter, tensor).map((array) => ({ ...array, name: `${part}.${array.name}`, dtype: 'F32' as const }));
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
 * steps is the caller's to set.
 * @throws InputError if the state does not fit the model or is damaged
 */
export async function loadState<Records extends Record<string, v.GenericSchema>, Integers extends string = never>(
  folder: string,
  optimizer: AdamW,
  wanted: { records: Records; integers?: { names: readonly Integers[]; below: number } },
): Promise<{ records: { [Name in keyof Records]: v.InferOutput<Records[Name]> }; integers: Record<Integers, Int32Array> }> {
  if ((await verifyChecksum(stateFile(folder))) === false)
    throw new InputError(`${stateFile(folder)}: is not as it was written: its checksum is another; ${anew}`);
  const file = await readSafetensors(stateFile(folder));
  const read = async (name: string, shape: readonly number[]) => {
    const stored = file.info(name).shape;
    if (`${stored}` !== `${shape}`)
      throw new InputError(`${file.source}: tensor '${name}' is [${stored}], expected [${shape}] for the run's configuration`);
    return finite(name, await file.read(name));
  };
  const finite = (name: string, values: Float32Array) => {
    const at = values.findIndex((value) => !Number.isFinite(value));
    if (at >= 0)
      throw new InputError(`${file.source}: tensor '${name}' holds ${values[at]} at element ${at}, expected finite numbers; ${anew}`);
    return values;
  };
  try {
    for (const optimized of optimizer.parameters) {
      for (const part of parts) {
        const arrays = [];
        for (const { name, shape } of optimized.parameter.layout.tensors)
          arrays.push({ name, shape, values: await read(`${part}.${name}`, shape) });
        importParameter(optimized.parameter, arrays, partOf(optimized, part));
      }
      for (const { name, tensor } of branchMoments(optimized)) tensor.device.write(tensor, await read(name, tensor.shape));
    }
    const buffers = optimizer.buffers.flatMap((buffer) => buffer.layout.tensors.map((tensor) => ({ buffer, ...tensor })));
    // A state from before there were thresholds has none.
    const kept = buffers.some(({ name }) => file.has(`value.${name}`)) ? buffers : [];
    for (const { buffer, name, shape } of kept) importParameter(buffer, [{ name, shape, values: await read(`value.${name}`, shape) }]);
    const records = Object.entries(wanted.records).map(([name, schema]) => [name, parseRecord(name, schema, file)]);
    const integers: [string, Int32Array][] = [];
    const { names = [], below = 0 } = wanted.integers ?? {};
    for (const name of names) {
      const values = await file.readIntegers(name);
      const at = values.findIndex((value) => value < 0 || value >= below);
      if (at >= 0)
        throw new InputError(`${file.source}: tensor '${name}' holds ${values[at]} at element ${at}, expected 0 to ${below - 1}; ${anew}`);
      integers.push([name, values]);
    }
    return { records: Object.fromEntries(records), integers: Object.fromEntries(integers) as Record<Integers, Int32Array> };
  } finally {
    await file.close();
  }
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
