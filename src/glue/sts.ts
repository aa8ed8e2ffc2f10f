import { joinPath } from '#platform';
import { InputError } from '../errors.ts';
import { kindOf } from '../io/files.ts';
import { cosine, pearson, spearman } from '../training/metrics.ts';
import { type GlueExamples, readGlueFile } from './read.ts';
import { glueTask } from './tasks.ts';

/**
 * STS-B's development set: `folder` holds dev.tsv, or a folder STS-B that does. The labels say how alike people find the two texts, 0 to 5.
 * @throws InputError naming file and line if it is missing or a line is malformed.
 */
export async function readStsB(folder: string): Promise<GlueExamples> {
  const inside = joinPath(folder, 'STS-B', 'dev.tsv');
  const path = (await kindOf(inside)) === 'file' ? inside : joinPath(folder, 'dev.tsv');
  const examples = await readGlueFile(glueTask('STS-B'), path, 'dev');
  if (examples.texts.length < 2) throw new InputError(`${path}: has ${examples.texts.length} pair of sentences, expected at least 2`);
  return examples;
}

export interface StsScores {
  pairs: number;
  /** Correlations of the embeddings' cosines with people's scores. */
  spearman: number;
  pearson: number;
}

/** `embed` gives each text's vector, one after the other. */
export async function evaluateSts(
  { texts, labels }: Pick<GlueExamples, 'texts' | 'labels'>,
  embed: (texts: readonly string[]) => Promise<Float32Array>,
): Promise<StsScores> {
  const vectors = await embed(texts.flatMap(({ text, pair = '' }) => [text, pair]));
  const width = vectors.length / (2 * texts.length);
  const cosines = texts.map((_, i) => {
    const start = 2 * i * width;
    return cosine(vectors.subarray(start, start + width), vectors.subarray(start + width, start + 2 * width));
  });
  return { pairs: texts.length, spearman: spearman(cosines, labels), pearson: pearson(cosines, labels) };
}
