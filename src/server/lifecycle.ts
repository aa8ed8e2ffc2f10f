/** Whether a server takes requests, and which are under way. */
import { RequestError } from './errors.ts';

/** It answers nothing yet; it answers; it is to stop, and ends what is under way. */
export type Phase = 'starting' | 'ready' | 'draining';

export class Lifecycle {
  phase: Phase = 'starting';
  private readonly underWay = new Set<AbortController>();
  private whenIdle: (() => void) | undefined;

  /** Requests under way. */
  get count(): number {
    return this.underWay.size;
  }

  /** @throws RequestError unless requests are taken */
  check(): void {
    if (this.phase === 'ready') return;
    const why = this.phase === 'starting' ? 'the server is starting' : 'the server is about to stop';
    throw new RequestError('Unhealthy', `${why}: try again later, or elsewhere`);
  }

  begin(request: AbortController): void {
    this.underWay.add(request);
  }

  end(request: AbortController): void {
    this.underWay.delete(request);
    if (this.count === 0) this.whenIdle?.();
  }

  /** Takes no more, and resolves when what is under way has ended; what has not after so many seconds is given up. */
  async drain(seconds: number): Promise<void> {
    this.phase = 'draining';
    if (this.count === 0) return;
    const timer = setTimeout(() => {
      for (const request of this.underWay) request.abort(new RequestError('Unhealthy', 'the server stopped before the answer was there'));
    }, seconds * 1000);
    await new Promise<void>((resolve) => {
      this.whenIdle = resolve;
    });
    clearTimeout(timer);
  }
}
