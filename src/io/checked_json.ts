/** JSON files that are checked against a schema. */
import * as v from 'valibot';
import { errorCode } from '#platform';
import { InputError, quoted } from '../errors.ts';
import { readJson } from './files.ts';

/** What a JSON file holds. @throws InputError naming file and key if it is missing, damaged or not as the schema says */
export async function readCheckedJson<Schema extends v.GenericSchema>(path: string, schema: Schema): Promise<v.InferOutput<Schema>> {
  return checkedJson(await readJson(path), schema, path);
}

/** @throws InputError naming `path` and the key if a value is not as the schema says */
export function checkedJson<Schema extends v.GenericSchema>(json: unknown, schema: Schema, path: string): v.InferOutput<Schema> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  throw new InputError(`${path}: ${problemOf(result.issues[0])}`);
}

/** What a schema found and what it expected: in its own words, where it has some. */
export function problemOf(issue: v.BaseIssue<unknown>): string {
  const key = v.getDotPath(issue) ?? 'the value';
  const expected = issue.message.startsWith('Invalid ') ? issue.expected : issue.message;
  if (issue.received !== 'undefined') return `'${key}' is ${quoted(issue.input)}, expected ${expected}`;
  // Of a missing key valibot expects the key itself.
  return `'${key}' is missing${expected?.startsWith('"') ? '' : `, expected ${expected}`}`;
}

/** The same, undefined if there is no such file. */
export async function readOptionalJson<Schema extends v.GenericSchema>(
  path: string,
  schema: Schema,
): Promise<v.InferOutput<Schema> | undefined> {
  try {
    return await readCheckedJson(path, schema);
  } catch (error) {
    if (errorCode((error as Error).cause) === 'ENOENT') return undefined;
    throw error;
  }
}
