/**
 * `npm pack` and `npm publish` run it before (without arguments: builds everything and puts native add-ons into prebuilds/) and after (--clean).
 * With Zig the add-ons of all machines are built, else only this machine's, by its own compiler. They must not stay there: in a checkout they
 * would hide newer builds. `npm publish` also runs it with --complete, which refuses to publish unless all are there.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildPrebuilds, findZig, targets } from './build_prebuilds.mjs';
import { root, run, setUp } from './setup.mjs';

if (process.argv.includes('--clean')) rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
else if (process.argv.includes('--complete')) {
  if (!findZig()) {
    process.stderr.write('not published: without Zig (python3 -m pip install ziglang) the package would have one native add-on at most\n');
    process.exitCode = 1;
  }
} else {
  await setUp();
  const zig = findZig();
  if (zig) await buildPrebuilds(Object.keys(targets), zig);
  else {
    const musl = process.platform === 'linux' && /\/(ld-musl-[^/\n]+|libc\.so)$/m.test(readFileSync('/proc/self/maps', 'latin1'));
    const out = join('prebuilds', `${process.platform}-${process.arch}${musl ? '-musl' : ''}`);
    // Its messages go to stderr: stdout is npm's own (npm pack --json).
    if (run(process.execPath, ['scripts/build_native.mjs', '--out', out], { stdio: ['ignore', 2, 2] }) !== 0)
      process.stderr.write('the package holds no native add-on; where it is installed, WASM is used\n');
    else
      process.stderr.write(
        `the package holds the native add-on of ${out.slice('prebuilds/'.length)} alone: without Zig no others are built\n`,
      );
  }
}
