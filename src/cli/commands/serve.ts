import { type Command, Option } from 'commander';
import packageJson from '../../../package.json' with { type: 'json' };
import type { Precision } from '../../backend/prepared_weight.ts';
import { InputError } from '../../errors.ts';
import {
  addDeviceOptions,
  addPrecisionOption,
  type DeviceOptions,
  openDevice,
  openModelFolder,
  parseCount,
  parseInteger,
  parsePositive,
} from '../common.ts';
import { groupOptions } from '../help.ts';

interface Options extends DeviceOptions {
  model: string[];
  servedModelName?: string[];
  revision?: string;
  dtype: Precision;
  pooling?: string;
  defaultPrompt?: string;
  defaultPromptName?: string;
  hostname: string;
  port: number;
  udsPath?: string;
  maxConcurrentRequests: number;
  maxBatchTokens: number;
  maxBatchRequests?: number;
  maxClientBatchSize: number;
  autoTruncate: boolean;
  payloadLimit: number;
  requestSeconds: number;
  drainSeconds: number;
  apiKey: string[];
  corsAllowOrigin: string[];
  jsonOutput?: boolean;
  otlpEndpoint?: string;
}

const parsePort = (text: string) => {
  const port = parseInteger(text);
  if (port > 65535) throw new InputError(`--port ${text}: expected 0 to 65535`);
  return port;
};
const parseFlag = (text: string) => {
  if (text === 'true' || text === 'false') return text === 'true';
  throw new InputError(`--auto-truncate ${text}: expected true or false`);
};
/** Of an option that is given several times, or of a variable that holds a list. */
const listed = (text: string, before: string[] = []) => [...before, ...text.split(',').filter((one) => one !== '')];

export function serveCommand(program: Command): void {
  const command = program.command('serve').description('answer requests over HTTP: the routes of text-embeddings-inference and of OpenAI');
  const option = (flags: string, description: string, parse?: (text: string, before: never) => unknown, standard?: unknown) => {
    const made = new Option(flags, description);
    // As text-embeddings-inference has it; but for the host's name, which every container has in its environment for another reason.
    const name = made
      .attributeName()
      .replace(/[A-Z]/g, (letter) => `_${letter}`)
      .toUpperCase();
    if (name !== 'HOSTNAME') made.env(name === 'MODEL' ? 'MODEL_ID' : name);
    if (parse) made.argParser(parse as (text: string) => unknown);
    if (standard !== undefined) made.default(standard);
    command.addOption(made);
    return made;
  };
  option(
    '-m, --model <model>',
    'folder with config.json, model.safetensors and tokenizer.json, or OWNER/NAME of a model on the Hugging Face hub; several if repeated',
    listed as never,
    [],
  );
  option(
    '--served-model-name <name>',
    'what it is called in requests; repeated as --model (default: the last part of --model)',
    listed as never,
  );
  option('--revision <name>', 'branch, tag or commit of a model on the hub (default: main)');
  option('--pooling <name>', "how tokens' vectors become one: mean, cls, max, lasttoken and others (default: what the model says)");
  option('--default-prompt <text>', 'put this text before each text');
  option('--default-prompt-name <name>', "put the model's prompt of this name before each text");
  option('--hostname <address>', 'where it listens', undefined, '0.0.0.0');
  option('--port <number>', 'where it listens; 0: any free one', parsePort as never, 3000);
  option('--uds-path <path>', 'listen on this Unix socket instead');
  option('--max-concurrent-requests <count>', 'texts under way at a time; what is more gets 429 at once', parseCount as never, 512);
  option('--max-batch-tokens <count>', 'tokens of a batch, padding included', parseCount as never, 4096);
  option('--max-batch-requests <count>', 'texts of a batch (default: as many as the tokens allow)', parseCount as never);
  option(
    '--max-client-batch-size <count>',
    'texts of one request that count as under way; longer lists are answered in parts',
    parseCount as never,
    32,
  );
  option('--auto-truncate <true|false>', 'cut texts that are too long, unless a request says otherwise', parseFlag as never, true);
  option('--payload-limit <bytes>', "of a request's body", parseCount as never, 2_000_000);
  option('--request-seconds <seconds>', 'after which a request is given up', parsePositive as never, 60);
  option('--drain-seconds <seconds>', 'at SIGTERM, for requests under way to end', parsePositive as never, 30);
  option(
    '--api-key <key>',
    'what requests must have in Authorization: Bearer KEY; several if repeated; better by the environment',
    listed as never,
    [],
  );
  option('--cors-allow-origin <origin>', "origins whose pages may ask, '*' for all; several if repeated", listed as never, []);
  option('--json-output', 'log lines of JSON');
  option('--otlp-endpoint <url>', 'send traces there, by OTLP over HTTP: http://localhost:4318');
  addPrecisionOption(addDeviceOptions(command));
  for (const each of command.options)
    if (each.attributeName() === 'apiKey') each.default([], 'none: everybody may ask');
    else if (Array.isArray(each.defaultValue)) each.default([], 'none');
  groupOptions(command, {
    'Models:': '--model --served-model-name --revision --dtype --pooling --default-prompt --default-prompt-name',
    'Where:': '--hostname --port --uds-path',
    'Limits:':
      '--max-concurrent-requests --max-batch-tokens --max-batch-requests --max-client-batch-size --auto-truncate --payload-limit --request-seconds --drain-seconds',
    'Access:': '--api-key --cors-allow-origin',
    'Watching:': '--json-output --otlp-endpoint',
    'Computing:': '--device --threads',
  });
  command
    .addHelpText(
      'after',
      '\nEach option is also a variable of the environment: --max-batch-tokens is MAX_BATCH_TOKENS, --model is MODEL_ID.',
    )
    .addHelpText('after', '\nExample:\n  ufb serve --model sentence-transformers/all-MiniLM-L6-v2 --port 3000')
    .action(serve);
}

async function serve(options: Options): Promise<void> {
  const names = namesOf(options);
  const [{ startServer }, { createLog }, { poolingOf }, { listen }] = await Promise.all([
    import('../../server/start.ts'),
    import('../../server/log.ts'),
    import('../../pipelines/pooling.ts'),
    import('../listen.ts'),
  ]);
  const log = createLog((line) => process.stderr.write(line), options.jsonOutput === true);
  const pooling = options.pooling === undefined ? undefined : poolingOf(options.pooling as never);
  if (pooling === 'none') throw new InputError('--pooling none: expected a way in which the vectors of tokens become one');
  const stop = new AbortController();
  const onSignal = () => {
    if (stop.signal.aborted) process.exit(1); // whoever asks twice does not want to wait
    stop.abort();
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  try {
    await startServer(
      {
        settings: { ...options, apiKeys: options.apiKey, version: packageJson.version },
        signal: stop.signal,
        drainSeconds: options.drainSeconds,
        otlpEndpoint: options.otlpEndpoint,
        log,
      },
      (app) => listen(app, options),
      async () => {
        const quiet = { quiet: true };
        const device = await openDevice(options);
        const models = [];
        for (const [index, id] of options.model.entries()) {
          const { revision, dtype, defaultPrompt: prompt, defaultPromptName: prompt_name } = options;
          const folder = await openModelFolder({ model: id, revision, ...quiet });
          models.push({ name: names[index], id, folder, dtype, pooling, prompt, prompt_name });
        }
        return { device, models };
      },
    );
  } finally {
    process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
  }
}

/** What each model is called. @throws InputError if there are not as many names as models, or two are the same */
function namesOf({ model, servedModelName = [] }: Options): string[] {
  if (model.length === 0) throw new InputError('no model is named: give one by --model, or by MODEL_ID in the environment');
  if (servedModelName.length > 0 && servedModelName.length !== model.length)
    throw new InputError(`--served-model-name is given ${servedModelName.length} times and --model ${model.length}: expected as many`);
  const names = model.map(
    (id, index) =>
      servedModelName[index] ??
      (id
        .split(/[\\/]+/)
        .filter(Boolean)
        .at(-1) ||
        id),
  );
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new InputError(`two models are called ${twice}: name each by --served-model-name`);
  return names;
}
