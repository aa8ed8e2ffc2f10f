// The fast feedforward layer by itself: trains one to reproduce a function of its input, here each vector turned round.
// Of its 4 trees' 124 neurons every token uses 20, forward and backward.
import { AdamW, Arena, createBackend, FastFeedforward } from 'ultrafastbert';

const [tokens, width, trees, depth] = [256, 16, 4, 4];
const backend = createBackend({ name: process.argv[2] }); // 'native', 'wasm', 'reference', or the best there is
const layer = FastFeedforward.create(backend, { width, trees, depth, seed: 1 });
const optimizer = new AdamW(backend, layer.parameters, { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0, clipNorm: 1 });
const run = { backend, arena: new Arena(backend), training: true };

const input = backend.tensor('input', [tokens, width]);
const target = backend.tensor('target', [tokens, width]);
const clip = backend.tensor('clip', [2]);
const total = backend.tensor('total loss', [1]);

for (let step = 0; step <= 300; step++) {
  const vectors = Float32Array.from({ length: tokens * width }, () => 2 * Math.random() - 1);
  backend.write(input, vectors);
  backend.write(
    target,
    vectors.map((_, i) => vectors[i - (i % width) + (width - 1 - (i % width))]),
  );

  run.arena.reset();
  const activations = layer.forward(run, input);
  const losses = run.arena.tensor('losses', [tokens, width]);
  const gradOutput = run.arena.tensor('output gradient', [tokens, width]);
  backend.squaredError({ predictions: activations.output, targets: target, losses, gradPredictions: gradOutput, scale: 1 / tokens });
  layer.backward(run, activations, gradOutput); // adds to the gradients of the neurons visited
  optimizer.step(0.01, clip);

  if (step % 100 === 0) {
    backend.sum({ input: losses, output: total });
    const [loss] = await backend.read(total); // nothing has waited until here
    console.log(`step ${step}: mean squared error ${(loss / (tokens * width)).toFixed(4)}`);
  }
}

backend.dispose(); // and with it everything that lies in its memory
