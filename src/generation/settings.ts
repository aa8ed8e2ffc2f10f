/** How a model writes unless a call says otherwise: what its generation_config.json says, else what transformers has. */
import * as v from 'valibot';
import { joinPath } from '#platform';
import { InputError, quoted } from '../errors.ts';
import { readOptionalJson } from '../io/checked_json.ts';
import type { SamplingOptions } from './sampling.ts';

export interface GenerationSettings extends SamplingOptions {
  /** Tokens to be written, at most; absent: `max_length` says. */
  max_new_tokens?: number;
  /** Tokens of a text at most, its prompt included. */
  max_length?: number;
}

export interface GenerationDefaults extends GenerationSettings {
  /** Ids that begin and end a text, as far as generation_config.json says. */
  begin?: number;
  ends?: readonly number[];
}

const defaults: GenerationSettings = { do_sample: false, temperature: 1, top_k: 50, top_p: 1, repetition_penalty: 1 };

/** Where nothing is said of how much is to be written. */
export const defaultNewTokens = 20;

const id = v.pipe(v.number(), v.integer(), v.minValue(0));
const number = v.nullish(v.number());
const schema = v.looseObject({
  do_sample: v.nullish(v.boolean()),
  temperature: number,
  top_k: number,
  top_p: number,
  repetition_penalty: number,
  max_new_tokens: number,
  max_length: number,
  bos_token_id: v.nullish(id),
  eos_token_id: v.nullish(v.union([id, v.array(id)], 'an id, or several')),
});

/** The defaults of the model in a folder. @throws InputError naming the key if its generation_config.json has a value that cannot be */
export async function readGenerationDefaults(folder: string): Promise<GenerationDefaults> {
  const path = joinPath(folder, 'generation_config.json');
  const said = (await readOptionalJson(path, schema)) ?? {};
  const { bos_token_id: begin, eos_token_id: ends, ...rest } = said;
  const known = Object.fromEntries(Object.keys(ranges).flatMap((name) => (rest[name] == null ? [] : [[name, rest[name]]])));
  checkSettings(known, (name) => `${path}: ${name}`);
  return { ...defaults, ...known, begin: begin ?? undefined, ends: ends == null ? undefined : [ends].flat() };
}

const isWhole = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isPositive = (value: unknown) => typeof value === 'number' && value > 0 && value < Number.POSITIVE_INFINITY;

const ranges: Record<keyof GenerationSettings, { expected: string; holds(value: unknown): boolean }> = {
  do_sample: { expected: 'true or false', holds: (value) => typeof value === 'boolean' },
  temperature: { expected: 'a number above 0 (do_sample: false always takes the most probable token)', holds: isPositive },
  top_k: { expected: 'a whole number from 0', holds: isWhole },
  top_p: { expected: 'a number above 0, at most 1', holds: (value) => isPositive(value) && (value as number) <= 1 },
  repetition_penalty: { expected: 'a number above 0', holds: isPositive },
  max_new_tokens: { expected: 'a whole number from 0', holds: isWhole },
  max_length: { expected: 'a whole number from 0', holds: isWhole },
};

/** @throws InputError naming the first setting that cannot be; `named`: what messages call it */
export function checkSettings(settings: Partial<GenerationSettings>, named = (name: string) => name): void {
  for (const [name, { expected, holds }] of Object.entries(ranges)) {
    const value = settings[name as keyof GenerationSettings];
    if (value !== undefined && !holds(value)) throw new InputError(`${named(name)}: got ${quoted(value)}, expected ${expected}`);
  }
}
