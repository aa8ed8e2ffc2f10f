import { Arena } from '../backend/arena.ts';
import type { Device } from '../backend/device.ts';
import type { Context } from '../nn/parameter.ts';

/** The passes of a model on a device, for inference: their scratch memory, and their order. */
export class Session {
  private last: Promise<unknown> = Promise.resolve();

  /** `arena`: scratch memory that others use between the passes; the session disposes of it. */
  constructor(
    readonly device: Device,
    private readonly arena = new Arena(device),
  ) {}

  /**
   * What `work` makes of a pass, when the passes before have ended. What it computes lies in scratch memory until its promise resolves. Of a
   * pass that fails the memory is given back: a tensor that found none has none in a smaller pass either.
   */
  pass<Result>(work: (context: Context) => Promise<Result>): Promise<Result> {
    const result = this.last.then(async () => {
      this.arena.reset();
      try {
        return await work({ device: this.device, arena: this.arena, training: false });
      } catch (error) {
        this.arena.dispose();
        throw error;
      }
    });
    // Holds no result.
    this.last = result.then(nothing, nothing);
    return result;
  }

  /** Frees the scratch memory; the model stays. No pass may be under way. */
  dispose(): void {
    this.arena.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const nothing = () => {};
