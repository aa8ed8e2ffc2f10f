/**
 * `npm test`: sets up, checks style, types and the direction of imports, then runs every test. With arguments (`npm test -- test/io`)
 * only the tests they name. The last line counts the tests.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root, runTool, setUp } from './setup.mjs';

setUp();
const named = process.argv.slice(2);
const failed = [];
if (named.length === 0) {
  const checks = [
    ['style', '@biomejs/biome/bin/biome', ['check', '--error-on-warnings']],
    ['types', 'typescript/bin/tsc', ['--noEmit']],
    ['direction of imports', 'dependency-cruiser/bin/dependency-cruise.mjs', ['--config', '.dependency-cruiser.cjs', 'src']],
  ];
  for (const [name, tool, args] of checks) {
    process.stdout.write(`checking ${name} ...\n`);
    if (runTool(tool, args) !== 0) failed.push(name);
  }
}

const results = join(root, 'build', 'test-results.json');
rmSync(results, { force: true });
const code = runTool('vitest/vitest.mjs', ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${results}`, ...named]);
const counts = readCounts();
if (code !== 0 && counts.failed === 0) counts.failed = 1; // a file that could not be loaded, or an error outside of any test

for (const name of failed) process.stdout.write(`the check of ${name} failed\n`);
process.stdout.write(
  `${counts.passed} passed, ${counts.failed + failed.length} failed${counts.skipped ? `, ${counts.skipped} skipped` : ''}\n`,
);
process.exitCode = counts.failed + failed.length > 0 || counts.passed === 0 ? 1 : 0;

function readCounts() {
  try {
    const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(readFileSync(results, 'utf8'));
    return { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests + numTodoTests };
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
}
