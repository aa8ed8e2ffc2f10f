import { defineConfig } from 'tsdown';

const common = {
  platform: 'node',
  target: 'node20',
  external: [/^onnxruntime-(node|web)/] as RegExp[], // optional peers of the benchmark
  outDir: 'dist',
  clean: false, // scripts/setup.mjs does it, once for all
  fixedExtension: false,
  banner: {
    // Safari and the first releases of Node 20 lack them; what `using` is made into looks for these, and classes have to have them as keys.
    js: "Symbol.dispose ??= Symbol.for('Symbol.dispose'); Symbol.asyncDispose ??= Symbol.for('Symbol.asyncDispose');",
    // Users whose TypeScript is not told of `using` can read the types all the same.
    dts: '/// <reference lib="esnext.disposable" />',
  },
  // Names without hashes: building again overwrites.
  outputOptions: { chunkFileNames: '[name].js' },
} as const;

export default defineConfig([
  { ...common, entry: { index: 'src/index.ts', cli: 'src/cli/main.ts' }, format: 'esm', dts: false },
  { ...common, entry: { index: 'src/index.ts' }, format: 'esm', dts: { emitDtsOnly: true } },
  { ...common, entry: { index: 'src/index.ts' }, format: 'cjs', dts: true, outputOptions: { chunkFileNames: '[name].cjs' } },
  {
    ...common,
    entry: { browser: 'src/index.ts' },
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    minify: 'dce-only',
    dts: false,
    outputOptions: { inlineDynamicImports: true },
  },
]);
