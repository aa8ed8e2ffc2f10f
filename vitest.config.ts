import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    // Time limits catch what hangs, not what is slow: machines and their load differ.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
