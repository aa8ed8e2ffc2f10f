import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    // As many files at a time as there are cores: vitest leaves one out, which on two cores is half of them.
    maxWorkers: '100%',
    // Time limits catch what hangs, not what is slow: machines and their load differ.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
