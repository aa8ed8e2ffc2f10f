import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { program, ufb } from './ufb.ts';

const folder = temporaryFolder();
const model = join(folder, 'tiny');
const children: ChildProcess[] = [];

beforeAll(() => writeTinyModel(model, tinyBert));
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
});

interface Program {
  child: ChildProcess;
  log: Record<string, unknown>[];
  url: string;
  /** Resolves with its exit code. */
  ended: Promise<number | null>;
}

/** The program, when it is ready. */
function started(args: readonly string[], env: Record<string, string> = {}): Promise<Program> {
  const child = spawn(process.execPath, [program, 'serve', '--json-output', '--threads', '1', ...args], {
    env: { ...process.env, ...env },
  });
  children.push(child);
  const log: Record<string, unknown>[] = [];
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  return new Promise((resolve, reject) => {
    let rest = '';
    child.stderr.on('data', (text) => {
      const lines = `${rest}${text}`.split('\n');
      rest = lines.pop() as string;
      for (const line of lines.filter((each) => each.startsWith('{'))) {
        const event = JSON.parse(line) as Record<string, unknown>;
        log.push(event);
        if (event.message === 'ready') resolve({ child, log, url: event.address as string, ended });
      }
    });
    void ended.then((code) => reject(new Error(`it ended with ${code}: ${rest}`)));
  });
}
const local = ['--hostname', '127.0.0.1', '--port', '0'];
const embed = (url: string, inputs: unknown) => fetch(`${url}/embed`, { method: 'POST', body: JSON.stringify({ inputs }) });

test('at SIGTERM it ends what is under way, takes no more, and exits with 0', async () => {
  const { child, url, log, ended } = await started(['--model', model, '--pooling', 'mean', ...local]);
  const many = new Array(4000).fill('the cat sees the house '.repeat(8));
  const underWay = embed(url, many);
  await expect.poll(async () => (await (await fetch(`${url}/metrics`)).text()).includes('te_embed_count 4000')).toBe(true);
  child.kill('SIGTERM');
  await expect.poll(() => log.some(({ message }) => message === 'stopping')).toBe(true);
  // Until the answer is sent it still says that it is not ready.
  const answers = await Promise.allSettled([fetch(`${url}/ready`), embed(url, 'a dog')]);
  for (const answer of answers) if (answer.status === 'fulfilled') expect(answer.value.status).toBe(503);
  expect(((await (await underWay).json()) as unknown[]).length).toBe(4000);
  expect(await ended).toBe(0);
});

test('what is under way is given up after --drain-seconds', async () => {
  const { child, url, ended } = await started(['--model', model, '--pooling', 'mean', '--drain-seconds', '0.05', ...local]);
  const underWay = embed(url, new Array(20000).fill('the cat sees the house '.repeat(3))).then(
    (response) => response.status,
    () => 'cut',
  );
  await expect.poll(async () => (await (await fetch(`${url}/metrics`)).text()).includes('te_embed_count 20000')).toBe(true);
  child.kill('SIGTERM');
  expect([503, 'cut']).toContain(await underWay);
  expect(await ended).toBe(0);
});

test('started again after a kill it answers, also at the socket that was left', async () => {
  const path = join(folder, 'socket');
  const first = await started(['--model', model, '--uds-path', path]);
  expect(first.url).toBe(`unix:${path}`);
  const taken = await ufb(['serve', '--model', model, '--uds-path', path]);
  expect([taken.code, taken.stderr]).toEqual([2, expect.stringContaining('is in use')]);
  first.child.kill('SIGKILL');
  await first.ended;
  expect(existsSync(path)).toBe(true);
  const { child, ended } = await started(['--model', model, '--uds-path', path]);
  const status = await new Promise((resolve, reject) => {
    const asked = request({ socketPath: path, path: '/fill_mask', method: 'POST' }, (response) => resolve(response.statusCode));
    asked.on('error', reject).end('{"inputs": "the [MASK] sees"}');
  });
  expect(status).toBe(200);
  child.kill('SIGINT');
  expect(await ended).toBe(0);
});

test('options come from the environment as well; several models have names', async () => {
  const env = {
    MODEL_ID: `${model},${model}`,
    SERVED_MODEL_NAME: 'one,two',
    API_KEY: 'secret',
    MAX_CONCURRENT_REQUESTS: '7',
    AUTO_TRUNCATE: 'false',
  };
  const { child, url, ended } = await started(local, env);
  const info = (await (await fetch(`${url}/info`, { headers: { authorization: 'Bearer secret' } })).json()) as Record<string, unknown>;
  expect(info).toMatchObject({
    max_concurrent_requests: 7,
    auto_truncate: false,
    models: [{ served_model_name: 'one' }, { served_model_name: 'two' }],
  });
  child.kill('SIGTERM');
  expect(await ended).toBe(0);
});

test('what cannot be served is told before anything is opened', async () => {
  const refused = async (...args: string[]) => {
    const { code, stderr } = await ufb(['serve', ...local, ...args]);
    expect(code, stderr).toBe(2);
    return stderr;
  };
  expect(await refused()).toContain('no model is named: give one by --model');
  expect(await refused('--model', join(folder, 'nowhere'))).toContain('no such folder');
  expect(await refused('--model', model, '--model', model)).toContain('two models are called tiny');
  expect(await refused('--model', model, '--served-model-name', 'a', '--served-model-name', 'b')).toContain('expected as many');
  expect(await refused('--model', model, '--pooling', 'sum')).toContain('pooling: got "sum"');
  expect(await refused('--model', model, '--default-prompt', 'query: ')).toContain('no prompt is put before other texts');
  const taken = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as { port: number };
  expect(await refused('--model', model, '--port', `${port}`)).toContain(`127.0.0.1:${port} is in use`);
  taken.close();
});
