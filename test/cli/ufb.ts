import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const program = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** What the program says, without the line about the backend where there is no compiler: nothing that those who use this test. */
export const withoutFallback = (stderr: string) =>
  stderr.replace(/^there is no native backend for [^\n]*; using WASM, which is slower\n/, '');

/** Runs the built program to its end. `stderr`: {@link withoutFallback}. */
export function ufb(args: readonly string[], input = '', env: Record<string, string> = {}): Promise<Ended> {
  if (!existsSync(program)) throw new Error(`${program} is missing: run 'npm run build'`);
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], { env: { ...process.env, ...env } });
    const ended: Ended = { code: null, stdout: '', stderr: '' };
    child.stdout.on('data', (text) => (ended.stdout += text));
    child.stderr.on('data', (text) => (ended.stderr += text));
    child.on('error', reject);
    child.on('close', (code) => resolve({ ...ended, stderr: withoutFallback(ended.stderr), code }));
    child.stdin.on('error', () => {}); // a program that refuses its arguments does not read
    child.stdin.end(input);
  });
}
