/** Other programs that the benchmark sets itself beside. */
import type { Backend } from '../backend/backend.ts';
import { encodeOnnx, type OnnxGraph } from '../io/onnx.ts';

/** A graph ready to run. */
export interface OnnxSession {
  /** y for x of a shape. The array may be reused after the promise resolves. */
  run(x: Float32Array, shape: readonly number[]): Promise<Float32Array>;
  release(): Promise<void>;
}

export interface OnnxRuntime {
  readonly name: string;
  session(graph: OnnxGraph, threads: number): Promise<OnnxSession>;
}

/** onnxruntime-node if it is installed and a peer of the backend; else why not, and what to do about it. */
export async function loadOnnxRuntime(backend: Backend): Promise<OnnxRuntime | { missing: string }> {
  if (backend.name !== 'native')
    return { missing: `onnxruntime-node is native code and no peer of the ${backend.name} backend: not measured` };
  try {
    // An optional peer: looked for when it is wanted, never bundled.
    const ort = await import('onnxruntime-node');
    const { default: version } = await import('onnxruntime-node/package.json', { with: { type: 'json' } }).catch(() => ({
      default: { version: '' },
    }));
    return {
      name: `onnxruntime ${(version as { version: string }).version}`,
      async session(graph, threads) {
        const session = await ort.InferenceSession.create(encodeOnnx(graph), {
          intraOpNumThreads: threads,
          interOpNumThreads: 1,
          graphOptimizationLevel: 'all',
          executionMode: 'sequential',
        });
        return {
          async run(x, shape) {
            const { y } = await session.run({ x: new ort.Tensor('float32', x, shape) });
            return y.data as Float32Array;
          },
          release: () => session.release(),
        };
      },
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    return { missing: `onnxruntime is not measured (${reason}): npm install onnxruntime-node@1.30` };
  }
}
