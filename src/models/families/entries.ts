/** Entries of a config.json that families have in common, and how they are read and written. */

import * as v from 'valibot';
import { InputError } from '../../errors.ts';
import { problemOf } from '../../io/checked_json.ts';
import type { FeedforwardConfig, ModelConfig } from '../config.ts';

// Limits that no real model reaches; they keep a damaged file from asking for absurd amounts of memory.
export const count = (most: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(most));
export const probability = v.pipe(v.number(), v.minValue(0), v.ltValue(1));
export const positive = v.pipe(v.number(), v.gtValue(0), v.maxValue(1));
export const vocabulary = count(2 ** 21);
export const hidden = count(2 ** 14);
export const layerCount = count(512);
export const headCount = count(2 ** 10);
export const positionCount = count(2 ** 16);
export const maxNeurons = 2 ** 24;
export const neurons = count(maxNeurons);
/** The number of a token, of a decoder's texts: none, one or several. Padding may be -1 where there is none. */
export const tokenId = v.nullish(v.pipe(v.number(), v.integer()));
export const tokenIds = v.nullish(
  v.pipe(
    v.union([v.pipe(v.number(), v.integer()), v.array(v.pipe(v.number(), v.integer()))]),
    v.transform((ids) => [ids].flat()),
  ),
);
/** undefined of null, and of the negative number that some files have for none. */
export const numberOrNone = (id: number | null | undefined): number | undefined => (id != null && id >= 0 ? id : undefined);
/** How {@link tokenIds} are written. */
export const oneOrSeveral = (ids: readonly number[] | undefined) => (ids === undefined ? null : ids.length === 1 ? ids[0] : ids);
export const labelCount = count(2 ** 16);

/** transformers takes whatever stands there for a name. */
export const labelMap = v.nullish(
  v.record(v.string(), v.pipe(v.union([v.string(), v.number(), v.boolean(), v.null()]), v.transform(String))),
);

/** Neurons or trees, the trees' depth, and entries of our own: they stay away where they say nothing, so that the authors' code knows every key. */
export const feedforwardEntries = {
  intermed_size: v.optional(neurons),
  intermed_depth: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(24))),
  intermed_leaf_width: v.optional(count(2 ** 16)),
  intermed_always_on: v.optional(neurons),
  intermed_thresholds: v.optional(v.boolean()),
};
type FeedforwardEntries = v.InferOutput<v.ObjectSchema<typeof feedforwardEntries, undefined>> & { intermed_type: 'fff' | 'ff' | 'none' };

/** `prefix`: of the keys' names in messages. */
export function fromFeedforwardEntries(entries: FeedforwardEntries, prefix: string): FeedforwardConfig {
  const { intermed_type: kind, intermed_size: size, intermed_depth: levels } = entries;
  if (kind === 'none') return { kind };
  if (size === undefined)
    throw new InputError(`${prefix}intermed_size' is missing, expected how many ${kind === 'fff' ? 'trees' : 'neurons'} there are`);
  if (kind === 'ff') return { kind: 'dense', neurons: size };
  if (levels === undefined) throw new InputError(`${prefix}intermed_depth' is missing, expected the depth of the trees`);
  return {
    kind,
    trees: size,
    depth: levels,
    leafWidth: entries.intermed_leaf_width,
    alwaysOn: entries.intermed_always_on,
    thresholds: entries.intermed_thresholds,
  };
}

export function toFeedforwardEntries(feedforward: FeedforwardConfig): FeedforwardEntries {
  if (feedforward.kind === 'none') return { intermed_type: 'none' };
  if (feedforward.kind === 'dense') return { intermed_type: 'ff', intermed_size: feedforward.neurons };
  const { trees, depth, leafWidth = 1, alwaysOn = 0, thresholds } = feedforward;
  return {
    intermed_type: 'fff',
    intermed_size: trees,
    intermed_depth: depth,
    ...(leafWidth > 1 && { intermed_leaf_width: leafWidth }),
    ...(alwaysOn > 0 && { intermed_always_on: alwaysOn }),
    ...(thresholds && { intermed_thresholds: true }),
  };
}

/**
 * Names of the labels in their order; the keys of `id2label` are their numbers. As in transformers, names that are not as many as `count` says
 * are none; one that is missing, which stops it only where it is the answer, is as if it had no name.
 */
export function labelNamesOf(id2label: Record<string, string> | null | undefined, count: number | null | undefined): string[] | undefined {
  const keys = Object.keys(id2label ?? {});
  if (!id2label || keys.length === 0 || keys.length !== (count ?? keys.length)) return undefined;
  return keys.map((_, label) => (Object.hasOwn(id2label, label) ? id2label[label] : `LABEL_${label}`));
}

/** transformers' names of the classes, for every family. */
export function labelEntries(names: readonly string[] | undefined): Record<string, unknown> {
  if (!names) return {};
  return {
    id2label: Object.fromEntries(names.map((label, i) => [i, label])),
    label2id: Object.fromEntries(names.map((label, i) => [label, i])),
  };
}

export const problemEntry = ({ problemType }: ModelConfig) => (problemType ? { problem_type: problemType } : {});

/** @throws InputError naming `source` and the first key that the schema refuses */
export function validate<Schema extends v.GenericSchema>(schema: Schema, json: unknown, source: string): v.InferOutput<Schema> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  throw new InputError(`${source}: ${problemOf(result.issues[0])}`);
}
