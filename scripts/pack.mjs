/**
 * `npm pack` runs it before (without arguments: builds everything and puts the native add-on into prebuilds/) and after (--clean). The
 * add-on must not stay there: in a checkout it would hide newer builds.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { root, run, setUp } from './setup.mjs';

if (process.argv.includes('--clean')) rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
else {
  await setUp();
  const out = join('prebuilds', `${process.platform}-${process.arch}`);
  // Its messages go to stderr: stdout is npm's own (npm pack --json).
  if (run(process.execPath, ['scripts/build_native.mjs', '--out', out], { stdio: ['ignore', 2, 2] }) !== 0) {
    process.stderr.write('the package holds no native add-on; it will be built where the package is installed\n');
  }
}
