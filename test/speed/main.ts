/** `npm run speed`: times every speed case; see CONTRIBUTING.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { createDevice } from '../../src/backend/create.ts';
import { measure } from './measure.ts';
import { compare, counterpart, lineOf, type SpeedRun } from './report.ts';
import { speedCases } from './speed_cases.ts';

const { values: options } = parseArgs({
  options: {
    out: { type: 'string' },
    compare: { type: 'string' },
    only: { type: 'string' },
    device: { type: 'string', default: 'native' },
    threads: { type: 'string' },
    samples: { type: 'string', default: '15' },
  },
});
const before = options.compare ? (JSON.parse(readFileSync(options.compare, 'utf8')) as SpeedRun) : undefined;
const cases = speedCases.filter(({ name }) => new RegExp(options.only ?? '').test(name));
using device = await createDevice({ name: options.device as 'native', threads: options.threads ? Number(options.threads) : undefined });
const label = `${device.name} (${device.description})`;
const run: SpeedRun = { machine: cpus()[0].model, results: [] };
console.log(`${label} on ${run.machine}; time a call, spread of the middle half${before ? '; x: this run over the other' : ''}`);
let slower = 0;
for (const speedCase of cases) {
  const { name, operations, bytes } = speedCase;
  const result = { device: label, name, operations, bytes, ...(await measure(device, speedCase, Number(options.samples))) };
  const other = before && counterpart(result, before);
  if (other && compare(result, other).verdict === 'slower') slower++;
  console.log(lineOf(result, other));
  run.results.push(result);
}
if (before) console.log(`${slower} of ${run.results.length} slower than in ${options.compare}`);
if (options.out) writeFileSync(options.out, `${JSON.stringify(run, undefined, 1)}\n`);
