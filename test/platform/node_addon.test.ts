import { expect, test } from 'vitest';
// @ts-expect-error a script of the project, without types
import { targets } from '../../scripts/build_prebuilds.mjs';
import { machineName } from '../../src/platform/node_addon.ts';

test('the machine at hand is called as its prebuilt add-on is', () => {
  const name = machineName();
  expect(name).toMatch(new RegExp(`^${process.platform}-${process.arch}(-musl)?$`));
  // A system that has musl besides does not make a process of glibc one of musl.
  const { glibcVersionRuntime } = (process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }).header;
  if (process.platform === 'linux') expect(name.endsWith('-musl')).toBe(glibcVersionRuntime === undefined);
});

test('six systems and more are built for', () => {
  expect(Object.keys(targets).sort()).toEqual([
    'darwin-arm64',
    'darwin-x64',
    'linux-arm64',
    'linux-arm64-musl',
    'linux-x64',
    'linux-x64-musl',
    'win32-x64',
  ]);
});
