/**
 * Which way imports may point: downwards only. Each layer of src is listed above what it may use; layers in one list stand side by side
 * and do not know each other.
 */
const layers = [
  ['cli'],
  ['server'],
  ['pipelines'],
  ['generation', 'glue', 'convert', 'bench', 'retrieval'],
  ['training'],
  ['models'],
  ['tokenizer'],
  ['io'],
  ['nn'],
  ['distributed'],
  ['backend'],
  ['platform'],
];

const upwards = layers.flatMap((layer, level) =>
  layer.map((name) => {
    const forbidden = [...layers.slice(0, level).flat(), ...layer.filter((other) => other !== name)];
    return {
      name: `${name}-points-downwards`,
      comment: `src/${name} may use only what lies below it (docs/architecture.md)`,
      severity: 'error',
      from: { path: `^src/${name}/` },
      to: { path: `^src/(${[...forbidden, 'index\\.ts'].join('|')})(/|$)` },
    };
  }),
);

module.exports = {
  forbidden: [
    ...upwards,
    { name: 'errors-use-nothing', severity: 'error', from: { path: '^src/errors\\.ts$' }, to: { path: '^src/' } },
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    {
      name: 'node-stays-in-platform',
      comment: 'What differs between Node and browsers lives in src/platform, the worker that Node starts and the command line',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(platform/node|backend/wasm_worker_node|cli/)' },
      to: { dependencyTypes: ['core'] },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'only-declared-packages',
      comment:
        'What is imported when the package runs must be among its dependencies, bundled by tsdown, or an optional peer (onnxruntime)',
      severity: 'error',
      from: { path: '^src/' },
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg'],
        pathNot:
          '^node_modules/(@bomb.sh/tab|@huggingface/hub|@huggingface/jinja|@huggingface/tokenizers|oniguruma-parser|oniguruma-to-es|commander|csv-parse|echarts|onnxruntime-node|onnxruntime-web|webgpu|valibot|@valibot/to-json-schema|cli-progress|hono|@hono/node-server|prom-client|hyparquet|hyparquet-writer|hyparquet-compressors|@opentelemetry)/',
        dependencyTypesNot: ['type-only'],
      },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      mainFields: ['module', 'main'],
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json'],
    },
  },
};
