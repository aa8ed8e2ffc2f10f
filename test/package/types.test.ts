/** The types of the package, as dist has them. */
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';

/** Parts of what is exported that come from our functions and go to them: nobody has to name their types. */
const inner = [
  'Asked',
  'Block',
  'BlockActivations',
  'BranchState',
  'ClassesOfEach',
  'Embedding',
  'EmbeddingActivations',
  'Encoded',
  'ExchangePart',
  'FastFeedforwardLayouts',
  'FeatureExtractionParts',
  'GroupTotals',
  'InferOutput',
  'LanguageModelHead',
  'Launched',
  'ModelNames',
  'NativeGroup',
  'NestedNumbers',
  'Norm',
  'NormActivations',
  'ParameterFactory',
  'ParameterLayout',
  'Sequence',
  'Storage',
  'StoredModel',
  'TextClassificationParts',
  'TextGenerationParts',
  'TextPipelineParts',
  'TokenizedText',
  'bytePairsJson',
  'wordPieceJson',
];

test('whatever type a signature names can be imported from one of the entry points', () => {
  const dist = fileURLToPath(new URL('../../dist/', import.meta.url));
  const paths = ['index', 'nn', 'train'].map((name) => `${dist}${name}.d.ts`);
  const program = ts.createProgram(paths, { module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, noLib: true });
  const checker = program.getTypeChecker();
  const ofAlias = (symbol: ts.Symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol);
  const exported = new Set<ts.Symbol>();
  for (const path of paths) {
    const module = checker.getSymbolAtLocation(program.getSourceFile(path) as ts.SourceFile);
    for (const symbol of checker.getExportsOfModule(module as ts.Symbol)) exported.add(ofAlias(symbol));
  }
  expect(exported.size).toBeGreaterThan(100);
  const named = new Set<string>();
  const visit = (node: ts.Node) => {
    const symbol = ts.isIdentifier(node) ? checker.getSymbolAtLocation(node) : undefined;
    if (symbol) {
      const own = ofAlias(symbol);
      const [declaration] = own.declarations ?? [];
      const isOurs = declaration?.getSourceFile().fileName.startsWith(dist) && ts.isSourceFile(declaration.parent);
      if (isOurs && !exported.has(own)) named.add(own.name);
    }
    ts.forEachChild(node, visit);
  };
  for (const symbol of exported) for (const declaration of symbol.declarations ?? []) visit(declaration);
  expect([...named].sort()).toEqual(inner);
});
