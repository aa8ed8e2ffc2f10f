import { expect, test } from 'vitest';
import { retrievalPrompt } from '../../src/retrieval/prompt.ts';

test('the prompts of both sides, by the names that sentence-transformers looks for', () => {
  const prompts = { corpus: 'c', passage: 'p', query: 'q', toString: 't' };
  expect([retrievalPrompt(prompts, 'query'), retrievalPrompt(prompts, 'document')]).toEqual(['query', 'passage']);
  expect(retrievalPrompt({ ...prompts, document: 'd' }, 'document')).toBe('document');
  expect([retrievalPrompt({}, 'query'), retrievalPrompt({ other: 'o' }, 'document')]).toEqual([undefined, undefined]);
});
