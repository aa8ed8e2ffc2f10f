/** Schemas of what several files of ours hold. */
import * as v from 'valibot';

export const countSchema = v.pipe(v.number(), v.integer(), v.minValue(0));
export const secondsSchema = v.pipe(v.number(), v.minValue(0));
