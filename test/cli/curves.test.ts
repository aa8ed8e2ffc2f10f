import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();

function writeLog(name: string, losses: readonly number[], secondsEach: number, layers?: { entropy: number }[]): string {
  const path = join(folder, name);
  const lines = losses.flatMap((heldOutLoss, i) => [
    { event: 'step', step: i, tokens: 1000 * (i + 1), loss: 9 },
    { event: 'evaluation', step: i, tokens: 1000 * (i + 1), seconds: secondsEach * (i + 1), heldOutLoss, layers },
  ]);
  writeFileSync(path, lines.map((line) => JSON.stringify(line)).join('\n'));
  return path;
}
const trees = writeLog('trees.jsonl', [8, 6.5, 5.25], 2, [{ entropy: 7.25 }, { entropy: 0.5 }]);
const dense = writeLog('dense.jsonl', [7, 5.125], 5);

test('ufb curves prints how each run ended, and draws both', async () => {
  const out = join(folder, 'curves.svg');
  const { code, stdout, stderr } = await ufb(['curves', `trees=${trees}`, `dense=${dense}`, '--title', '', '--out', out]);
  expect([code, stderr]).toEqual([0, `${out}\n`]);
  expect(stdout).toMatch(/^ +held-out loss, nats per predicted token +leaf use of each layer, bits +tokens/);
  expect(stdout).toMatch(/^trees +5\.2500 +7\.3 0\.5 +0\.00 M +6 +500$/m);
  expect(stdout).toMatch(/^dense +5\.1250 +0\.00 M +10 +200$/m);
  const svg = readFileSync(out, 'utf8');
  for (const text of ['token, after so many tokens', 'token, after so many seconds', 'of the layer with the fewest', '>trees<', '>dense<'])
    expect(svg).toContain(text);
  const report = JSON.parse((await ufb(['curves', `dense=${dense}`, '--json'])).stdout);
  expect(report).toEqual([
    {
      name: 'dense',
      points: [expect.objectContaining({ tokens: 1000, seconds: 5, heldOutLoss: 7 }), expect.objectContaining({ heldOutLoss: 5.125 })],
    },
  ]);
});

const agreement = (trained: number, lastState: number, vectors: number) =>
  JSON.stringify({
    event: 'agreement',
    states: [0.9, lastState],
    vectors,
    cosine: 0.5,
    tokens: 7,
    fitted: 1000,
    trained,
    seconds: trained / 100,
  });
const conversion = join(folder, 'conversion.jsonl');
writeFileSync(conversion, [agreement(0, 0.25, 0.125), '{"event":"step","loss":3}', agreement(3000, 0.75, 0.875)].join('\n'));

test('of conversions it has the last hidden state and the vectors', async () => {
  const out = join(folder, 'conversion.svg');
  const { code, stdout } = await ufb(['curves', `half=${conversion}`, '--out', out]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^ +R2 of the last hidden state +R2 of the texts' vectors +tokens/);
  expect(stdout).toMatch(/^half +0\.7500 +0\.8750 +0\.00 M +30 +133$/m);
  const svg = readFileSync(out, 'utf8');
  for (const text of ['hidden state, after so many tokens', 'vectors, after so many seconds', '>half<']) expect(svg).toContain(text);
  const [{ points }] = JSON.parse((await ufb(['curves', `half=${conversion}`, '--json'])).stdout);
  expect(points).toEqual([
    { tokens: 1000, seconds: 0, lastState: 0.25, vectors: 0.125 },
    { tokens: 4000, seconds: 30, lastState: 0.75, vectors: 0.875 },
  ]);
});

test('runs of both kinds are not drawn together', async () => {
  const out = join(folder, 'both.svg');
  const { code, stderr } = await ufb(['curves', `half=${conversion}`, `trees=${trees}`, '--out', out]);
  expect([code, existsSync(out)]).toEqual([2, false]);
  expect(stderr).toMatch(/expected runs of one kind/);
});

test('the steep beginning is left out of the picture, but not the end of a run that had no more', async () => {
  const long = writeLog('long.jsonl', [9.5, ...Array.from({ length: 39 }, (_, i) => 5 - i / 100)], 1);
  const out = join(folder, 'long.svg');
  const axis = async (...logs: string[]) => {
    await ufb(['curves', ...logs, '--out', out]);
    return readFileSync(out, 'utf8').match(/>[4-9](\.\d+)?</g);
  };
  expect(await axis(`long=${long}`)).toContain('>5<');
  expect(await axis(`long=${long}`)).not.toContain('>6<');
  expect(await axis(`long=${long}`, `short=${writeLog('short.jsonl', [6.5], 1)}`)).toContain('>6<');
});

test('logits are drawn where all the models have them', async () => {
  const path = join(folder, 'logits.jsonl');
  writeFileSync(path, agreement(3000, 0.75, 0.875).replace('"cosine"', '"logits":0.625,"cosine"'));
  expect((await ufb(['curves', `a=${path}`])).stdout).toMatch(/R2 of the logits(.|\n)*^a +0\.7500 +0\.8750 +0\.6250 /m);
  expect((await ufb(['curves', `a=${path}`, `half=${conversion}`])).stdout).toMatch(/^a +0\.7500 +0\.8750 +0\.00 M/m);
});

test('steps taken again after a crash count once, and a line that it broke off not at all', async () => {
  const path = join(folder, 'crashed.jsonl');
  const points = [
    [1000, 1, 9],
    [2000, 2, 8],
    [3000, 3, 7],
    [2000, 4, 6],
    [3000, 5, 5],
  ];
  const lines = points.map(([tokens, seconds, heldOutLoss]) => JSON.stringify({ event: 'evaluation', tokens, seconds, heldOutLoss }));
  lines.splice(3, 0, '{"event":"step","step":99,"los', '{"ev');
  writeFileSync(path, lines.join('\n'));
  const [{ points: found }] = JSON.parse((await ufb(['curves', `x=${path}`, '--json'])).stdout);
  expect(found.map(({ tokens, seconds }: { tokens: number; seconds: number }) => [tokens, seconds])).toEqual([
    [1000, 1],
    [2000, 4],
    [3000, 5],
  ]);
});

test.each([
  ['not json', /line 1: is not what 'ufb pretrain --log' or 'ufb convert --log' writes/],
  ['{"event":"evaluation","tokens":-1,"seconds":1,"heldOutLoss":2}', /line 1: is not what/],
  ['{"event":"agreement","fitted":1,"trained":1,"seconds":1,"states":[],"vectors":0.5}', /line 1: is not what/],
  [
    '{"event":"evaluation","tokens":9,"seconds":1,"heldOutLoss":2}\n{"event":"agreement","fitted":1,"trained":1,"seconds":1,"states":[0.5],"vectors":0.5}',
    /line 2: is of the other kind of run/,
  ],
  [
    '{"event":"step","tokens":1}',
    /holds nothing measured on held-out text, expected the log of a run that has some: name it with --held-out/,
  ],
])('%s is refused', async (text, message) => {
  const path = join(folder, 'wrong.jsonl');
  writeFileSync(path, text);
  const { code, stderr } = await ufb(['curves', `x=${path}`]);
  expect([code, stderr.trim().split('\n').length]).toEqual([2, 1]);
  expect(stderr).toMatch(message);
  expect((await ufb(['curves', path])).stderr).toMatch(/expected NAME=FILE/);
});

test('the picture does not take the place of a log', async () => {
  const before = readFileSync(trees);
  const { code, stderr } = await ufb(['curves', `trees=${trees}`, '--out', trees]);
  expect([code, stderr]).toEqual([2, expect.stringContaining('which is read: expected another')]);
  expect(readFileSync(trees)).toEqual(before);
});
