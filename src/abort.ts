/** What waits for each signal that somebody waits for. */
const waiting = new WeakMap<AbortSignal, { acts: Set<() => void>; all(): void }>();

/**
 * Calls `act` when the signal aborts (not if it has already), until what is returned is called. However many wait, the signal has one listener:
 * of more than ten Node says that they may be a leak.
 */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  let entry = waiting.get(signal);
  if (!entry) {
    const acts = new Set<() => void>();
    const all = () => {
      for (const each of [...acts]) each();
    };
    entry = { acts, all };
    waiting.set(signal, entry);
    signal.addEventListener('abort', all, { once: true });
  }
  const { acts, all } = entry;
  const own = () => act();
  acts.add(own);
  return () => {
    if (!acts.delete(own) || acts.size > 0) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', all);
  };
}

/** What comes of the promise, or the signal's reason as soon as it aborts. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  // Not a race with one promise that lives as long as the signal: that would hold whatever came of each.
  return new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    const settled = onAbort(signal, () => reject(signal.reason));
    promise.then(resolve, reject).finally(settled);
  });
}
