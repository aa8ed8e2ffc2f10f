import { type Command, Option } from 'commander';
import type { ProductPrecision } from '../../backend/prepared_weight.ts';
import type { TrainingRow } from '../../bench/training.ts';
import type { ModelConfig } from '../../models/config.ts';
import type { MaskedLanguageModel } from '../../models/masked_language_model.ts';
import { addShapeOptions, checkShape, type FeedforwardOptions, notice, openDevice, parseCount, print } from '../common.ts';
import { addTrainingPrecisionOption } from '../training_runs.ts';
import { addContestOptions, type ContestOptions, report } from './bench_contest.ts';
import { machine, table } from './bench_report.ts';

interface TrainingOptions extends ContestOptions, FeedforwardOptions {
  layers: number;
  hidden: number;
  heads: number;
  vocabulary: number;
  length: number;
  batch: number;
  precision: ProductPrecision;
  python: string;
}

export function trainingCommand(parent: Command): void {
  const command = addShapeOptions(parent.command('training'))
    .description("time training steps of a model with trees and with dense layers, beside PyTorch's with the same dense layers")
    .option('--vocabulary <count>', 'entries of the vocabulary', parseCount, 8192)
    .option('-b, --batch <sequences>', 'sequences a step', parseCount, 8)
    .addOption(new Option('--python <program>', 'a Python that has PyTorch').env('UFB_PYTHON').default('python3'));
  addContestOptions(addTrainingPrecisionOption(command), 7).action(async (options: TrainingOptions) => {
    checkShape(options);
    const [{ benchmarkTraining }, { restFromSpinning }, { crammedBertConfig, describeFeedforward, feedforwardOf }, { startTorch }] =
      await Promise.all([
        import('../../bench/training.ts'),
        import('../../bench/peers.ts'),
        import('../../models/config.ts'),
        import('../torch_peer.ts'),
      ]);
    const { batch, length, precision } = options;
    const configOf = (feedforward: ModelConfig['feedforward']) =>
      crammedBertConfig({
        vocabSize: options.vocabulary,
        hiddenSize: options.hidden,
        numHiddenLayers: options.layers,
        numAttentionHeads: options.heads,
        maxPositionEmbeddings: length,
        feedforward,
      });
    const models = (['fff', 'dense'] as const).map((kind) => {
      const feedforward = feedforwardOf(kind, options);
      return { name: `ours, ${kind === 'fff' ? 'trees ' : ''}${describeFeedforward(feedforward)}`, config: configOf(feedforward) };
    });
    using device = await openDevice(options);
    const torch = await startTorch(options.python);
    if ('missing' in torch) notice(torch.missing, options);
    const openPeer =
      'missing' in torch
        ? undefined
        : async (model: MaskedLanguageModel) => {
            const peer = await torch.open(model, device.threads);
            // Whatever ours multiply in.
            return { ...peer, rest: restFromSpinning, name: `${peer.name} in f32, dense ${options.intermediate}` };
          };
    const rounds = options.quick ? Math.min(options.rounds, 2) : options.rounds;
    const { rows, matrixProduct } = await benchmarkTraining(device, { models, batch, length, rounds, precision, openPeer }).finally(() => {
      if (!('missing' in torch)) torch.dispose();
    });
    if (!options.json) {
      print(
        `${machine(device)}\n${options.layers} layers of ${options.hidden}, ${batch} x ${length} tokens a step, AdamW included, ours in ${precision}; median (quartiles)\n`,
      );
      print(trainingTable(rows));
      print(`\nour matrix product in ${precision}, 1024 cubed: ${Math.round(matrixProduct.median)} GFLOP/s`);
    }
    const shape = { configs: models.map(({ config }) => config), batch, length, precision };
    await report('training', device, options, { ...shape, results: rows, matrixProduct }, ({ renderBars }) => {
      const bars = rows.map(({ name, tokensPerSecond }) => ({ label: name, value: tokensPerSecond.median, ours: name.startsWith('ours') }));
      return renderBars('Training', 'tokens a second', bars);
    });
  });
}

function trainingTable(rows: readonly TrainingRow[]): string {
  const [trees] = rows;
  return table([
    ['', 'tokens/s', 'trees over it', 'MFLOP/token', 'of our matrix product', 'first loss'],
    ...rows.map(({ name, tokensPerSecond: { median, low, high }, arithmetic, share, firstLoss }) => [
      name,
      `${Math.round(median)} (${Math.round(low)}-${Math.round(high)})`,
      `${(trees.tokensPerSecond.median / median).toFixed(2)}x`,
      (arithmetic / 1e6).toFixed(1),
      `${(share * 100).toFixed(0)} %`,
      firstLoss.toFixed(5),
    ]),
  ]);
}
