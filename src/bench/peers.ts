/** Other programs that the benchmark sets itself beside. */
import type { Device } from '../backend/device.ts';
import { encodeOnnx, type OnnxGraph } from '../io/onnx_writer.ts';

export interface OnnxFeed {
  values: Float32Array | Int32Array;
  shape: readonly number[];
}

/** A graph ready to run. */
export interface OnnxSession {
  /** The graph's y for its inputs. The arrays may be reused after the promise resolves. */
  run(inputs: Readonly<Record<string, OnnxFeed>>): Promise<Float32Array>;
  /** Waits until its threads sleep. */
  rest(): Promise<void>;
  release(): Promise<void>;
}

/** A decoder's graph, with what it keeps of the tokens before. */
export interface OnnxDecoder {
  /** Takes the next tokens of each text, [batch][length], and gives the logits of all of them, [batch length vocabulary]. */
  step(tokens: readonly (readonly number[])[]): Promise<Float32Array>;
  /** How many tokens it has taken. */
  readonly past: number;
  /** Goes back to what it kept after the last call of {@link mark}, or to nothing. */
  reset(): void;
  mark(): void;
  rest(): Promise<void>;
  release(): Promise<void>;
}

export interface OnnxRuntime {
  readonly name: string;
  /** Of a graph that src/models/onnx_decoder.ts made, for texts side by side. */
  decoder(graph: OnnxGraph, threads: number, batch: number): Promise<OnnxDecoder>;
  session(graph: OnnxGraph, threads: number): Promise<OnnxSession>;
}

/**
 * Waits until the threads of another program sleep. After their work they spin, on the cores that the next contestant needs: onnxruntime's
 * for some 30 ms, PyTorch's (OpenMP's) for up to 200. It stays as its users have it: a program's own time may gain by it.
 */
export const restFromSpinning = () => new Promise<void>((resolve) => setTimeout(resolve, 300));

/** What each backend is set beside: native code beside native code, WASM beside WASM. */
const packages: Record<string, 'onnxruntime-node' | 'onnxruntime-web' | undefined> = {
  native: 'onnxruntime-node',
  wasm: 'onnxruntime-web',
};

/** The onnxruntime that is a peer of the backend, if it is installed; else why not, and what to do about it. */
export async function loadOnnxRuntime(device: Device): Promise<OnnxRuntime | { missing: string }> {
  const name = packages[device.name];
  if (!name) return { missing: `onnxruntime is no peer of the ${device.name} backend: not measured` };
  try {
    // An optional peer: looked for when it is wanted, never bundled.
    const native = name === 'onnxruntime-node';
    const ort = native ? await import('onnxruntime-node') : await import('onnxruntime-web');
    // In WASM the first session decides for all.
    if (!native) ort.env.wasm.numThreads = device.threads;
    const create = (graph: OnnxGraph, threads: number) =>
      ort.InferenceSession.create(encodeOnnx(graph), {
        executionProviders: [native ? 'cpu' : 'wasm'],
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        graphOptimizationLevel: 'all',
        executionMode: 'sequential',
      });
    // With one thread the caller does the work.
    const restOf = (threads: number) => async () => (threads > 1 ? restFromSpinning() : undefined);
    return {
      name: `${native ? 'onnxruntime' : name} ${ort.env.versions.common}`,
      async session(graph, threads) {
        const session = await create(graph, threads);
        return {
          async run(inputs) {
            const feeds = Object.entries(inputs).map(([name, { values, shape }]) => [
              name,
              values instanceof Int32Array ? new ort.Tensor('int32', values, shape) : new ort.Tensor('float32', values, shape),
            ]);
            const { y } = await session.run(Object.fromEntries(feeds));
            return y.data as Float32Array;
          },
          rest: restOf(threads),
          release: () => session.release(),
        };
      },
      async decoder(graph, threads, batch) {
        const session = await create(graph, threads);
        type Tensors = Record<string, InstanceType<typeof ort.Tensor>>;
        const kept = graph.inputs.filter(({ name }) => name.startsWith('past_key_values.'));
        const nothing = (): Tensors =>
          Object.fromEntries(
            kept.map(({ name, shape: [, heads, , size] }) => [
              name,
              new ort.Tensor('float32', new Float32Array(0), [batch, heads as number, 0, size as number]),
            ]),
          );
        let state = { past: 0, tensors: nothing() };
        let marked = state;
        const integers = (values: readonly number[]) =>
          new ort.Tensor('int64', BigInt64Array.from(values, BigInt), [batch, values.length / batch]);
        return {
          get past() {
            return state.past;
          },
          async step(tokens) {
            const { past, tensors } = state;
            const { length } = tokens[0];
            const results = await session.run({
              input_ids: integers(tokens.flat()),
              attention_mask: integers(new Array<number>(batch * (past + length)).fill(1)),
              position_ids: integers(tokens.flatMap((row) => row.map((_, i) => past + i))),
              ...tensors,
            });
            const present = kept.map(({ name }) => [name, results[name.replace('past_key_values', 'present')]]);
            state = { past: past + length, tensors: Object.fromEntries(present) as Tensors };
            return results.logits.data as Float32Array;
          },
          reset() {
            state = marked;
          },
          mark() {
            marked = state;
          },
          rest: restOf(threads),
          release: () => session.release(),
        };
      },
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    return { missing: `onnxruntime is not measured (${reason}): npm install ${name}@1.30` };
  }
}
