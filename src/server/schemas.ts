/** What bodies of several routes have. */
import * as v from 'valibot';
import type { TruncationOptions } from '../pipelines/truncation.ts';
import type { Exchange } from './exchange.ts';

const described = <Schema extends v.GenericSchema>(schema: Schema, description: string) => v.pipe(schema, v.description(description));

export const flag = (value: boolean, description: string) => v.nullish(described(v.boolean(), description), value);
export const count = (description: string) =>
  described(v.pipe(v.number(), v.integer('a whole number'), v.minValue(1, 'a whole number from 1')), description);
/** An object with these fields, others being left out; not an array, which Valibot takes for an object. */
export function fields<const Entries extends v.ObjectEntries>(entries: Entries): v.ObjectSchema<Entries, undefined> {
  const schema = v.object(entries);
  const run: (typeof schema)['~run'] = (dataset, config) => {
    const given = Array.isArray(dataset.value) ? { typed: false as const, value: null, issues: undefined } : dataset;
    return schema['~run'](given, config);
  };
  return { ...schema, '~run': run };
}

/** Issues of this kind make the error {@link RequestError} Empty. */
export const emptyMessage = 'something that is not empty';
export const text = v.pipe(v.string(), v.nonEmpty(emptyMessage));
/** A list of at least one. */
export const list = <Item extends v.GenericSchema>(item: Item) => v.pipe(v.array(item), v.nonEmpty(emptyMessage));
export const texts = list(text);

const tokenId = v.pipe(v.number(), v.integer('a whole number'), v.minValue(0, 'a token id from 0'), v.maxValue(2 ** 31, 'a token id'));
export const tokenIds = list(tokenId);

export const modelName = v.nullish(described(v.string(), 'Which of the served models; without it the first that does for the route.'));
export const promptName = v.nullish(described(v.string(), "Puts the model's prompt of this name before each text."));
export const dimensions = v.nullish(count('Numbers of a vector that are kept, the first ones: for models that were trained so.'));

/** One of several schemas. What is of the right type but empty is told as that. */
export function either<const Options extends v.UnionOptions>(expected: string, ...options: Options) {
  const message = ({ issues = [] }: { issues?: readonly v.BaseIssue<unknown>[] }) =>
    issues.some(({ message }) => message === emptyMessage) ? emptyMessage : expected;
  return v.union(options, message as never) as v.UnionSchema<Options, undefined>;
}

/** A text, its token ids, or a list of either. */
export const inputs = described(
  either('a string, token ids, or an array of either', text, tokenIds, list(either('a string or an array of token ids', text, tokenIds))),
  'A text, its token ids (special ones included), or a list of either.',
);
export type Inputs = v.InferOutput<typeof inputs>;

/** What says how texts are cut. */
export const truncation = {
  truncate: v.nullish(described(v.boolean(), 'Cut texts that are too long; otherwise they are refused. By default as the server is told.')),
  truncation_direction: v.nullish(
    described(v.picklist(['Right', 'Left', 'right', 'left'], "'Right' or 'Left'"), 'Which end is left out.'),
    'Right' as const,
  ),
};

type Truncation = { truncate?: boolean | null; truncation_direction: 'Right' | 'Left' | 'right' | 'left' };

export const truncationOf = ({ truncate, truncation_direction }: Truncation, { shared }: Exchange): Required<TruncationOptions> => ({
  truncation: truncate ?? shared.settings.autoTruncate,
  truncation_side: truncation_direction.toLowerCase() as 'left' | 'right',
});

/** What `inputs` hold, as a list; and whether it was one. */
export function listOf(given: Inputs): { texts: (string | number[])[]; method: 'single' | 'batch' } {
  const isSingle = typeof given === 'string' || typeof given[0] === 'number';
  return { texts: (isSingle ? [given] : given) as (string | number[])[], method: isSingle ? 'single' : 'batch' };
}

/** Numbers of vectors, for the description of answers. */
export const vector = v.array(v.number());
