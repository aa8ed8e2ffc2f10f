/**
 * A training run's folder:
 *
 *     config.json, model.safetensors, tokenizer.json    the model, for others to read: as last saved (pretrain, convert), of the best epoch (finetune)
 *     loss.svg                                          the loss curve (pretrain)
 *     run/options.json                                  what the run was started with, and by which command
 *     run/state.safetensors                             all that a resumed run needs, in the checkpoint's layout
 *
 * `ufb glue` keeps results.json and predictions in place of a model, and such a state for the task and seed at hand in run/TASK-SEED.
 *
 * Every file is written aside and renamed, so that a crash loses at most what came after the last save and never half a file.
 */
import * as v from 'valibot';
import { joinPath, listFolder, makeFolder, removeFile } from '#platform';
import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import { fileError, kindOf, readJson, writeFileAtomic } from '../io/files.ts';
import { parseJsonText } from '../io/json.ts';
import { readSafetensors, type SafetensorsFile, type TensorToWrite, writeSafetensors } from '../io/safetensors.ts';
import { countSchema, secondsSchema } from '../io/schemas.ts';
import { importParameter, parameterTensors } from '../models/checkpoint.ts';
import type { Parameter } from '../nn/parameter.ts';
import type { AdamW, OptimizedParameter } from './optimizer.ts';
import { leafUseSchema } from './paths.ts';

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
  /** Optimiser steps taken. */
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

/** Runs that are older than `command` lack it. */
const optionsSchema = v.looseObject({ command: v.optional(v.string()) });

const optionsFile = (folder: string) => joinPath(folder, 'run', 'options.json');
export const tokenizerFile = (folder: string) => joinPath(folder, 'tokenizer.json');
const stateFile = (folder: string) => joinPath(folder, 'run', 'state.safetensors');

/** The command whose run it is. */
export type RunKind = 'pretrain' | 'convert' | 'finetune' | 'glue';

/** A new run's folder, made but empty until `record`. */
export interface NewRun {
  /** Notes the options: from now on the folder holds a run. */
  record(options: object): Promise<void>;
  /** Takes away the folders that were made. Does nothing after `record`. */
  discard(): Promise<void>;
}

/** Makes the folder of a new run. @throws InputError if the folder holds anything already or cannot be written */
export async function createRun(folder: string, kind: RunKind): Promise<NewRun> {
  let made: string | undefined;
  try {
    if ((await kindOf(optionsFile(folder))) === 'file')
      throw new InputError(`${folder}: holds a run already; add --resume to go on with it, or name another folder`);
    // An empty 'run' is what a crash before the first record leaves.
    const filesIn = async (path: string) => ((await kindOf(path)) === 'folder' ? await listFolder(path) : []);
    if ((await filesIn(folder)).some((name) => name !== 'run') || (await filesIn(joinPath(folder, 'run'))).length > 0)
      throw new InputError(`${folder}: is not empty and holds no run; name a new folder`);
    made = await makeFolder(joinPath(folder, 'run'));
  } catch (error) {
    throw fileError(error, folder, 'write');
  }
  return {
    async record(options) {
      await recordOptions(folder, kind, options);
      made = undefined;
    },
    async discard() {
      if (made) await removeFile(made);
    },
  };
}

/** Notes the options of a folder's run in place of those it has. */
export function recordOptions(folder: string, kind: RunKind, options: object): Promise<void> {
  return writeFileAtomic(optionsFile(folder), `${JSON.stringify({ command: kind, ...options }, undefined, 2)}\n`);
}

/** The options that the run in a folder was started with. @throws InputError if there is no run, or one of another command */
export async function readRunOptions(folder: string, kind: RunKind): Promise<object> {
  if ((await kindOf(optionsFile(folder))) !== 'file')
    throw new InputError(`${folder}: holds no run to resume (no run/options.json); leave out --resume to start one`);
  const { output, issues } = v.safeParse(optionsSchema, await readJson(optionsFile(folder)));
  if (issues) throw new InputError(`${optionsFile(folder)}: ${issues[0].message}; expected what 'ufb ${kind}' writes`);
  const { command = kind, ...options } = output;
  if (command !== kind) throw new InputError(`${folder}: holds a run of 'ufb ${command}', expected one of 'ufb ${kind}'`);
  return options;
}

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
  await writeSafetensors(stateFile(folder), tensors, Object.fromEntries(metadata));
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
    values: () => tensor.backend.read(tensor),
  }));
}

/** Whether a folder has a state to resume from; a run that was stopped before its first save has none and starts again. */
export async function hasState(folder: string): Promise<boolean> {
  return (await kindOf(stateFile(folder))) === 'file';
}

/**
 * Puts weights and moments back and returns what was saved beside them, records by what they must look like; the optimiser's count of
 * steps is the caller's to set.
 * @throws InputError if the state does not fit the model or is damaged
 */
export async function loadState<Records extends Record<string, v.GenericSchema>, Integers extends string = never>(
  folder: string,
  optimizer: AdamW,
  wanted: { records: Records; integers?: readonly Integers[] },
): Promise<{ records: { [Name in keyof Records]: v.InferOutput<Records[Name]> }; integers: Record<Integers, Int32Array> }> {
  const file = await readSafetensors(stateFile(folder));
  const read = (name: string, shape: readonly number[]) => {
    const stored = file.info(name).shape;
    if (`${stored}` !== `${shape}`)
      throw new InputError(`${file.source}: tensor '${name}' is [${stored}], expected [${shape}] for the run's configuration`);
    return file.read(name);
  };
  try {
    for (const optimized of optimizer.parameters) {
      for (const part of parts) {
        const arrays = [];
        for (const { name, shape } of optimized.parameter.layout.tensors)
          arrays.push({ name, shape, values: await read(`${part}.${name}`, shape) });
        importParameter(optimized.parameter, arrays, partOf(optimized, part));
      }
      for (const { name, tensor } of branchMoments(optimized)) tensor.backend.write(tensor, await read(name, tensor.shape));
    }
    const buffers = optimizer.buffers.flatMap((buffer) => buffer.layout.tensors.map((tensor) => ({ buffer, ...tensor })));
    // A state from before there were thresholds has none.
    const kept = buffers.some(({ name }) => file.has(`value.${name}`)) ? buffers : [];
    for (const { buffer, name, shape } of kept) importParameter(buffer, [{ name, shape, values: await read(`value.${name}`, shape) }]);
    const records = Object.entries(wanted.records).map(([name, schema]) => [name, parseRecord(name, schema, file)]);
    const integers: [string, Int32Array][] = [];
    for (const name of wanted.integers ?? []) integers.push([name, await file.readIntegers(name)]);
    return { records: Object.fromEntries(records), integers: Object.fromEntries(integers) as Record<Integers, Int32Array> };
  } finally {
    await file.close();
  }
}

function parseRecord(name: string, schema: v.GenericSchema, { metadata, source }: Pick<SafetensorsFile, 'metadata' | 'source'>): unknown {
  const text = metadata[name];
  if (text === undefined) throw new InputError(`${source}: has no record '${name}'; it is not a state that this program wrote`);
  let value: unknown;
  try {
    value = parseJsonText(text, source);
  } catch {}
  const { output, issues } = v.safeParse(schema, value);
  if (issues) {
    const at = v.getDotPath(issues[0]);
    throw new InputError(
      `${source}: the record '${name}' is damaged${at ? ` at '${at}'` : ''} (${issues[0].message}); start the run again in another folder`,
    );
  }
  return output;
}
