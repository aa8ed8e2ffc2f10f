/**
 * A program for machines that run no tests: every operation case on each instruction set of the native backend, against the reference, on one
 * thread and on three. scripts/check_prebuild.mjs bundles it and runs it beside a prebuilt add-on. Arguments: the file that it writes its
 * report to, and the most elements that an operand of a case may have (emulated machines are slow).
 */
import { writeFileSync } from 'node:fs';
import { NativeDevice } from '../../src/backend/native.ts';
import { loadAddon } from '../../src/backend/native_loader.ts';
import { operationCases } from '../backend/operation_cases.ts';
import { expectedValues, normalizedError, operandsOf, runCase } from '../backend/run_case.ts';

const [file, most] = process.argv.slice(2);
const { addon, path, reason } = loadAddon();
const failures: string[] = [];
const cases = operationCases.filter((one) => Object.values(operandsOf(one)).every(({ values }) => values.length <= Number(most)));

async function check(instructionSet: string): Promise<void> {
  using one = new NativeDevice({ threads: 1, instructionSet });
  using three = new NativeDevice({ threads: 3, instructionSet });
  for (const operationCase of cases) {
    const { name: label, tolerance } = operationCase;
    try {
      const [actual, again] = [await runCase(one, operationCase), await runCase(three, operationCase)];
      const expected = await expectedValues(operationCase, false);
      for (const name in expected) {
        const error = normalizedError(actual[name], expected[name], tolerance.atLeast);
        const allowed = actual[name] instanceof Int32Array ? 0 : tolerance.value;
        if (!(error <= allowed)) failures.push(`${instructionSet}, ${label}, ${name}: off by ${error}, allowed is ${allowed}`);
        if (normalizedError(again[name], actual[name]) !== 0)
          failures.push(`${instructionSet}, ${label}, ${name}: three threads differ from one`);
      }
    } catch (error) {
      failures.push(`${instructionSet}, ${label}: ${(error as Error).message}`);
    }
  }
}

for (const instructionSet of addon?.instructionSets ?? []) await check(instructionSet);
writeFileSync(
  file,
  JSON.stringify({ path, reason, instructionSets: addon?.instructionSets ?? [], cases: cases.length, of: operationCases.length, failures }),
);
