// What a user's page does with the package, told to the server that the test runs.
import { pipeline } from 'ultrafastbert';
import { createDevice } from 'ultrafastbert/nn';
import { report } from './report.js';

/** Also what the test asks in Node. */
const sentences = ['The cat sees [MASK].', 'My [MASK] carries the letter.'];

const messageOf = async (action) => {
  try {
    await action();
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
  return 'no error';
};

report(async () => {
  const answers = {};
  // Where the browser has one; an imitation will do.
  const graphics = await navigator.gpu?.requestAdapter();
  const webgpu = graphics && { webgpu: { device: 'webgpu' } };
  const variants = { f32: {}, i8: { dtype: 'i8' }, reference: { device: 'reference' }, dotted: { model: '/models/tiny-v1.5' }, ...webgpu };
  for (const [name, { model = '/model', ...options }] of Object.entries(variants)) {
    const fill = await pipeline('fill-mask', model, options);
    answers[name] = await fill(sentences, { top_k: 3 });
    fill.dispose();
  }

  const device = await createDevice();
  const { description } = device;
  // Memory grows by each of these: what was written and views that were taken before must still hold.
  const tensors = [];
  for (let i = 0; i < 8; i++) tensors.push(device.tensor(`grow ${i}`, [2 ** 22], 'f32', new Float32Array(2 ** 22).fill(i + 1)));
  const grown = [];
  for (const tensor of tensors) grown.push((await device.read(tensor)).every((value) => value === grown.length + 1));
  const errors = {
    missing: await messageOf(() => pipeline('fill-mask', '/nowhere')),
    unnamed: await messageOf(() => pipeline('fill-mask')),
    html: await messageOf(() => pipeline('fill-mask', '/html')),
  };
  device.dispose();
  return { isolated: crossOriginIsolated, description, answers, grown, errors };
});
