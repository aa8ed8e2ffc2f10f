import type { Device } from '../backend/device.ts';
import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import { loadMaskedLanguageModel } from '../models/checkpoint.ts';
import { Session } from '../models/session.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import { watchLeaves } from '../training/leaf_use.ts';
import { packText } from '../training/sequences.ts';
import type { TreeWeights } from './onnx_graphs.ts';
import type { TokenRows } from './work.ts';

/** Trees of a model, and what they take in when the model reads a text. */
export interface ModelLayer {
  /** Counted from 0. */
  layer: number;
  tree: TreeWeights;
  tokens: TokenRows;
  /** Leaves, of all trees, that these tokens reach, and of how many. */
  leavesReached: number;
  leaves: number;
}

const sequencesPerBatch = 8;

/**
 * Runs a masked language model with fast feedforward layers over the beginning of a text and takes one of these layers out, with at least
 * `tokens` of its inputs. `layer` is the middle one by default.
 * @throws InputError if the model or the text cannot be used, or the text is too short
 */
export async function readModelLayer(
  device: Device,
  options: { model: string; text: string; layer?: number; tokens: number },
): Promise<ModelLayer> {
  const tokenizer = await loadTokenizer(options.model);
  using model = await loadMaskedLanguageModel(options.model, device);
  const { feedforward, numHiddenLayers: layers, maxPositionEmbeddings: length, hiddenSize: width } = model.config;
  if (feedforward.kind !== 'fff' || (feedforward.leafWidth ?? 1) > 1)
    throw new InputError(
      `${options.model}: its feedforward layers are not trees of single neurons, which are what this benchmark measures`,
    );
  const layer = options.layer ?? Math.floor(layers / 2);
  if (layer >= layers) throw new InputError(`--layer ${layer}: ${options.model} has layers 0 to ${layers - 1}`);
  const count = Math.ceil(options.tokens / length);
  const { sequences } = await packText({ path: options.text, tokenizer, length, count });
  if (sequences.length < options.tokens)
    throw new InputError(`${options.text}: has ${sequences.length} tokens in whole sequences, expected at least ${options.tokens}`);

  using session = new Session(device);
  const values = new Float32Array(sequences.length * width);
  const reached = new Set<string>();
  for (let first = 0; first < sequences.length; first += sequencesPerBatch * length) {
    const ids = sequences.slice(first, first + sequencesPerBatch * length);
    using input = device.tensor('hidden states', [ids.length, width]);
    let block = 0;
    const [, leaves] = await session.pass((context) =>
      watchLeaves(context, (watched) =>
        model.encoder.forward(
          {
            ...watched,
            watchPaths(of: Tensor, pathNodes: Tensor) {
              watched.watchPaths?.(of, pathNodes);
              if (block++ === layer) device.copy({ input: of, output: input });
            },
          },
          { batch: ids.length / length, length, ids },
        ),
      ),
    );
    values.set(await device.read(input), first * width);
    leaves[layer].forEach((leaf, walk) => void reached.add(`${walk % feedforward.trees} ${leaf}`));
  }

  // A layer's nodes, then its bias, then, in trees that have inner nodes, their thresholds.
  const first = model.parameters.filter(({ product }) => product?.operation === 'fff')[layer];
  const [nodes, bias, thresholds] = model.parameters.slice(model.parameters.indexOf(first));
  const { trees, depth } = feedforward;
  const tree: TreeWeights = { width, trees, depth, nodes: await device.read(nodes.value), bias: await device.read(bias.value) };
  if (depth > 0) tree.thresholds = await device.read(thresholds.value);
  return {
    layer,
    tree,
    tokens: { values, width },
    leavesReached: reached.size,
    leaves: trees * 2 ** depth,
  };
}
