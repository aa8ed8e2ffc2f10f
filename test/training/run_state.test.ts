import { expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { plainLayout } from '../../src/nn/layouts.ts';
import { Parameter } from '../../src/nn/parameter.ts';
import { fineTuningProgressSchema } from '../../src/training/fine_tune.ts';
import { AdamW } from '../../src/training/optimizer.ts';
import { loadState, runProgressSchema, saveState } from '../../src/training/run_state.ts';
import { temporaryFolder } from '../temporary.ts';

test('what a long run, and one of many validation examples, has kept is read again', async () => {
  using device = new ReferenceDevice();
  const parameter = new Parameter(device.tensor('w', [2], 'f32', [1, 2]), plainLayout('w', [2]), false);
  using optimizer = new AdamW(device, [parameter]);
  const layers = Array.from({ length: 12 }, () => ({ leaves: 2048, used: 2000, entropy: 10.5, mostCrowded: 0.01 }));
  const history = Array.from({ length: 20_000 }, (_, i) =>
    i % 10 > 0 ? { step: i, tokens: i, loss: 3 } : { step: i, tokens: i, heldOutLoss: 3, layers },
  );
  const run = { step: 400_000, tokens: 1, seconds: 1, history, recentLosses: [] };
  const predictions = Array.from({ length: 400_000 }, (_, i) => i % 3);
  const fineTuning = { step: 1, stepOfEpoch: 0, tokens: 1, seconds: 1, epochLoss: 0, epochs: [], best: 1, predictions };
  const folder = temporaryFolder();
  await saveState(folder, optimizer, { records: { run, fineTuning }, integers: {} });
  const { records } = await loadState(folder, optimizer, { records: { run: runProgressSchema, fineTuning: fineTuningProgressSchema } });
  expect(records).toEqual({ run, fineTuning });
});
