import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { notice, print } from '../../src/cli/common.ts';
import { JsonLog, type LogEntry, ProgressBar, progressLine } from '../../src/cli/progress.ts';
import { temporaryFolder } from '../temporary.ts';

const folder = temporaryFolder();

/** What is written, both streams being a terminal. */
function watchTerminal(): { written: string } {
  const seen = { written: '' };
  for (const stream of [process.stdout, process.stderr]) {
    const before = Object.getOwnPropertyDescriptor(stream, 'isTTY');
    Object.defineProperty(stream, 'isTTY', { value: true, configurable: true });
    const spy = vi.spyOn(stream, 'write').mockImplementation((text) => {
      seen.written += text;
      return true;
    });
    onTestFinished(() => {
      spy.mockRestore();
      if (before) Object.defineProperty(stream, 'isTTY', before);
      else Reflect.deleteProperty(stream, 'isTTY');
    });
  }
  return seen;
}

test('a bar makes way for what is printed, and leaves the terminal as it was', () => {
  const seen = watchTerminal();
  const bar = new ProgressBar({}, '{what}  ');
  bar.update(0.25, 10, { what: 'a step' });
  expect(seen.written).toContain('25.0 %  a step  30 s left');
  seen.written = '';
  notice('a notice', {});
  print('a result');
  expect(seen.written).toBe('\r\u001b[Ka notice\n\r\u001b[Ka result\n');
  bar.stop();
  seen.written = '';
  notice('another', {});
  expect(seen.written).toBe('another\n');
});

test('a bar neither keeps a place to go back to nor changes what the terminal does with long lines', () => {
  const seen = watchTerminal();
  const bar = new ProgressBar({});
  bar.update(0.5, 1);
  bar.stop();
  for (const code of ['\u001b7', '\u001b8', '\u001b[?7l', '\u001b[?25l']) expect(seen.written).not.toContain(code);
  new ProgressBar({ quiet: true }).update(0.5, 1);
});

test('a line fits its terminal: what tells least gives way, and the bar where it has no room', () => {
  const line = (columns: number) => progressLine(0.253, ['step 1234  ', 'loss 3.217  ', '14814 tokens/s  '], '12 min', columns);
  expect(line(100)).toBe(`${'█'.repeat(6)}${'░'.repeat(18)} 25.3 %  step 1234  loss 3.217  14814 tokens/s  12 min left`);
  expect(line(70)).toBe(`${'█'.repeat(3)}${'░'.repeat(7)} 25.3 %  step 1234  loss 3.217  14814 tokens/s  12 min left`);
  expect(line(60)).toBe('25.3 %  step 1234  loss 3.217  14814 tokens/s  12 min left');
  expect(line(50)).toBe('██░░░░ 25.3 %  step 1234  loss 3.217  12 min left');
  expect(line(40)).toBe('██░░░░░░ 25.3 %  step 1234  12 min left');
  expect(line(20)).toBe('25.3 %  12 min left');
  for (let columns = 1; columns < 120; columns++) expect(line(columns).length).toBeLessThan(Math.max(columns, 2));
});

test('a bar asks its terminal how wide it is', () => {
  const seen = watchTerminal();
  const before = Object.getOwnPropertyDescriptor(process.stderr, 'columns');
  Object.defineProperty(process.stderr, 'columns', { value: 40, configurable: true });
  onTestFinished(() => {
    if (before) Object.defineProperty(process.stderr, 'columns', before);
    else Reflect.deleteProperty(process.stderr, 'columns');
  });
  const bar = new ProgressBar({}, 'step {step}  loss {loss}  {rate} tokens/s  ');
  bar.update(0.5, 60, { step: 1234, loss: '3.217', rate: 14814 });
  expect(seen.written).toContain('50.0 %  step 1234  60 s left');
  expect(seen.written).not.toContain('loss');
  bar.stop();
});

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

test('a log that nothing was written to is removed again, but not with what another run wrote', async () => {
  const path = join(folder, 'shared.jsonl');
  const [first, second] = [await JsonLog.open(path), await JsonLog.open(path)];
  second.write({ a: 1 });
  await second.close();
  await first.close();
  expect(readFileSync(path, 'utf8')).toBe('{"a":1}\n');
  const unused = join(folder, 'unused.jsonl');
  await (await JsonLog.open(unused)).close();
  expect(existsSync(unused)).toBe(false);
});

test('a log makes the folders above it, and takes them away if nothing was written', async () => {
  const path = join(folder, 'a', 'b', 'log.jsonl');
  await (await JsonLog.open(path)).close();
  expect(existsSync(join(folder, 'a'))).toBe(false);
  const log = await JsonLog.open(path);
  log.write({ a: 1 });
  await log.close();
  expect(readFileSync(path, 'utf8')).toBe('{"a":1}\n');
});

test('a log that cannot be written: why, in words', async () => {
  await expect(JsonLog.open(join(folder, 'shared.jsonl', 'log.jsonl'))).rejects.toThrow(
    /log\.jsonl: cannot write: a part of the path is not a folder/,
  );
});

describe('a run that goes on', () => {
  const isRepeated = ({ step }: LogEntry) => typeof step === 'number' && step > 2;
  const step = (number: number) => `{"event":"step","step":${number}}\n`;
  const start = (id: string, number = 0) => `{"event":"start","id":"${id}","step":${number}}\n`;
  const own = `${start('own')}${step(1)}${step(2)}{"event":"checkpoint","step":2}\n`;
  test.each([
    ['what came after the last save is taken away', `${own}${step(3)}${step(4)}`, own, true],
    ['so is a line that was broken off', `${own}${step(3)}{"event":"st`, own, true],
    ['so is what an earlier try to go on had logged', `${own}${step(3)}${start('own', 2)}${step(3)}`, own, true],
    ['so is another start of its own', `${own}${start('own', 2)}${step(3)}${step(4)}`, own, true],
    ['a log of an older version has no starts', `${step(1)}${step(2)}${step(3)}`, `${step(1)}${step(2)}`, true],
    ['nothing is lost where there is nothing to take away', own, own, true],
    ["another run's lines stay", `${own}${step(3)}${start('other')}${step(1)}${step(2)}${step(3)}`, undefined, false],
    [
      'more than a block',
      `${'{"event":"other","what":"x"}\n'.repeat(9000)}${step(2)}${Array.from({ length: 5000 }, (_, i) => step(i + 3)).join('')}`,
      `${'{"event":"other","what":"x"}\n'.repeat(9000)}${step(2)}`,
      true,
    ],
  ])('%s', async (_, before, kept = before, isWhole) => {
    const path = join(folder, 'resumed.jsonl');
    writeFileSync(path, before);
    const log = await JsonLog.open(path);
    expect(await log.start({ id: 'own', step: 2 }, isRepeated)).toBe(isWhole);
    log.write({ event: 'step', step: 3 });
    await log.close();
    expect(readFileSync(path, 'utf8')).toBe(`${kept}${start('own', 2)}${step(3)}`);
  });
});

// Linux has a file that is always full.
test.runIf(process.platform === 'linux')('a log that was cut short by a full disk is no success', async () => {
  const log = await JsonLog.open('/dev/full');
  log.write({ a: 1 });
  await expect(log.close()).rejects.toThrow('/dev/full: cannot write: no space is left on the disk');
});
