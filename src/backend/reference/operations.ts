import * as attention from './attention.ts';
import * as conditionalMatmul from './conditional_matmul.ts';
import * as elementwise from './elementwise.ts';
import * as embedding from './embedding.ts';
import * as fff from './fff.ts';
import * as layerNorm from './layer_norm.ts';
import * as linear from './linear.ts';
import * as loss from './loss.ts';
import * as optimizer from './optimizer.ts';
import * as place from './place.ts';
import * as pool from './pool.ts';
import * as prepared from './prepared.ts';

/** Takes the operands, then the numbers, in the order of the contract's `enqueue`; absent operands are undefined. */
type Operation = (...operandsAndNumbers: never[]) => void;

/** Every operation of the contract by its name there. */
export const operations: Readonly<Record<string, Operation>> = {
  ...elementwise,
  ...layerNorm,
  ...linear,
  ...attention,
  ...embedding,
  ...conditionalMatmul,
  ...fff,
  ...place,
  ...pool,
  ...prepared,
  ...loss,
  ...optimizer,
};
