import type { Device } from '../../src/backend/device.ts';
import { summarize, type Timing } from '../../src/bench/timing.ts';
import { hashText } from '../../src/nn/random.ts';
import { Random } from '../backend/random.ts';
import type { SpeedCase } from './speed_cases.ts';

/** Nanoseconds a call: of each sample, so many calls that they take `milliseconds`, handed over together. */
export async function measure(device: Device, speedCase: SpeedCase, samples = 15, milliseconds = 10): Promise<Timing> {
  const operands = Object.entries(speedCase.operands(new Random(hashText(speedCase.name))));
  const tensors = Object.fromEntries(operands.map(([name, { shape, dtype, values }]) => [name, device.tensor(name, shape, dtype, values)]));
  const made = speedCase.setUp?.(device, tensors);
  const timed = async (calls: number) => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) speedCase.run(device, tensors, made);
    await device.finish();
    return (performance.now() - start) / calls;
  };
  try {
    await device.finish();
    await timed(1);
    const one = await timed(2);
    const calls = Math.max(1, Math.min(10_000, Math.round(milliseconds / one)));
    await timed(calls);
    const times: number[] = [];
    for (let i = 0; i < samples; i++) times.push(1e6 * (await timed(calls)));
    return summarize(times);
  } finally {
    made?.[Symbol.dispose]();
    for (const name in tensors) tensors[name].dispose();
  }
}
