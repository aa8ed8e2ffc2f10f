// The fast feedforward layer by itself: trains one to reproduce a function of its input, here each vector turned round.
// Of its 4 trees' 124 neurons every token uses 20, forward and backward.
import { AdamW, Arena, createDevice, FastFeedforward } from 'ultrafastbert/nn';

const [tokens, width, trees, depth] = [256, 16, 4, 4];
const device = await createDevice({ name: process.argv[2] }); // 'native', 'wasm', 'reference', or the best there is
const layer = FastFeedforward.create(device, { width, trees, depth, seed: 1 });
const optimizer = new AdamW(device, layer.parameters, { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0, clipNorm: 1 });
const run = { device, arena: new Arena(device), training: true };

const input = device.tensor('input', [tokens, width]);
const target = device.tensor('target', [tokens, width]);
const clip = device.tensor('clip', [2]);
const total = device.tensor('total loss', [1]);

for (let step = 0; step <= 300; step++) {
  const vectors = Float32Array.from({ length: tokens * width }, () => 2 * Math.random() - 1);
  device.write(input, vectors);
  device.write(
    target,
    vectors.map((_, i) => vectors[i - (i % width) + (width - 1 - (i % width))]),
  );

  run.arena.reset();
  const activations = layer.forward(run, input);
  const losses = run.arena.tensor('losses', [tokens, width]);
  const gradOutput = run.arena.tensor('output gradient', [tokens, width]);
  device.squaredError({ predictions: activations.output, targets: target, losses, gradPredictions: gradOutput, scale: 1 / tokens });
  layer.backward(run, activations, gradOutput); // adds to the gradients of the neurons visited
  optimizer.step(0.01, clip);

  if (step % 100 === 0) {
    device.sum({ input: losses, output: total });
    const [loss] = await device.read(total); // nothing has waited until here
    console.log(`step ${step}: mean squared error ${(loss / (tokens * width)).toFixed(4)}`);
  }
}

device.dispose(); // and with it everything that lies in its memory
