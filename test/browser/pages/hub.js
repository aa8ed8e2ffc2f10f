// Opens models of the hub as the test orders it, each time as a page of its own: what one finds of those before it, the browser has kept.
import { pipeline } from 'ultrafastbert';
import { report } from './report.js';

/** Browsers that keep nothing: some let pages not even ask, others refuse when their disk is full. And pages over plain HTTP cannot check. */
const refusals = {
  open: () => {
    CacheStorage.prototype.open = () => Promise.reject(new DOMException('The operation is insecure.', 'SecurityError'));
  },
  put: () => {
    Cache.prototype.put = () => Promise.reject(new DOMException('Quota exceeded.', 'QuotaExceededError'));
  },
  subtle: () => Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined }),
};

const order = await (await fetch('/work')).json();
await report(async () => {
  const { model, options, sentence, times = 1, refuse } = order;
  // Before the browser refuses, for the tests' own look.
  const { open } = CacheStorage.prototype;
  refusals[refuse]?.();
  const progress = [];
  const open1 = async () => {
    const fill = await pipeline('fill-mask', model, { ...options, progress_callback: (told) => progress.push(told) });
    const answer = await fill(sentence);
    await fill.dispose();
    return answer;
  };
  let result;
  try {
    result = { answers: await Promise.all(Array.from({ length: times }, open1)) };
  } catch (error) {
    result = { error: `${error.name}: ${error.message}` };
  }
  const cache = await open.call(caches, 'ultrafastbert');
  const kept = [];
  for (const { url } of await cache.keys()) if ((await cache.match(url)).ok) kept.push(url);
  return { ...result, isolated: crossOriginIsolated, last: progress.at(-1), kept };
});
location.reload();
