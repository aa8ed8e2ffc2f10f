import { defineConfig } from 'tsdown';

export default defineConfig([
  {
    entry: { index: 'src/index.ts' },
    format: ['esm', 'cjs'],
    dts: true,
    platform: 'node',
    target: 'node20',
    outDir: 'dist',
    clean: false,
  },
  {
    entry: { cli: 'src/cli/main.ts' },
    format: 'esm',
    dts: false,
    platform: 'node',
    target: 'node20',
    outDir: 'dist',
    clean: false,
  },
]);
