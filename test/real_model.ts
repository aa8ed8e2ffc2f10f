import { existsSync } from 'node:fs';
import { join } from 'node:path';

/**
 * all-MiniLM-L6-v2, a real pretrained model with figures that others computed, in the folder that the environment variable UFB_MODELS names;
 * and the GLUE tasks, in the one that UFB_GLUE names. Neither is part of this repository: without them their tests are skipped, saying so.
 */
export const miniLm = process.env.UFB_MODELS ? join(process.env.UFB_MODELS, 'all-MiniLM-L6-v2') : '';
export const miniLmMissing = existsSync(join(miniLm, 'model.safetensors'))
  ? ''
  : ' (skipped: UFB_MODELS names no folder with all-MiniLM-L6-v2)';
/** Figures that sentence-transformers computed. */
export const miniLmGolden = join(miniLm, 'golden.json');
export const miniLmGoldenMissing = miniLmMissing || (existsSync(miniLmGolden) ? '' : ' (skipped: no golden.json beside all-MiniLM-L6-v2)');
export const glue = process.env.UFB_GLUE ?? '';
export const glueMissing = existsSync(join(glue, 'STS-B', 'dev.tsv')) ? '' : " (skipped: UFB_GLUE names no folder with GLUE's tasks)";
/** The retrieval task dbpedia in BEIR's form, in the folder that UFB_RETRIEVAL names. */
export const dbpedia = process.env.UFB_RETRIEVAL ? join(process.env.UFB_RETRIEVAL, 'dbpedia') : '';
export const dbpediaMissing = existsSync(join(dbpedia, 'qrels', 'test.tsv'))
  ? ''
  : ' (skipped: UFB_RETRIEVAL names no folder with dbpedia)';
