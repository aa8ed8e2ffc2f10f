/** What bodies of several routes have. */
import * as v from 'valibot';
import type { TruncationOptions } from '../pipelines/truncation.ts';
import { RequestError } from './errors.ts';
import type { Exchange } from './exchange.ts';

const described = <Schema extends v.GenericSchema>(schema: Schema, description: string) => v.pipe(schema, v.description(description));

export const flag = (value: boolean, description: string) => v.nullish(described(v.boolean(), description), value);
export const count = (description: string) =>
  described(v.pipe(v.number(), v.integer('a whole number'), v.minValue(1, 'a whole number from 1')), description);
const tokenIds = v.pipe(
  v.array(v.pipe(v.number(), v.integer('a whole number'), v.minValue(0, 'a token id from 0'))),
  v.minLength(1, 'one token id at least'),
);

export const modelName = v.nullish(described(v.string(), 'Which of the served models; without it the first that does for the route.'));
export const promptName = v.nullish(described(v.string(), "Puts the model's prompt of this name before each text."));
export const dimensions = v.nullish(count('Numbers of a vector that are kept, the first ones: for models that were trained so.'));

/** A text, its token ids, or a list of either. */
export const inputs = described(
  v.union(
    [v.string(), tokenIds, v.array(v.union([v.string(), tokenIds], 'a string or an array of token ids'))],
    'a string, token ids, or an array of either',
  ),
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

/** What `inputs` hold, as a list; and whether it was one. @throws RequestError if a text is empty */
export function listOf(given: Inputs): { texts: (string | number[])[]; method: 'single' | 'batch' } {
  const isSingle = typeof given === 'string' || (given.length > 0 && given.every((one) => typeof one === 'number'));
  const texts = (isSingle ? [given] : given) as (string | number[])[];
  const empty = texts.findIndex((text) => text.length === 0);
  if (empty >= 0) throw new RequestError('Empty', texts.length === 1 ? '`inputs` is empty' : `\`inputs\`: text ${empty + 1} is empty`);
  return { texts, method: isSingle ? 'single' : 'batch' };
}

/** Numbers of vectors, for the description of answers. */
export const vector = v.array(v.number());
