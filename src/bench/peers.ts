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

export interface OnnxRuntime {
  readonly name: string;
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
    return {
      name: `${native ? 'onnxruntime' : name} ${ort.env.versions.common}`,
      async session(graph, threads) {
        const session = await ort.InferenceSession.create(encodeOnnx(graph), {
          executionProviders: [native ? 'cpu' : 'wasm'],
          intraOpNumThreads: threads,
          interOpNumThreads: 1,
          graphOptimizationLevel: 'all',
          executionMode: 'sequential',
        });
        return {
          async run(inputs) {
            const feeds = Object.entries(inputs).map(([name, { values, shape }]) => [
              name,
              values instanceof Int32Array ? new ort.Tensor('int32', values, shape) : new ort.Tensor('float32', values, shape),
            ]);
            const { y } = await session.run(Object.fromEntries(feeds));
            return y.data as Float32Array;
          },
          // With one thread the caller does the work.
          rest: async () => (threads > 1 ? restFromSpinning() : undefined),
          release: () => session.release(),
        };
      },
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    return { missing: `onnxruntime is not measured (${reason}): npm install ${name}@1.30` };
  }
}
