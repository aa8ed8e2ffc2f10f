import { mkdirSync, writeFileSync } from 'node:fs';
import { defineConfig } from 'tsdown';

/** Names the packages that are bundled in build/bundled_packages.json, for scripts/third_party_notices.mjs. */
const bundled = new Set<string>();
const listBundled = {
  name: 'list-bundled',
  writeBundle(_options: unknown, files: Record<string, object>) {
    for (const file of Object.values(files))
      for (const id of 'moduleIds' in file ? (file.moduleIds as string[]) : []) {
        const [, name] = /.*[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/.exec(id) ?? [];
        if (name) bundled.add(name.replace('\\', '/'));
      }
    mkdirSync('build', { recursive: true });
    writeFileSync('build/bundled_packages.json', JSON.stringify([...bundled].sort()));
  },
};

const common = {
  platform: 'node',
  target: 'node20',
  external: [/^onnxruntime-(node|web)/, /^@opentelemetry\/(?!api$)/, /^webgpu$/] as RegExp[], // optional peers: of the benchmark, of `ufb serve`, and WebGPU in Node
  outDir: 'dist',
  clean: false, // scripts/setup.mjs does it, once for all
  fixedExtension: false,
  // Half the size. Names of functions and classes stay, for stack traces and classes that are told apart by name.
  minify: { compress: true, mangle: { toplevel: false, keepNames: true }, codegen: { removeWhitespace: true } },
  plugins: listBundled,
  banner: {
    // Safari and the first releases of Node 20 lack them; what `using` is made into looks for these, and classes have to have them as keys.
    js: "Symbol.dispose ??= Symbol.for('Symbol.dispose'); Symbol.asyncDispose ??= Symbol.for('Symbol.asyncDispose');",
    // Users whose TypeScript is not told of `using` can read the types all the same.
    dts: '/// <reference lib="esnext.disposable" />',
  },
  // Names without hashes: building again overwrites.
  outputOptions: { chunkFileNames: '[name].js' },
} as const;

/** The package's three faces: ultrafastbert, ultrafastbert/nn and ultrafastbert/train. */
const entries = { index: 'src/index.ts', nn: 'src/index_nn.ts', train: 'src/index_train.ts' };

/** Whoever installs the package has no valibot: what is inferred from its schemas is written out. */
const types = { resolve: ['valibot'] };

export default defineConfig([
  { ...common, entry: { ...entries, cli: 'src/cli/main.ts' }, format: 'esm', dts: false },
  { ...common, entry: entries, format: 'esm', dts: { emitDtsOnly: true, ...types } },
  {
    ...common,
    entry: entries,
    format: 'cjs',
    dts: types,
    outputOptions: {
      chunkFileNames: '[name].cjs',
      // Not within train.cjs: who does not draw does not read it.
      advancedChunks: { groups: [{ name: 'charts', test: /node_modules[\\/](echarts|zrender|tslib)[\\/]/ }] },
    },
  },
  {
    ...common,
    // One set of chunks for both: a device of the one is a device of the other.
    entry: { browser: 'src/index.ts', browser_nn: 'src/index_nn.ts' },
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    dts: false,
    outputOptions: { chunkFileNames: 'browser_[name].js' },
  },
]);
