import { Arena } from '../backend/arena.ts';
import type { Device } from '../backend/device.ts';
import { DeviceLostError } from '../errors.ts';
import type { Context } from '../nn/parameter.ts';
import type { ModelConfig } from './config.ts';
import { type CacheSize, KeyValueCache } from './key_value_cache.ts';

/** The passes of a model on a device, for inference: their scratch memory, what they keep for those after them, and their order. */
export class Session {
  private readonly caches = new Set<KeyValueCache>();
  private last: Promise<unknown> = Promise.resolve();

  /**
   * `arena`: scratch memory that others use between the passes; the session disposes of it. `recover`: after the device was lost, gives
   * another one that the model is on, and throws where there is none.
   */
  constructor(
    device: Device,
    private arena = new Arena(device),
    private readonly recover?: (error: DeviceLostError) => Promise<Device>,
  ) {}

  get device(): Device {
    return this.arena.device;
  }

  /**
   * What `work` makes of a pass, when the passes before have ended. What it computes lies in scratch memory until its promise resolves. Of a
   * pass that fails the memory is given back: a tensor that found none has none in a smaller pass either. One
   * whose device is lost is made again on the next; what caches held is lost.
   */
  pass<Result>(work: (context: Context) => Promise<Result>): Promise<Result> {
    const result = this.last.then(async () => {
      for (;;) {
        this.arena.reset();
        try {
          return await work({ device: this.device, arena: this.arena, training: false });
        } catch (error) {
          this.arena.dispose();
          if (!(error instanceof DeviceLostError) || !this.recover) throw error;
          this.arena = new Arena(await this.recover(error));
        }
      }
    });
    // Holds no result.
    this.last = result.then(nothing, nothing);
    return result;
  }

  /**
   * A cache for a decoder, for as long as the session lasts or until it is disposed. {@link KeyValueCache.bytes} says what it takes.
   * @throws InputError if the model has fewer positions; FailureError if there is not enough memory
   */
  createCache({ config }: { config: ModelConfig }, size: CacheSize): KeyValueCache {
    for (const cache of this.caches) if (cache.disposed) this.caches.delete(cache);
    const cache = new KeyValueCache(this.device, config, size);
    this.caches.add(cache);
    return cache;
  }

  /** Frees the scratch memory and the caches; the model stays. No pass may be under way. */
  dispose(): void {
    for (const cache of this.caches) cache.dispose();
    this.caches.clear();
    this.arena.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const nothing = () => {};
