#!/usr/bin/env node
// Runs every operation case on a prebuilt add-on, in a Node of the machine that it is for: this one, or one that an emulator runs.
//
//   node scripts/check_prebuild.mjs NAME [--most ELEMENTS] [COMMAND ...]
//
// NAME is a folder of prebuilds/. COMMAND starts Node, by default this one: `qemu-aarch64-static -L /usr/aarch64-linux-gnu node`, or `wine
// node.exe`. --most leaves cases out with operands of more elements. Exit code 0: the add-on loads, and every case agrees with the reference.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'tsdown';
import { root } from './setup.mjs';

const [name, ...rest] = process.argv.slice(2);
const most = rest[0] === '--most' ? rest.splice(0, 2)[1] : '1000000';
const command = rest.length > 0 ? rest : [process.execPath];
const folder = join(root, 'build', 'check', name);
const prebuilt = join('prebuilds', name, 'ufb.node');
if (!existsSync(join(root, prebuilt))) throw new Error(`no ${prebuilt}: node scripts/build_prebuilds.mjs ${name}`);

rmSync(folder, { recursive: true, force: true });
mkdirSync(join(folder, 'prebuilds', name), { recursive: true });
copyFileSync(join(root, prebuilt), join(folder, prebuilt));
// The folder is a package of that name: the loader finds its add-on, and no other.
writeFileSync(join(folder, 'package.json'), '{ "name": "ultrafastbert", "type": "module" }');
await build({
  config: false,
  entry: { program: join(root, 'test/package/operations_program.ts') },
  outDir: folder,
  clean: false,
  target: 'node20',
  logLevel: 'error',
  dts: false,
  banner: { js: "Symbol.dispose ??= Symbol.for('Symbol.dispose');" },
});

const started = Date.now();
const { status, error } = spawnSync(command[0], [...command.slice(1), 'program.js', 'report.json', most], {
  cwd: folder,
  // Wine's pipes are no streams that Node knows.
  stdio: 'inherit',
  env: { ...process.env, NODE_SKIP_PLATFORM_CHECK: '1' },
});
if (error) throw error;
if (status !== 0 || !existsSync(join(folder, 'report.json'))) throw new Error(`${command.join(' ')} ended with code ${status}`);
const report = JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8'));
for (const failure of report.failures) process.stdout.write(`${failure}\n`);
process.stdout.write(
  `${name}: ${report.reason ?? `${report.instructionSets.join(', ')}: ${report.cases} of ${report.of} cases, ${report.failures.length} failures`}, ${Math.round((Date.now() - started) / 1000)} s\n`,
);
if (report.reason || report.failures.length > 0) process.exitCode = 1;
