import { expect, onTestFinished, test } from 'vitest';
import { onAbort } from '../src/abort.ts';

test('however many wait for one signal, it has one listener, and nobody is warned of a leak', async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on('warning', onWarning);
  onTestFinished(() => void process.off('warning', onWarning));
  const stop = new AbortController();
  const called: number[] = [];
  const ends = Array.from({ length: 30 }, (_, i) => onAbort(stop.signal, () => void called.push(i)));
  await new Promise((resolve) => setImmediate(resolve));
  expect(warnings).toEqual([]);
  for (const end of ends.slice(2)) end();
  stop.abort();
  expect(called).toEqual([0, 1]);
});

test('what ends while others are called is not called, and a signal that nobody waits for can be waited for again', () => {
  const stop = new AbortController();
  const called: string[] = [];
  onAbort(stop.signal, () => void called.push('ended'))();
  onAbort(stop.signal, () => void called.push('again'));
  stop.abort();
  expect(called).toEqual(['again']);
});
