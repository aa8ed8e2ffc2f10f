/** `npm start`: sets up what is not set up yet, then fills the blanks in the sentences given, or in a few of the project's own. */
import { join } from 'node:path';
import { root, run, setUp } from './setup.mjs';

await setUp();
process.exitCode = run(process.execPath, [join(root, 'dist', 'cli.js'), 'fill-mask', ...process.argv.slice(2)]);
