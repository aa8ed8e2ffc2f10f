/**
 * Measures `ufb serve` under load, with texts of mixed lengths:
 *   node scripts/load.mjs --model MODEL [--seconds 10] [--connections 32] [--requests 100000] [--threads 2]
 * 1. requests a second, p50 and p99 beside a plain loop over the pipeline, onnxruntime-node behind the same HTTP server, and
 *    sentence-transformers where the Python of UFB_PYTHON has it;
 * 2. at twice the requests a second that it holds: p99 of what it accepts, and how much gets 429;
 * 3. memory over many requests;
 * 4. kill -9 and a new start in the middle: what is lost.
 * Run it on a machine where nothing else runs. One process sends and one answers: on few cores they take time from each other.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import { root } from './setup.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    seconds: { type: 'string', default: '10' },
    connections: { type: 'string', default: '32' },
    requests: { type: 'string', default: '100000' },
    threads: { type: 'string', default: '2' },
  },
});
if (!values.model) throw new Error('expected --model, a folder');
const [seconds, connections, total] = [values.seconds, values.connections, values.requests].map(Number);
const program = join(root, 'dist/cli.js');

/** Texts of 3 to 150 words, most of them short, the same in each run. */
const words = 'time person year way day thing man world life hand part child eye woman place work week case point government'.split(' ');
let state = 1;
const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
const bodies = Array.from({ length: 500 }, () => {
  const length = Math.min(150, Math.round(3 * (1 - random()) ** -0.9));
  return JSON.stringify({ inputs: Array.from({ length }, () => words[Math.floor(random() * words.length)]).join(' ') });
});
const requests = bodies.map((body) => ({ method: 'POST', path: '/embed', headers: { 'content-type': 'application/json' }, body }));
const load = (url, options) => autocannon({ url, requests, timeout: 60, ...options });

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

async function ready(url, child) {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`);
    if (
      await fetch(`${url}/ready`).then(
        ({ ok }) => ok,
        () => false,
      )
    )
      return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function ufbServe(port, ...more) {
  const args = ['serve', '--model', values.model, '--hostname', '127.0.0.1', '--port', `${port}`, '--threads', values.threads, ...more];
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'ignore', 'ignore'] });
  const url = `http://127.0.0.1:${port}`;
  await ready(url, child);
  return { url, child };
}

async function peer(command, args) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const { value: url } = await lines.next();
  return url ? { url, child } : undefined;
}

async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'close');
  child.kill('SIGTERM');
  await ended;
}

const print = (line) => process.stdout.write(`${line}\n`);
const row = (name, { requests: { average }, latency: { p50, p99 }, non2xx, errors }) =>
  `| ${name} | ${average.toFixed(0)} | ${p50} | ${p99} | ${non2xx + errors} |`;

print(`| server, ${connections} connections | requests a second | p50 ms | p99 ms | not answered |\n|---|---|---|---|---|`);
const peers = {
  'ufb serve': async () => ufbServe(await freePort()),
  'plain loop': () => peer(process.execPath, [join(root, 'scripts/load_peer.mjs'), 'loop', values.model, values.threads]),
  'onnxruntime-node': () => peer(process.execPath, [join(root, 'scripts/load_peer.mjs'), 'onnx', values.model, values.threads]),
  ...(process.env.UFB_PYTHON
    ? { 'sentence-transformers': () => peer(process.env.UFB_PYTHON, [join(root, 'scripts/load_peer.py'), values.model, values.threads]) }
    : {}),
};
let held = 0;
let calm = 0;
for (const [name, start] of Object.entries(peers)) {
  const server = await start();
  if (!server) {
    print(`| ${name} | did not start | | | |`);
    continue;
  }
  await load(server.url, { connections, amount: 4 * connections });
  const result = await load(server.url, { connections, duration: seconds });
  if (name === 'ufb serve') [held, calm] = [result.requests.average, result.latency.p99];
  print(row(name, result));
  await end(server.child);
}

// As many texts under way as gave that p99; twice the requests come as that are answered.
const limited = await ufbServe(await freePort(), '--max-concurrent-requests', `${connections}`);
const accepted = [];
const double = autocannon({
  url: limited.url,
  requests,
  connections: 8 * connections,
  overallRate: Math.round(2 * held),
  duration: seconds,
  timeout: 60,
});
double.on('response', (_, status, __, milliseconds) => status === 200 && accepted.push(milliseconds));
const overload = await double;
accepted.sort((a, b) => a - b);
const p99 = accepted[Math.floor(0.99 * accepted.length)] ?? Number.NaN;
const refused = overload.statusCodeStats?.['429']?.count ?? 0;
print(
  `\nat twice the load (${Math.round(2 * held)} a second): ${accepted.length} answered, p99 ${p99.toFixed(0)} ms, ${(p99 / calm).toFixed(2)} times as long; ${refused} refused with 429; ${overload.errors} errors`,
);
await end(limited.child);

const lasting = await ufbServe(await freePort());
const memory = async () =>
  Number(/^process_resident_memory_bytes (\S+)/m.exec(await (await fetch(`${lasting.url}/metrics`)).text())?.[1]) / 2 ** 20;
const parts = 10;
const sizes = [];
for (let part = 0; part < parts; part++) {
  await load(lasting.url, { connections, amount: Math.ceil(total / parts) });
  sizes.push(await memory());
}
print(`\nmemory over ${total} requests, MiB after each tenth: ${sizes.map((size) => size.toFixed(0)).join(' ')}`);
await end(lasting.child);

const port = await freePort();
let killed = await ufbServe(port);
const outcomes = { answered: 0, lost: 0 };
const until = Date.now() + 1000 * seconds;
const clients = Array.from({ length: connections }, async (_, client) => {
  for (let i = client; Date.now() < until; i++) {
    const isAnswered = await fetch(`${killed.url}/embed`, requests[i % requests.length]).then(
      async (response) => response.ok && (await response.json()).length === 1,
      () => false,
    );
    outcomes[isAnswered ? 'answered' : 'lost']++;
    // A client of a server that is not there waits.
    if (!isAnswered) await ready(killed.url, killed.child).catch(() => new Promise((resolve) => setTimeout(resolve, 100)));
  }
});
await new Promise((resolve) => setTimeout(resolve, 300 * seconds));
killed.child.kill('SIGKILL');
killed = await ufbServe(port);
await Promise.all(clients);
print(`\nkill -9 and a new start: ${outcomes.answered} answered, ${outcomes.lost} attempts not, ${connections} clients`);
await end(killed.child);
