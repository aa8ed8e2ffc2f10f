/** Work that several contestants do on the same inputs, so that they can take turns and their outputs can be compared. */
import type { Device } from '../backend/device.ts';
import type { Tensor } from '../backend/tensor.ts';
import { FailureError } from '../errors.ts';
import type { Contestant } from './contest.ts';
import { concatenate } from './onnx_graphs.ts';
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
  /** Of the first calls of this size, as they are timed: as many as hold {@link checkedTokens}. */
  output(batch: number): Promise<Float32Array>;
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

/** The first tokens, whose outputs are compared with the reference backend's. */
export const checkedTokens = 8;

async function firstOutputs(batch: number, output: (call: number) => Promise<Float32Array>): Promise<Float32Array> {
  const outputs: Float32Array[] = [];
  for (let call = 0; call * batch < checkedTokens; call++) outputs.push(await output(call));
  return concatenate(outputs);
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
export function queuedWork<Name extends string>(device: Device, layer: QueuedLayer<Name>, inputs: Inputs<Name>): Work {
  const names = Object.keys(inputs) as Name[];
  const all = names.map((name) => {
    const { values, width } = inputs[name];
    return device.tensor(name, [values.length / width, width], values instanceof Int32Array ? 'i32' : 'f32', values);
  });
  const outputs: Tensor[] = [];
  const outputOf = (tokens: number) => {
    const output = device.tensor('output', [tokens, layer.outputs]);
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
          await device.finish();
        },
      };
    },
    output(batch) {
      const output = outputOf(batch);
      return firstOutputs(batch, (call) => {
        layer.call(views(batch, call), output);
        return device.read(output);
      });
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
        rest: session.rest,
      };
    },
    output: (batch) => firstOutputs(batch, (call) => session.run(feeds(batch, call))),
    dispose: () => session.release(),
  };
}

/** @throws FailureError if a value is no finite number: who computes such has not done the work */
export function checkFinite(name: string, output: Float32Array): void {
  if (!output.every(Number.isFinite)) throw new FailureError(`${name}: its output has values that are no finite numbers`);
}

/**
 * The largest difference of an output from what was expected of its first tokens, over the largest value that was expected.
 * @throws FailureError if a value of the output, of whatever token, is no finite number
 */
export function largestError(name: string, output: Float32Array, expected: Float32Array): number {
  if (output.length < expected.length) throw new Error(`${output.length} values to be compared with ${expected.length}`);
  checkFinite(name, output);
  let [difference, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(output[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
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
