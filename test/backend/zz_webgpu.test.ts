import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { webGpuMissing } from './webgpu_driver.ts';
import { WebGpuDevice } from '../../src/backend/webgpu/device.ts';
import { operationCases } from './operation_cases.ts';
import { expectedValues, gradientErrors, normalizedError, runCase } from './run_case.ts';

void webGpuMissing;
describe.each([true, false])('subgroups %s', (subgroups) => {
  let device: WebGpuDevice;
  beforeAll(async () => {
    device = await WebGpuDevice.open({ subgroups });
    console.log(device.description);
  });
  afterAll(() => device?.dispose());
  for (const operationCase of operationCases) {
    test(operationCase.name, async () => {
      const actual = await runCase(device, operationCase);
      const expected = await expectedValues(operationCase, false);
      const { value, reason, atLeast } = operationCase.tolerance;
      for (const name in expected) {
        const integers = actual[name] instanceof Int32Array;
        const error = normalizedError(actual[name], expected[name], atLeast);
        expect(error, `${name} (${reason})`).toBeLessThanOrEqual(integers ? 0 : value);
      }
      if (!operationCase.gradient) return;
      for (const [name, error] of Object.entries(await gradientErrors(operationCase, actual))) {
        expect(error, `${name} against finite differences`).toBeLessThanOrEqual(2e-5);
      }
    });
  }
});
