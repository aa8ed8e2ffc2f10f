import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { JsonLog } from '../../src/cli/progress.ts';
import { temporaryFolder } from '../temporary.ts';

const folder = temporaryFolder();

test('a log is added to, and a line that a crash broke off does not take the next one with it', async () => {
  const path = join(folder, 'log.jsonl');
  for (const [before, after] of [
    [undefined, '{"a":1}\n'],
    ['{"b":2}\n', '{"b":2}\n{"a":1}\n'],
    ['{"b":', '{"b":\n{"a":1}\n'],
  ]) {
    if (before !== undefined) writeFileSync(path, before);
    const log = await JsonLog.open(path);
    log.write({ a: 1 });
    await log.close();
    expect(readFileSync(path, 'utf8')).toBe(after);
  }
});

test('a log that cannot be written: why, in words', async () => {
  await expect(JsonLog.open(join(folder, 'missing', 'log.jsonl'))).rejects.toThrow(/log\.jsonl: cannot write: no such file/);
});

// Linux has a file that is always full.
test.runIf(process.platform === 'linux')('a log that was cut short by a full disk is no success', async () => {
  const log = await JsonLog.open('/dev/full');
  log.write({ a: 1 });
  await expect(log.close()).rejects.toThrow('ENOSPC');
});
