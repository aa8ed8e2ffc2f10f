import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { ufb } from './ufb.ts';

/** What a shell is offered: the words that begin as the last one, without their descriptions. */
const offered = async (...words: string[]) =>
  (await ufb(['complete', '--', ...words])).stdout
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith(':'))
    .map((line) => line.split('\t')[0]);

test('commands, options and their choices', async () => {
  expect(await offered('fi')).toEqual(['fill-mask', 'finetune']);
  expect(await offered('bench', 'la')).toEqual(['layer']);
  expect(await offered('fill-mask', '--th')).toEqual(['--threads']);
  expect(await offered('embed', '--device', '')).toEqual(['native', 'wasm', 'webgpu', 'reference']);
});

test('files where there is nothing else', async () => {
  expect((await ufb(['complete', '--', 'embed', '--in', ''])).stdout).toBe(':0\n');
  expect((await ufb(['complete', '--', 'embed', '--device', ''])).stdout).toMatch(/\n:4\n$/);
});

test.each(['bash', 'zsh', 'fish', 'powershell'])('a script for %s', async (shell) => {
  const { code, stdout, stderr } = await ufb(['completion', shell]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/ufb complete '?--/);
  if (shell === 'bash') execFileSync('bash', ['-n'], { input: stdout });
});

test('other shells are refused', async () => {
  const { code, stderr } = await ufb(['completion', 'tcsh']);
  expect(code).toBe(2);
  expect(stderr).toMatch(/^ufb: [^\n]*tcsh[^\n]*bash, zsh, fish, powershell/);
});

test('short flags of the common options', async () => {
  const { code, stdout } = await ufb(['fill-mask', '-d', 'reference', '-k', '1', '-j', '-q', 'The sea is [MASK].']);
  expect(code).toBe(0);
  expect(JSON.parse(stdout).answers[0].blanks[0]).toHaveLength(1);
});
