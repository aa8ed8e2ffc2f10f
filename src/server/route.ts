/** A route as data: what it takes, what it answers, and how. The checks of bodies and the OpenAPI description follow from it. */
import type * as v from 'valibot';
import type { Exchange } from './exchange.ts';
import type { ModelKind } from './served_model.ts';

export interface Route<Body extends v.GenericSchema = v.GenericSchema> {
  /** The first is the one that is described. */
  paths: readonly [string, ...string[]];
  summary: string;
  /** Kinds of models that it needs; any if absent. */
  kinds?: readonly ModelKind[];
  body: Body;
  /** What is answered, for the description. */
  answer: v.GenericSchema;
  /** A body that works. */
  example: unknown;
  handle(body: v.InferOutput<Body>, exchange: Exchange): Promise<unknown>;
}

/** Checks a route's types where it is written. */
export const route = <Body extends v.GenericSchema>(description: Route<Body>): Route => description as unknown as Route;
