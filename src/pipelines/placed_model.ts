import { createDevice } from '../backend/create.ts';
import type { Device } from '../backend/device.ts';
import type { DeviceLostError } from '../errors.ts';

/** Devices that the model is put on after the first was lost, in this order: what happened once may have been an accident. */
const afterLoss = ['webgpu', 'wasm'] as const;

/** What a model is here: its memory is given back. */
type Placeable = object & { dispose(): void };

/** A model on a device that may be lost: then it is loaded again, from its folder, on the next. */
export class PlacedModel<M extends Placeable> {
  /** The model, wherever it is at the time: what it has is asked of the one that was loaded last. */
  readonly model: M;
  private losses = 0;

  private constructor(
    private current: M,
    private device: Device,
    private readonly load: (device: Device) => Promise<M>,
    private readonly notice: (message: string) => void,
  ) {
    this.model = new Proxy(current, {
      get: (_, name) => {
        const value: unknown = Reflect.get(this.current, name, this.current);
        return typeof value === 'function' ? value.bind(this.current) : value;
      },
    });
  }

  static async open<M extends Placeable>(
    device: Device,
    load: (device: Device) => Promise<M>,
    notice: (message: string) => void,
  ): Promise<PlacedModel<M>> {
    return new PlacedModel(await load(device), device, load, notice);
  }

  /** The next device, with the model on it. @throws `error` where there is none */
  async recover(error: DeviceLostError): Promise<Device> {
    this.device.dispose();
    while (this.losses < afterLoss.length) {
      const name = afterLoss[this.losses++];
      this.notice(
        name === 'wasm'
          ? `${error.message}; it is so again, or does not come back: going on in WASM, which is slower`
          : `${error.message}; the model is loaded again`,
      );
      let device: Device | undefined;
      try {
        device = await createDevice({ name });
        this.current = await this.load(device);
        this.device = device;
        return device;
      } catch {
        device?.dispose(); // the next may do
      }
    }
    throw error;
  }

  dispose(): void {
    this.current.dispose();
    this.device.dispose();
  }
}
