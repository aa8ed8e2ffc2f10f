/** Bodies of requests: read no further than they may be long. */
import * as v from 'valibot';
import { quoted } from '../errors.ts';
import { RequestError } from './errors.ts';
import type { Permits } from './permits.ts';
import { emptyMessage } from './schemas.ts';

/**
 * The JSON of a request's body, checked by a schema.
 * @param limit bytes
 * @param memory bytes of bodies that may be read at a time, of all requests together
 * @throws RequestError if it is longer, no JSON, or not as the schema has it
 */
export async function readBody<Schema extends v.GenericSchema>(
  request: Request,
  schema: Schema,
  limit: number,
  memory: Permits,
): Promise<v.InferOutput<Schema>> {
  const text = await readText(request, limit, memory);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new RequestError('Validation', `the body is no JSON: ${(error as Error).message}`);
  }
  return check(schema, json);
}

/** What the schema makes of a value. @throws RequestError naming the field that is wrong */
export function check<Schema extends v.GenericSchema>(schema: Schema, value: unknown): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = v.getDotPath(issue);
  const name = field === null ? 'the body' : `\`${field}\``;
  if (issue.message === emptyMessage) throw new RequestError('Empty', `${name} is empty`);
  const expected = issue.message.startsWith('Invalid ') ? (issue.expected ?? 'another value') : issue.message;
  const found = issue.input === undefined ? 'nothing' : quoted(issue.input);
  throw new RequestError('Validation', `${name}: got ${found}, expected ${expected}`);
}

async function readText(request: Request, limit: number, memory: Permits): Promise<string> {
  const told = Number(request.headers.get('content-length') ?? 0);
  if (told > limit) throw tooLarge(limit);
  let taken = 0;
  try {
    const chunks: Uint8Array[] = [];
    for await (const chunk of (request.body ?? []) as unknown as AsyncIterable<Uint8Array>) {
      if (taken + chunk.length > limit) throw tooLarge(limit);
      if (!memory.take(chunk.length)) throw new RequestError('Overloaded', 'too many large requests at a time: try again later');
      taken += chunk.length;
      chunks.push(chunk);
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (error) {
    if (error instanceof TypeError) throw new RequestError('Validation', 'the body is not in UTF-8');
    throw error;
  } finally {
    memory.give(taken);
  }
}

const tooLarge = (limit: number) => new RequestError('PayloadTooLarge', `the body has more than ${limit} bytes: split the request`);
