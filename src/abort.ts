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
