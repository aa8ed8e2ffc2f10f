import type { Command } from 'commander';
import { Option } from 'commander';
import type { Device } from '../../backend/device.ts';
import { InputError } from '../../errors.ts';
import { generationFiles, modelFiles, tokenizerFiles } from '../../io/model_files.ts';
import type { OnnxValue } from '../../io/onnx_writer.ts';
import type { CausalLanguageModel } from '../../models/causal_language_model.ts';
import type { Model } from '../../models/checkpoint.ts';
import type { FeedforwardConfig } from '../../models/config.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { addModelOption, type CommonOptions, type ModelOptions, notice, openModelFolder } from '../common.ts';
import { checkModelOutput, checkOutput } from '../outputs.ts';

interface SafetensorsOptions extends CommonOptions, ModelOptions {
  out: string;
  dtype: 'f32' | 'bf16' | 'f16';
}

interface OnnxOptions extends CommonOptions, ModelOptions {
  out: string;
  dtype: 'f32' | 'i8';
}

export function exportCommand(program: Command): void {
  const command = program.command('export').description('write a model for other programs');
  addModelOption(command.command('safetensors'))
    .description("a folder that the authors' PyTorch code (crammedBERT) or transformers (BERT with dense layers) opens")
    .requiredOption('-o, --out <folder>', 'where it is written')
    .addOption(new Option('--dtype <type>', 'of the weights').choices(['f32', 'bf16', 'f16']).default('f32'))
    .option('-q, --quiet', 'no notices')
    .action(exportSafetensors);
  addModelOption(command.command('onnx'))
    .description('one file of standard ONNX operators, for onnxruntime and others; batch and length are free')
    .requiredOption('-o, --out <file>', 'where it is written')
    .addOption(
      new Option('--dtype <type>', 'of the weights of dense products; i8 rounds their inputs too').choices(['f32', 'i8']).default('f32'),
    )
    .option('-q, --quiet', 'no notices')
    .action(exportOnnx);
}

async function exportOnnx(options: OnnxOptions): Promise<void> {
  const [{ ReferenceDevice }, { checkWritable, writeFileAtomic }, { decoderGraph }, { modelGraph }, { encodeOnnx, onnxOpset }] =
    await Promise.all([
      import('../../backend/reference.ts'),
      import('../../io/files.ts'),
      import('../../models/onnx_decoder.ts'),
      import('../../models/onnx_graph.ts'),
      import('../../io/onnx_writer.ts'),
    ]);
  const folder = await openModelFolder(options);
  await checkWritable(options.out);
  await checkOutput('--out', options.out, {});
  using device = new ReferenceDevice();
  using model = await loadAny(folder, device, options);
  const graph = await (model.task === 'causal-lm' ? decoderGraph(model, options.dtype) : modelGraph(model, options.dtype));
  let bytes: Uint8Array;
  try {
    bytes = encodeOnnx(graph);
  } catch (error) {
    throw error instanceof RangeError ? new InputError(`${folder}: ${error.message}`) : error;
  }
  await writeFileAtomic(options.out, bytes);
  // Of the layers of a decoder the first ones stand for all.
  const isShown = ({ name }: OnnxValue) => !/\.([1-9]|\d\d+)\./.test(name);
  const [inputs, outputs] = [graph.inputs, graph.outputs].map((values) =>
    values
      .filter(isShown)
      .map(({ name }) => name)
      .join(', '),
  );
  notice(`${options.out}: ${inputs} to ${outputs}, opset ${onnxOpset}, ${(bytes.length / 1e6).toFixed(1)} MB`, options);
}

/** The model in a folder, an encoder's or a decoder's. */
async function loadAny(folder: string, device: Device, options: CommonOptions): Promise<Model | CausalLanguageModel> {
  const [{ readJson }, { loadCausalLanguageModel, loadModel }, { parseConfig }, { familyOf }] = await Promise.all([
    import('../../io/files.ts'),
    import('../../models/checkpoint.ts'),
    import('../../models/config_json.ts'),
    import('../../models/families/families.ts'),
  ]);
  const path = `${folder}/config.json`;
  const load = familyOf(parseConfig(await readJson(path), path)).decoder ? loadCausalLanguageModel : loadModel;
  return await load(folder, device, { notice: (line) => notice(line, options) });
}

async function exportSafetensors(options: SafetensorsOptions): Promise<void> {
  const [{ ReferenceDevice }, { copyFiles, filesAmong }, { sentenceFilesOf }, checkpoint] = await Promise.all([
    import('../../backend/reference.ts'),
    import('../../io/files.ts'),
    import('../../io/sentence_folder.ts'),
    import('../../models/checkpoint.ts'),
  ]);
  const folder = await openModelFolder(options);
  await checkOutput('--out', options.out, { read: [folder] });
  const tokenizer = await tokenizerOf(folder, options);
  const copied = [
    ...(await sentenceFilesOf(folder)),
    ...(tokenizer ? [] : ['tokenizer.json', ...(await filesAmong(folder, tokenizerFiles))]),
    ...(await filesAmong(folder, generationFiles)),
  ];
  const written = [...modelFiles, 'tokenizer_config.json', ...copied];
  await checkModelOutput('--out', options.out, written);
  const besides = [...(await sentenceFilesOf(options.out)), ...(await filesAmong(options.out, [...tokenizerFiles, ...generationFiles]))];
  const stale = besides.find((path) => !written.includes(path));
  if (stale)
    throw new InputError(`--out ${options.out} holds ${stale} of another model, which would not be replaced: expected another folder`);
  // Nothing is computed: values are moved from one layout to another.
  using device = new ReferenceDevice();
  using model = await loadAny(folder, device, options);
  const dtype = options.dtype.toUpperCase() as 'F32' | 'BF16' | 'F16';
  const rest = model.task === 'sequence-classification' || model.task === 'causal-lm' ? [] : await checkpoint.readPooler(folder);
  await checkpoint.saveCheckpoint(options.out, model, { tokenizer, dtype, rest });
  await copyFiles(folder, options.out, copied);
  const { family, feedforward } = model.config;
  notice(`${options.out}: ${family}, ${options.dtype}`, options);
  const unknown = feedforward.kind === 'fff' && model.task !== 'causal-lm' ? beyondTheAuthors(feedforward) : [];
  if (unknown.length > 0)
    notice(
      `${options.out}: the authors' PyTorch code does not know ${unknown.join(' and ')}: there this model would answer otherwise`,
      options,
    );
}

/** What trees have that the authors' code would leave out. */
function beyondTheAuthors({ leafWidth = 1, alwaysOn = 0, thresholds }: Extract<FeedforwardConfig, { kind: 'fff' }>): string[] {
  return [
    ...(thresholds ? ['routing thresholds'] : []),
    ...(leafWidth > 1 ? ['leaves of several neurons'] : []),
    ...(alwaysOn > 0 ? ['neurons that are always on'] : []),
  ];
}

/** A folder's tokenizer; undefined if it is of another kind than WordPiece, and goes along as it is. */
async function tokenizerOf(folder: string, options: SafetensorsOptions): Promise<Tokenizer | undefined> {
  const [{ kindOf }, { readTokenizerJson }, { loadTokenizer }] = await Promise.all([
    import('../../io/files.ts'),
    import('../../tokenizer/tokenizer_json.ts'),
    import('../../tokenizer/tokenizer_config.ts'),
  ]);
  const path = `${folder}/tokenizer.json`;
  const { model } = Object((await kindOf(path)) === 'missing' ? undefined : await readTokenizerJson(path));
  if ((model?.type ?? 'WordPiece') !== 'WordPiece') return undefined;
  return await loadTokenizer(folder, (line) => notice(line, options));
}
