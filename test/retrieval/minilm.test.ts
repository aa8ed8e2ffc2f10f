/** `ufb eval retrieval` on a real task, with a real model. */
import { expect, test } from 'vitest';
import { ufb } from '../cli/ufb.ts';
import { dbpedia, dbpediaMissing, miniLm, miniLmMissing } from '../real_model.ts';

const missing = miniLmMissing || dbpediaMissing;

// By sentence-transformers in float32: nDCG@10 0.5115, MRR@10 0.7821, recall@100 0.9424.
test.skipIf(missing !== '')(`all-MiniLM-L6-v2 on a part of DBpedia-Entity: what sentence-transformers has${missing}`, async () => {
  const { code, stdout, stderr } = await ufb(['eval', 'retrieval', '--model', miniLm, '--data', dbpedia, '--json']);
  expect(code, stderr).toBe(0);
  expect(stderr).toContain('10 queries have no relevant document');
  expect(JSON.parse(stdout)).toMatchObject({
    queries: 40,
    documents: 5000,
    ndcgAt10: expect.closeTo(0.5115, 4),
    mrrAt10: expect.closeTo(0.7821, 4),
    recallAt100: expect.closeTo(0.9424, 4),
  });
});
