import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { loadAddon } from '../../src/backend/native_loader.ts';

// The add-on is looked for once a process: each test loads the modules afresh.
beforeEach(() => vi.resetModules());
afterEach(() => vi.unstubAllEnvs());

test('UFB_NATIVE=0 falls back to WASM and says so in one line', async () => {
  vi.stubEnv('UFB_NATIVE', '0');
  const { backendNotice, createBackend } = await import('../../src/backend/create.ts');
  using backend = createBackend();
  expect(backend.name).toBe('wasm');
  expect(backendNotice()).toMatch(/^the native backend is turned off by UFB_NATIVE=0; using WASM[^\n]*$/);
  expect(() => createBackend({ name: 'native' })).toThrow('UFB_NATIVE=0');
});

test.skipIf(!loadAddon().addon)('native where it loads, with as many threads as asked for', async () => {
  const { backendNotice, createBackend } = await import('../../src/backend/create.ts');
  using backend = createBackend({ threads: 3 });
  expect(backend.name).toBe('native');
  expect(backend.threads).toBe(3);
  expect(backendNotice()).toBeUndefined();
});

test('any other name is refused', async () => {
  const { createBackend } = await import('../../src/backend/create.ts');
  expect(() => createBackend({ name: 'cuda' as 'native' })).toThrow("backend 'cuda' is none of native, wasm, reference");
  using backend = createBackend({ name: 'reference' });
  expect(backend.name).toBe('reference');
});
