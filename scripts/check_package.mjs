#!/usr/bin/env node
// Packs the package and its model, and uses them as their users do: by other package managers, bundlers and frameworks, which are fetched from
// the registry. It takes minutes; continuous integration runs it beside the tests.
//
//   node scripts/check_package.mjs [STEP ...]      without names all steps
//
// Exit code 0: all that could be tried worked. A step whose tool cannot be installed is skipped, and said so.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './setup.mjs';

const folder = mkdtempSync(join(tmpdir(), 'ufb-package-'));
const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts'];
/** npm tells its children who called; an installation in another folder must not hear of this one. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_(?!config_)|INIT_CWD$)/i.test(name)));

class Skipped extends Error {}

function run(cwd, program, ...args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd, env, encoding: 'utf8', maxBuffer: 2 ** 28 });
  if (error || status !== 0)
    throw new Error(`${program} ${args.join(' ')} ended with code ${status}:\n${error?.message ?? ''}${stdout}${stderr}`);
  return { stdout, stderr };
}

/** A folder of its own, with the files given. */
function place(name, files = {}) {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  for (const [file, text] of Object.entries({ 'package.json': '{ "name": "app", "private": true }', ...files })) {
    mkdirSync(join(path, file, '..'), { recursive: true });
    writeFileSync(join(path, file), text);
  }
  return path;
}

function install(cwd, ...packages) {
  try {
    run(cwd, 'npm', 'install', ...quiet, ...packages);
  } catch (error) {
    if (packages.every((name) => name.endsWith('.tgz'))) throw error;
    throw new Skipped(`${packages.filter((name) => !name.endsWith('.tgz')).join(', ')} cannot be installed here`);
  }
}

function expect(condition, message) {
  if (!condition) throw new Error(message);
}

const sizeOf = (path) =>
  statSync(path).isDirectory() ? readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0) : statSync(path).size;

const sentence = 'He was born in London in the nineteenth [MASK].';
const twoLines = `
import { pipeline } from 'ultrafastbert';
const fill = await pipeline('fill-mask');
console.log((await fill(${JSON.stringify(sentence)}))[0].token_str);
await fill.dispose();
`;
const tarballs = [];
function pack() {
  for (const options of [[], ['--workspace', 'ultrafastbert-small']]) {
    const { stdout } = run(root, 'npm', 'pack', '--json', '--pack-destination', folder, ...options);
    tarballs.push(join(folder, JSON.parse(stdout.slice(stdout.indexOf('[\n')))[0].filename));
  }
}

/** An installed package answers, natively if this machine's add-on was packed. */
function answers(cwd) {
  const { stdout, stderr } = run(cwd, process.execPath, 'app.mjs');
  expect(stdout === 'century\n' && stderr === '', `expected 'century' and nothing else, got ${stdout}${stderr}`);
}

const steps = {
  npm() {
    const app = place('npm', { 'app.mjs': twoLines });
    install(app, ...tarballs);
    answers(app);
    const size = sizeOf(join(app, 'node_modules', 'ultrafastbert'));
    expect(size < 12e6, `${size} bytes installed, expected less than 12 million`);
    return `${size} bytes installed, the model ${sizeOf(join(app, 'node_modules', 'ultrafastbert-small'))}`;
  },
  npx() {
    const app = place('npx');
    const { stdout } = run(app, 'npx', '--yes', `file:${tarballs[0]}`, '--version');
    expect(/^\d+\.\d+\.\d+\n$/.test(stdout), stdout);
    const filled = run(
      app,
      'npx',
      '--yes',
      '--package',
      tarballs[0],
      '--package',
      tarballs[1],
      'ufb',
      'fill-mask',
      '--top-k',
      '1',
      sentence,
    );
    expect(filled.stdout.includes('century'), filled.stdout + filled.stderr);
  },
  pnpm() {
    const app = place('pnpm', { 'app.mjs': twoLines });
    install(place('pnpm-tool'), 'pnpm@10');
    run(app, process.execPath, join(folder, 'pnpm-tool/node_modules/pnpm/bin/pnpm.cjs'), 'add', '--ignore-scripts', ...tarballs);
    answers(app);
  },
  yarn() {
    const app = place('yarn', { 'app.mjs': twoLines });
    install(place('yarn-tool'), 'yarn@1');
    run(
      app,
      process.execPath,
      join(folder, 'yarn-tool/node_modules/yarn/bin/yarn.js'),
      'add',
      '--ignore-scripts',
      ...tarballs.map((path) => `file:${path}`),
    );
    answers(app);
  },
  types() {
    const app = place('types');
    install(app, '@arethetypeswrong/cli');
    const { stdout } = run(
      app,
      'npx',
      'attw',
      tarballs[0],
      '--format',
      'ascii',
      '--profile',
      'node16',
      '--exclude-entrypoints',
      './package.json',
    );
    return stdout
      .split('\n')
      .find((line) => /no problems/i.test(line))
      ?.trim();
  },
  /** For Node: the package stays outside of the bundle, with its add-on and WASM builds. */
  esbuild() {
    const app = place('esbuild', { 'source.mjs': twoLines });
    install(app, 'esbuild', ...tarballs);
    run(
      app,
      'npx',
      'esbuild',
      'source.mjs',
      '--bundle',
      '--platform=node',
      '--format=esm',
      '--external:ultrafastbert',
      '--outfile=app.mjs',
    );
    answers(app);
  },
  webpack() {
    const config =
      "export default { mode: 'production', entry: './page.mjs', experiments: { outputModule: true }, performance: { hints: false } };";
    const page = "import { pipeline } from 'ultrafastbert';\npipeline('fill-mask', '/model').then(console.log);\n";
    const app = place('webpack', { 'page.mjs': page, 'webpack.config.mjs': config });
    install(app, 'webpack', 'webpack-cli', tarballs[0]);
    run(app, 'npx', 'webpack');
    const made = readdirSync(join(app, 'dist'));
    expect(made.filter((name) => name.endsWith('.wasm')).length === 4, `expected four WASM builds among ${made.join(', ')}`);
    return `${made.length} files`;
  },
  /** A route of Next.js on Node; `serverExternalPackages` keeps the package out of its bundle. */
  next() {
    const route = `import { pipeline } from 'ultrafastbert';
export const runtime = 'nodejs';
export const dynamic = 'force-static';
export async function GET() {
  const fill = await pipeline('fill-mask');
  const [best] = await fill(${JSON.stringify(sentence)});
  await fill.dispose();
  return new Response(best.token_str);
}
`;
    const app = place('next', {
      'next.config.mjs': "export default { serverExternalPackages: ['ultrafastbert'] };",
      'app/layout.js': 'export default function Layout({ children }) { return <html><body>{children}</body></html>; }',
      'app/page.js': 'export default function Page() { return <p>page</p>; }',
      'app/answer/route.js': route,
    });
    install(app, 'next', 'react', 'react-dom', ...tarballs);
    run(app, 'npx', 'next', 'build');
    const answer = readFileSync(join(app, '.next/server/app/answer.body'), 'utf8');
    expect(answer === 'century', answer);
  },
  /** An Electron app's archive: code is loaded from beside it, so `*.node` is unpacked. Electron itself is not run. */
  asar() {
    const app = place('asar/app', { 'app.mjs': twoLines });
    install(app, ...tarballs);
    const tool = place('asar/tool');
    install(tool, '@electron/asar');
    run(tool, 'npx', 'asar', 'pack', app, '../app.asar', '--unpack', '*.node');
    const unpacked = join(folder, 'asar/app.asar.unpacked/node_modules/ultrafastbert/prebuilds');
    expect(existsSync(unpacked) && readdirSync(unpacked).length > 0, 'no add-on beside the archive');
    const list = run(tool, 'npx', 'asar', 'list', '../app.asar').stdout;
    for (const file of ['ultrafastbert/dist/index.js', 'ultrafastbert/dist/wasm_worker_node.js', 'ultrafastbert-small/model.safetensors'])
      expect(list.includes(file), `${file} is not in the archive`);
  },
  /** What AWS Lambda counts (50 MB zipped, 250 MB unzipped), and a cold start: a new process until its first answer. */
  lambda() {
    const app = place('lambda', { 'app.mjs': twoLines });
    install(app, '--omit=dev', ...tarballs);
    for (const name of readdirSync(join(app, 'node_modules/ultrafastbert/prebuilds')))
      if (!['linux-x64', `${process.platform}-${process.arch}`].includes(name))
        rmSync(join(app, 'node_modules/ultrafastbert/prebuilds', name), { recursive: true });
    const bytes = sizeOf(app);
    run(folder, 'tar', 'czf', 'lambda.tgz', 'lambda');
    const zipped = statSync(join(folder, 'lambda.tgz')).size;
    expect(zipped < 50e6, `${zipped} bytes zipped, Lambda takes 50 MB`);
    const times = Array.from({ length: 3 }, () => {
      const start = performance.now();
      answers(app);
      return performance.now() - start;
    }).sort((a, b) => a - b);
    return `${bytes} bytes, ${zipped} zipped; cold start ${Math.round(times[1])} ms (median of three processes)`;
  },
  publish() {
    const { stderr, stdout } = run(root, 'npm', 'publish', '--dry-run', '--workspace', 'ultrafastbert-small');
    expect(!/npm (warn|error)/i.test(stderr), stderr + stdout);
  },
};

const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !steps[name]);
if (unknown) throw new Error(`'${unknown}' is none of ${Object.keys(steps).join(', ')}`);
try {
  pack();
  for (const name of wanted.length > 0 ? wanted : Object.keys(steps)) {
    const started = performance.now();
    try {
      const said = steps[name]();
      process.stdout.write(`${name}: works${said ? `; ${said}` : ''} (${Math.round((performance.now() - started) / 1000)} s)\n`);
    } catch (error) {
      if (!(error instanceof Skipped)) process.exitCode = 1;
      process.stdout.write(`${name}: ${error instanceof Skipped ? `skipped: ${error.message}` : `failed: ${error.message}`}\n`);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
