/** What only WebGPU has: variants, fusing, limits, and a device that is lost. Operations and late errors: operations.test.ts. */
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { operations } from '../../src/backend/operations/operations.ts';
import { WebGpuDevice } from '../../src/backend/webgpu/device.ts';
import { definitionOf, kernels } from '../../src/backend/webgpu/kernels.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { gainsByGraphics } from '../../src/pipelines/choose_device.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { webGpuMissing } from './webgpu_driver.ts'; // before what loads WebGPU

const lose = (device: WebGpuDevice) => (device as unknown as { gpu: GPUDevice }).gpu.destroy();
const sentence = 'the cat sees [MASK] .';

test('every operation has a kernel', () => {
  expect(Object.keys(kernels).sort()).toEqual([...Object.keys(operations), 'mergeWord'].sort());
  for (const name of Object.keys(operations)) expect(definitionOf(name as keyof typeof operations).name).toBe(name);
});

test('a model gains by a graphics processor if it computes much for each dispatch', () => {
  const bert = { vocabSize: 100, hiddenSize: 768, numHiddenLayers: 12, feedforward: { kind: 'dense', neurons: 3072 } } as const;
  expect(gainsByGraphics(crammedBertConfig(bert))).toBe(true);
  expect(gainsByGraphics(crammedBertConfig({ ...bert, hiddenSize: 128, feedforward: { kind: 'fff', trees: 1, depth: 11 } }))).toBe(false);
});

describe.skipIf(webGpuMissing)(webGpuMissing ?? 'on a driver that computes on the processor', () => {
  afterEach(() => vi.restoreAllMocks());

  test('what adds to a copy adds to the original, without the copy; what needs the copy gets it', async () => {
    using device = await WebGpuDevice.open();
    const input = device.tensor('input', [2, 3], 'f32', [1, 2, 3, 4, 5, 6]);
    const weight = device.tensor('weight', [2, 3], 'f32', [1, 0, 0, 0, 1, 1]);
    const residual = device.tensor('residual', [2, 2], 'f32', [10, 20, 30, 40]);
    const output = device.tensor('output', [2, 2]);
    const linear = () => device.linear({ input, weight, output, accumulate: true });
    const sums = Float32Array.of(11, 25, 34, 51);

    device.copy({ input: residual, output });
    linear();
    expect(device.dispatches).toBe(1);
    expect(await device.read(output)).toEqual(sums);
    expect(await device.read(residual)).toEqual(Float32Array.of(10, 20, 30, 40));

    device.copy({ input: residual, output });
    expect(await device.read(output)).toEqual(Float32Array.of(10, 20, 30, 40));

    device.copy({ input: residual, output });
    device.fill({ output: residual, value: 0 }); // not before the copy
    linear();
    expect(await device.read(output)).toEqual(sums);

    device.write(residual, [1, 1, 1, 1]);
    device.copy({ input: residual, output });
    device.write(residual, [0, 0, 0, 0]);
    linear();
    expect(await device.read(output)).toEqual(Float32Array.of(2, 6, 5, 12));
  });

  test('a tensor larger than the adapter takes is refused in one line, and so is an adapter that has too little', async () => {
    using device = await WebGpuDevice.open({ limits: { maxStorageBufferBindingSize: 2 ** 27 } });
    expect(() => device.tensor('large', [2 ** 25 + 1])).toThrow(
      /^no memory for 134217732 bytes in one piece: this graphics processor takes 134217728; take a smaller [^\n]*$/,
    );
    await expect(WebGpuDevice.open({ limits: { maxStorageBuffersPerShaderStage: 4 } })).rejects.toThrow(
      /has maxStorageBuffersPerShaderStage 4, and 8 is needed: leave out device 'webgpu'$/,
    );
    await expect(WebGpuDevice.open({ fallback: false })).rejects.toThrow(/only imitates a graphics processor$/);
  });

  test('reads under way are refused when the device is disposed or lost', async () => {
    const [disposed, lost] = [await WebGpuDevice.open(), await WebGpuDevice.open({ subgroups: false })];
    const reads = [disposed, lost].map((device) => {
      const tensor = device.tensor('x', [3], 'f32', [1, 2, 3]);
      device.gelu({ input: tensor, output: tensor });
      return device.read(tensor);
    });
    disposed.dispose();
    lose(lost);
    await expect(reads[0]).rejects.toThrow('the WebGPU backend was disposed');
    await expect(reads[1]).rejects.toMatchObject({ name: 'DeviceLostError' });
    await expect(lost.finish()).rejects.toThrow('the graphics processor was lost');
    lost.dispose();
  });

  describe.each([
    { name: 'trees', changes: {}, perLayer: 6 },
    { name: 'a dense BERT', changes: tinyBert, perLayer: 7 },
  ])('a pipeline of $name', ({ changes, perLayer }) => {
    const folder = join(temporaryFolder(), 'model');
    let opened: WebGpuDevice[];
    const open = async () => {
      opened = [];
      const { open } = WebGpuDevice;
      vi.spyOn(WebGpuDevice, 'open').mockImplementation(async (options) => {
        opened.push(await open.call(WebGpuDevice, options));
        return opened[opened.length - 1];
      });
      const notices: string[] = [];
      const fill = await pipeline('fill-mask', folder, { device: 'webgpu', notice: (line) => notices.push(line) });
      return { fill, notices };
    };
    const expected = async () => {
      await writeTinyModel(folder, changes);
      await using fill = await pipeline('fill-mask', folder, { device: 'reference' });
      return await fill(sentence);
    };
    type Answers = Awaited<ReturnType<typeof expected>>;
    const agree = (answers: Answers, right: Answers) => {
      expect(answers.map(({ token_str }) => token_str)).toEqual(right.map(({ token_str }) => token_str));
      for (const [i, { score }] of answers.entries()) expect(score).toBeCloseTo(right[i].score, 5);
    };

    test(`answers as the reference does, with ${perLayer} dispatches a layer, through losses of the device`, async () => {
      const right = await expected();
      const { fill, notices } = await open();
      agree(await fill(sentence), right);

      // The same with one layer more: the rest of a pass costs the same.
      const count = async (layers: number) => {
        await writeTinyModel(join(folder, 'deeper'), { ...changes, numHiddenLayers: layers });
        using device = await WebGpuDevice.open();
        await using deeper = await pipeline('fill-mask', join(folder, 'deeper'), { device });
        await deeper(sentence);
        const before = device.dispatches;
        await deeper(sentence);
        return device.dispatches - before;
      };
      expect((await count(3)) - (await count(2))).toBe(perLayer);

      lose(opened[0]);
      const [first, second] = await Promise.all([fill(sentence), fill(sentence)]);
      agree(first, right);
      agree(second, right);
      expect(notices).toEqual([expect.stringMatching(/^the graphics processor was lost[^\n]*; the model is loaded again$/)]);

      lose(opened[opened.length - 1]);
      agree(await fill(sentence), right);
      expect(notices.slice(1)).toEqual([
        expect.stringMatching(/; it is so again, or does not come back: going on in WASM, which is slower$/),
      ]);
      await fill.dispose();
    });
  });
});
