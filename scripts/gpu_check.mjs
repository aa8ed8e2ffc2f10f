/**
 * Checks and times WebGPU on this machine's graphics processor, in a few minutes: trees of depth 11 beside a dense layer of 4,095 neurons,
 * both ours, and a whole layer's answer beside the reference's. It needs the built package (npm run build) and the package webgpu
 * (npm install); Deno runs it too. Prints a table to copy.
 *
 *   node scripts/gpu_check.mjs [--trials 7] [--seconds 0.5]
 */
import { parseArgs } from 'node:util';
import { createDevice } from '../dist/nn.js';

const { values } = parseArgs({ options: { trials: { type: 'string', default: '7' }, seconds: { type: 'string', default: '0.5' } } });
const [trials, seconds] = [Number(values.trials), Number(values.seconds)];
const [width, depth] = [768, 11];
const neurons = 2 ** (depth + 1) - 1;

/** Repeatable values of about unit variance, times `deviation`. */
function normals(count, deviation, seed) {
  const array = new Float32Array(count);
  let state = seed;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < count; i++) array[i] = deviation * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return array;
}

const arrays = {
  nodes: normals(neurons * 2 * width, 1 / Math.sqrt(width), 1),
  bias: normals(neurons, 0.1, 2),
  up: normals(neurons * width, 1 / Math.sqrt(width), 3),
  down: normals(neurons * width, 1 / Math.sqrt(neurons), 4),
};

/** The two layers on a device, as functions that queue a pass over so many tokens. */
function layers(device, tokens) {
  const input = device.tensor('input', [tokens, width], 'f32', normals(tokens * width, 1, 5));
  const nodes = device.tensor('nodes', [neurons, 2 * width], 'f32', arrays.nodes);
  const bias = device.tensor('bias', [neurons], 'f32', arrays.bias);
  const up = device.tensor('up', [neurons, width], 'f32', arrays.up);
  const down = device.tensor('down', [width, neurons], 'f32', arrays.down);
  const hidden = device.tensor('hidden', [tokens, neurons]);
  const output = device.tensor('output', [tokens, width]);
  return {
    output,
    trees: () => device.fff({ input, nodes, bias, trees: 1, depth, output }),
    dense() {
      device.linear({ input, weight: up, bias, output: hidden, activation: 'gelu' });
      device.linear({ input: hidden, weight: down, output });
    },
    dispose() {
      for (const tensor of [input, nodes, bias, up, down, hidden, output]) tensor.dispose();
    },
  };
}

/** Microseconds a pass takes within a queue of many, and from the call to the answer when it is alone: medians. */
async function timed(device, output, pass) {
  const run = async (passes) => {
    const start = performance.now();
    for (let i = 0; i < passes; i++) pass();
    await device.read(output);
    return 1000 * (performance.now() - start);
  };
  await run(2);
  let passes = 4;
  while ((await run(passes)) < 1e6 * seconds && passes < 2 ** 16) passes *= 2;
  const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
  const [queued, alone] = [[], []];
  for (let trial = 0; trial < trials; trial++) {
    alone.push(await run(1));
    // What one pass and one read cost is left out.
    queued.push(((await run(passes)) - (await run(1))) / (passes - 1));
  }
  return { queued: median(queued), alone: median(alone) };
}

const device = await createDevice({ name: 'webgpu' });
console.log(`${device.description}; depth ${depth}, width ${width}, ${neurons} neurons, f32; microseconds a pass, medians of ${trials}\n`);

const reference = await createDevice({ name: 'reference' });
const [ours, expected] = [layers(device, 8), layers(reference, 8)];
for (const kind of ['trees', 'dense']) {
  ours[kind]();
  expected[kind]();
  const [found, right] = [await device.read(ours.output), await reference.read(expected.output)];
  const largest = right.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const error = found.reduce((most, value, i) => Math.max(most, Math.abs(value - right[i])), 0) / largest;
  if (!(error < 1e-4)) throw new Error(`${kind}: differs from the reference by ${error} of its largest value`);
}
ours.dispose();
reference.dispose();

console.log('| tokens | trees | dense | times | trees, call to answer | dense, call to answer |');
console.log('|---|---|---|---|---|---|');
for (const tokens of [1, 8, 32, 128, 512, 2048]) {
  const { output, trees, dense, dispose } = layers(device, tokens);
  const [tree, full] = [await timed(device, output, trees), await timed(device, output, dense)];
  const [a, b, c, d] = [tree.queued, full.queued, tree.alone, full.alone].map((time) => time.toFixed(1));
  console.log(`| ${tokens} | ${a} | ${b} | ${(full.queued / tree.queued).toFixed(2)} | ${c} | ${d} |`);
  dispose();
}
device.dispose();
