// Every operation case on the WASM builds that this page can run, against the reference.
import { WasmDevice } from '../../../src/backend/wasm.ts';
import { operationCases } from '../../backend/operation_cases.ts';
import { expectedValues, normalizedError, runCase } from '../../backend/run_case.ts';
// @ts-expect-error: plain JavaScript
import { report } from './report.js';

report(async () => {
  const builds: Record<string, { cases: number; wrong: string[] }> = {};
  for (const relaxed of [true, false]) {
    const device = new WasmDevice({ relaxed, threads: 2 });
    const wrong: string[] = [];
    for (const operationCase of operationCases) {
      const { value, atLeast } = operationCase.tolerance;
      const actual = await runCase(device, operationCase);
      const expected = await expectedValues(operationCase, false);
      for (const name in expected) {
        const error = normalizedError(actual[name], expected[name], atLeast);
        if (!(error <= (actual[name] instanceof Int32Array ? 0 : value))) wrong.push(`${operationCase.name}, ${name}: ${error}`);
      }
    }
    builds[device.build] = { cases: operationCases.length, wrong };
    device.dispose();
  }
  return builds;
});
