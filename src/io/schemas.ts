/** Schemas of what several files of ours hold. */
import * as v from 'valibot';

export const countSchema = v.pipe(v.number(), v.integer(), v.minValue(0));
export const secondsSchema = v.pipe(v.number(), v.minValue(0));

/** Whole, from 1. */
export const positiveCountSchema = v.pipe(v.number(), v.integer(), v.minValue(1));
/** Greater than 0. */
export const positiveSchema = v.pipe(v.number(), v.gtValue(0));
/** From 0. */
export const amountSchema = v.pipe(v.number(), v.minValue(0));
/** A path, not empty. */
export const pathSchema = v.pipe(v.string(), v.minLength(1));
