/** Work that several contestants do on the same inputs, so that they can take turns and their outputs can be compared. */
import type { Backend } from '../backend/backend.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { Contestant } from './contest.ts';
import type { OnnxSession } from './peers.ts';
import { fillUniform, type Timing } from './timing.ts';

/** A row of numbers for each token, [tokens, width]. */
export interface TokenRows {
  values: Float32Array | Int32Array;
  width: number;
}

/** What calls take, by name: calls take other tokens each time, and begin anew when all had their turn. */
export type Inputs<Name extends string = string> = Readonly<Record<Name, TokenRows>>;

export interface Work {
  contestant(batch: number): Contestant;
  /** For the first `tokens`, in one call. */
  output(tokens: number): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** A layer in a backend. */
export interface QueuedLayer<Name extends string = 'x'> {
  /** Numbers that a token gets. */
  outputs: number;
  /** Queues one call. */
  call(inputs: Record<Name, Tensor>, output: Tensor): void;
  dispose(): void;
}

/** Tokens that calls take in turn, or two calls' worth if that is more: no call meets the tokens of the call before. */
const poolTokens = 1024;
const callsOf = (batch: number) => Math.max(2, Math.floor(poolTokens / batch));

/** Tokens that calls of these sizes take. */
export const tokensFor = (batches: readonly number[]) => Math.max(poolTokens, 2 * Math.max(...batches));

/** Tokens of unit variance. */
export function randomTokens(width: number, batches: readonly number[]): TokenRows {
  return { values: fillUniform(new Float32Array(tokensFor(batches) * width), Math.sqrt(3), 1), width };
}

/** Calls are queued in one go, as a model's layers are; outputs are not read but in the check. */
export function queuedWork<Name extends string>(backend: Backend, layer: QueuedLayer<Name>, inputs: Inputs<Name>): Work {
  const names = Object.keys(inputs) as Name[];
  const all = names.map((name) => {
    const { values, width } = inputs[name];
    return backend.tensor(name, [values.length / width, width], values instanceof Int32Array ? 'i32' : 'f32', values);
  });
  const outputs: Tensor[] = [];
  const outputOf = (tokens: number) => {
    const output = backend.tensor('output', [tokens, layer.outputs]);
    outputs.push(output);
    return output;
  };
  const views = (batch: number, call: number) =>
    Object.fromEntries(names.map((name, i) => [name, all[i].view([batch, all[i].shape[1]], call * batch * all[i].shape[1])])) as Record<
      Name,
      Tensor
    >;
  return {
    contestant(batch) {
      const output = outputOf(batch);
      const calls = Array.from({ length: callsOf(batch) }, (_, call) => views(batch, call));
      let next = 0;
      return {
        async run(times) {
          for (let i = 0; i < times; i++) layer.call(calls[next++ % calls.length], output);
          await backend.finish();
        },
      };
    },
    async output(tokens) {
      const output = outputOf(tokens);
      layer.call(views(tokens, 0), output);
      return backend.read(output);
    },
    async dispose() {
      layer.dispose();
      for (const made of [...all, ...outputs]) made.dispose();
    },
  };
}

/** Calls are awaited one by one, as onnxruntime's interface has it. The graph's inputs are named as these are. */
export function onnxWork(session: OnnxSession, inputs: Inputs): Work {
  const names = Object.keys(inputs);
  const feeds = (batch: number, call: number) =>
    Object.fromEntries(
      names.map((name) => {
        const { values, width } = inputs[name];
        return [name, { values: values.subarray(call * batch * width, (call + 1) * batch * width), shape: [batch, width] }];
      }),
    );
  return {
    contestant(batch) {
      const calls = Array.from({ length: callsOf(batch) }, (_, call) => feeds(batch, call));
      let next = 0;
      return {
        async run(times) {
          for (let i = 0; i < times; i++) await session.run(calls[next++ % calls.length]);
        },
      };
    },
    output: (tokens) => session.run(feeds(tokens, 0)),
    dispose: () => session.release(),
  };
}

/** The largest difference, and its share of the largest value that was expected. */
export function largestDifference(actual: Float32Array, expected: Float32Array): { absolute: number; relative: number } {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values to be compared with ${expected.length}`);
  let [absolute, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    absolute = Math.max(absolute, Math.abs(actual[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return { absolute, relative: absolute / largest };
}

/** Microseconds a token. */
export interface TokenTiming {
  usPerToken: number;
  /** Quartiles. */
  spread: [number, number];
}

export function perToken({ median, low, high }: Timing, batch: number): TokenTiming {
  return { usPerToken: (median * 1000) / batch, spread: [(low * 1000) / batch, (high * 1000) / batch] };
}
