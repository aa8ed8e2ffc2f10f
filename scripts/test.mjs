/**
 * `npm test`: sets up, checks style, types and the direction of imports, then runs the tests but for a few slow files, which `npm run
 * test:all` runs too. With arguments (`npm test -- test/io`) only the tests they name. The last line counts the tests.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { elapsed, root, runTool, setUp } from './setup.mjs';

/** Files and folders that take a third of the time of all tests: a hundred thousand tokens' ways, models of full size, installing the package. */
const slow = ['test/backend/routing.test.ts', 'test/models/full_size.test.ts', 'test/package', 'test/retrieval/minilm.test.ts'];
const moved = slow.find((path) => !existsSync(join(root, path)));
if (moved) throw new Error(`scripts/test.mjs: ${moved} is not there any more`);

const started = Date.now();
const all = process.argv.includes('--all');
const named = process.argv.slice(2).filter((argument) => argument !== '--all');
if (named.length === 0)
  process.stdout.write(
    all
      ? 'all checks and tests: about 12 minutes on two idle cores\n'
      : `checks and tests: about 5 minutes on two idle cores (npm run test:all also runs ${slow.join(', ')})\n`,
  );
await setUp();
const failed = [];
if (named.length === 0) {
  const checks = [
    ['style', '@biomejs/biome/bin/biome', ['check', '--error-on-warnings']],
    ['types', 'typescript/bin/tsc', ['--noEmit']],
    ['direction of imports', 'dependency-cruiser/bin/dependency-cruise.mjs', ['--config', '.dependency-cruiser.cjs', 'src']],
    ['the API reference', 'typedoc/bin/typedoc', []],
  ];
  for (const [name, tool, args] of checks) {
    process.stdout.write(`checking ${name} ...\n`);
    if (runTool(tool, args) !== 0) failed.push(name);
  }
}

const results = join(root, 'build', 'test-results.json');
rmSync(results, { force: true });
const reporters = ['--reporter=default', '--reporter=./scripts/test_progress.mjs', '--reporter=json', `--outputFile.json=${results}`];
const left = named.length > 0 || all ? [] : slow.flatMap((path) => ['--exclude', path.endsWith('.ts') ? path : `${path}/**`]);
const code = runTool('vitest/vitest.mjs', ['run', ...reporters, ...left, ...named]);
const counts = readCounts();
if (code !== 0 && counts.failed === 0) counts.failed = 1; // a file that could not be loaded, or an error outside of any test

if (left.length > 0) process.stdout.write(`not run: ${slow.join(', ')} (npm run test:all)\n`);
process.stdout.write(`took ${elapsed(started)}\n`);
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
