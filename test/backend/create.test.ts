import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { loadAddon } from '../../src/backend/native_loader.ts';

// The add-on is looked for once a process: each test loads the modules afresh.
beforeEach(() => vi.resetModules());
afterEach(() => vi.unstubAllEnvs());

test('UFB_NATIVE=0 falls back to WASM and says so in one line', async () => {
  vi.stubEnv('UFB_NATIVE', '0');
  const { deviceNotice, createDevice } = await import('../../src/backend/create.ts');
  using device = await createDevice();
  expect(device.name).toBe('wasm');
  expect(deviceNotice()).toMatch(/^the native backend is turned off by UFB_NATIVE=0; using WASM[^\n]*$/);
  await expect(createDevice({ name: 'native' })).rejects.toThrow('UFB_NATIVE=0');
});

test.skipIf(!loadAddon().addon)('native where it loads, with as many threads as asked for', async () => {
  const { deviceNotice, createDevice } = await import('../../src/backend/create.ts');
  using device = await createDevice({ threads: 3 });
  expect(device.name).toBe('native');
  expect(device.threads).toBe(3);
  expect(deviceNotice()).toBeUndefined();
});

test('any other name is refused', async () => {
  const { createDevice } = await import('../../src/backend/create.ts');
  await expect(createDevice({ name: 'cuda' as 'native' })).rejects.toThrow("device 'cuda' is none of native, wasm, webgpu, reference");
  using device = await createDevice({ name: 'reference' });
  expect(device.name).toBe('reference');
});
