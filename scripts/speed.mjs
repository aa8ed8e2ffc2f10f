/** `npm run speed`: bundles test/speed, which is TypeScript, and runs it. Arguments are test/speed/main.ts's. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'tsdown';
import { root, setUp } from './setup.mjs';

await setUp();
const outDir = join(root, 'build', 'speed');
await build({
  cwd: root,
  config: false,
  entry: { main: 'test/speed/main.ts' },
  outDir,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  dts: false,
  fixedExtension: false,
  logLevel: 'error',
});
await import(pathToFileURL(join(outDir, 'main.js')).href);
