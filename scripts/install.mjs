/**
 * Runs when the package is installed: builds the native add-on if none was packed that loads here. Installing never fails for want of
 * it: without a compiler WASM takes over and says so. In a checkout, scripts/setup.mjs does this instead.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const packed = join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'ufb.node');
// In a process of its own: one that was built for another C library ends it, or is refused.
const loads = (file) => existsSync(file) && spawnSync(process.execPath, ['-e', 'require(process.argv[1])', file]).status === 0;
if (!existsSync(join(root, 'src')) && !loads(packed)) {
  spawnSync(process.execPath, [join(root, 'scripts', 'build-native.mjs')], { cwd: root, stdio: 'inherit' });
}
