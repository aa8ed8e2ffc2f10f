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
  const [issue] = result.issues;
  const key = v.getDotPath(issue) ?? 'the value';
  throw new InputError(`${path}: '${key}' is ${quoted(issue.input)}, expected ${expectedBy(issue)}`);
}

/** What a schema expected in place of a value: in its own words, where it has some. */
export const expectedBy = ({ message, expected }: v.BaseIssue<unknown>): string =>
  message.startsWith('Invalid ') ? (expected ?? 'something else') : message;

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
