/** The types of the package, as dist/index.d.ts has them. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';

/** Parts of what is exported that come from our functions and go to them: nobody has to name their types. */
const inner = [
  'Block',
  'BlockActivations',
  'BranchState',
  'ClassesOfEach',
  'Embedding',
  'EmbeddingActivations',
  'FastFeedforwardLayouts',
  'LayerNorm',
  'LayerNormActivations',
  'ModelNames',
  'NestedNumbers',
  'ParameterFactory',
  'ParameterLayout',
  'Sequence',
  'Storage',
  'wordPieceJson',
];

test('whatever type a signature names can be imported', () => {
  const path = fileURLToPath(new URL('../../dist/index.d.ts', import.meta.url));
  const { statements } = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest);
  const exported = new Set<string>();
  const declared = new Map<string, ts.Node>();
  for (const statement of statements) {
    if (ts.isExportDeclaration(statement) && statement.exportClause && ts.isNamedExports(statement.exportClause))
      for (const { name, propertyName } of statement.exportClause.elements) exported.add((propertyName ?? name).text);
    else if ('name' in statement && ts.isIdentifier(statement.name as ts.Node))
      declared.set((statement.name as ts.Identifier).text, statement);
  }
  const named = new Set<string>();
  const visit = (node: ts.Node) => {
    if (ts.isIdentifier(node) && declared.has(node.text) && !exported.has(node.text)) named.add(node.text);
    ts.forEachChild(node, visit);
  };
  for (const [name, declaration] of declared) if (exported.has(name)) visit(declaration);
  expect([...named].sort()).toEqual(inner);
});
