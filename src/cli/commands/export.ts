import type { Command } from 'commander';
import { Option } from 'commander';
import { InputError } from '../../errors.ts';
import { modelFiles } from '../../io/model_files.ts';
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
    .requiredOption('--out <folder>', 'where it is written')
    .addOption(new Option('--dtype <type>', 'of the weights').choices(['f32', 'bf16', 'f16']).default('f32'))
    .option('--quiet', 'no notices')
    .action(exportSafetensors);
  addModelOption(command.command('onnx'))
    .description('one file of standard ONNX operators, for onnxruntime and others; batch and length are free')
    .requiredOption('--out <file>', 'where it is written')
    .addOption(
      new Option('--dtype <type>', 'of the weights of dense products; i8 rounds their inputs too').choices(['f32', 'i8']).default('f32'),
    )
    .option('--quiet', 'no notices')
    .action(exportOnnx);
}

async function exportOnnx(options: OnnxOptions): Promise<void> {
  const [{ ReferenceBackend }, { checkWritable, writeFileAtomic }, { loadModel }, { modelGraph }, { encodeOnnx, onnxOpset }] =
    await Promise.all([
      import('../../backend/reference.ts'),
      import('../../io/files.ts'),
      import('../../models/checkpoint.ts'),
      import('../../models/onnx.ts'),
      import('../../io/onnx.ts'),
    ]);
  const folder = await openModelFolder(options);
  await checkWritable(options.out);
  await checkOutput('--out', options.out, {});
  using backend = new ReferenceBackend();
  using model = await loadModel(folder, backend);
  const graph = await modelGraph(model, options.dtype);
  let bytes: Uint8Array;
  try {
    bytes = encodeOnnx(graph);
  } catch (error) {
    throw error instanceof RangeError ? new InputError(`${folder}: ${error.message}`) : error;
  }
  await writeFileAtomic(options.out, bytes);
  const [inputs, outputs] = [graph.inputs, graph.outputs].map((values) => values.map(({ name }) => name).join(', '));
  notice(`${options.out}: ${inputs} to ${outputs}, opset ${onnxOpset}, ${(bytes.length / 1e6).toFixed(1)} MB`, options);
}

async function exportSafetensors(options: SafetensorsOptions): Promise<void> {
  const [{ ReferenceBackend }, { readJson }, { extentOfTokenizer }, { copySentenceFiles, sentenceFilesOf }, checkpoint] = await Promise.all(
    [
      import('../../backend/reference.ts'),
      import('../../io/files.ts'),
      import('../../io/json.ts'),
      import('../../io/model_folder.ts'),
      import('../../models/checkpoint.ts'),
    ],
  );
  const folder = await openModelFolder(options);
  await checkOutput('--out', options.out, { read: [folder] });
  const wanted = await sentenceFilesOf(folder);
  await checkModelOutput('--out', options.out, [...modelFiles, ...wanted]);
  const stale = (await sentenceFilesOf(options.out)).find((path) => !wanted.includes(path));
  if (stale)
    throw new InputError(`--out ${options.out} holds ${stale} of another model, which ${folder} does not have: expected another folder`);
  // Nothing is computed: values are moved from one layout to another.
  using backend = new ReferenceBackend();
  using model = await checkpoint.loadModel(folder, backend);
  const tokenizer = await readJson(`${folder}/tokenizer.json`, extentOfTokenizer);
  const dtype = options.dtype.toUpperCase() as 'F32' | 'BF16' | 'F16';
  const rest = model.task === 'sequence-classification' ? [] : await checkpoint.readPooler(folder);
  await checkpoint.saveCheckpoint(options.out, model, { tokenizer, dtype, rest });
  await copySentenceFiles(folder, options.out);
  notice(`${options.out}: ${model.config.family}, ${options.dtype}`, options);
}
