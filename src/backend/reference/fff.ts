import { addScaled, dot, type Floats, type Integers, positionsByValue } from './arrays.ts';
import { geluSlope, geluValue } from './gelu.ts';

/** The fast feedforward layer (UltraFastBERT, arXiv 2311.10770, algorithm 1). Shapes as in Backend.fff. */
export function fff(
  input: Floats,
  nodes: Floats,
  bias: Floats,
  output: Floats,
  visited: Integers | undefined,
  logits: Floats | undefined,
  rows: number,
  width: number,
  trees: number,
  depth: number,
  accumulate: number,
): void {
  const nodesPerTree = 2 ** (depth + 1) - 1;
  const y = new Float64Array(width);
  for (let t = 0; t < rows; t++) {
    y.fill(0);
    for (let p = 0; p < trees; p++) {
      let k = 0;
      for (let d = 0; d <= depth; d++) {
        const node = p * nodesPerTree + k;
        const inStart = node * 2 * width;
        const outStart = inStart + width;
        const z = dot(input, t * width, nodes, inStart, width) + bias[node];
        addScaled(y, geluValue(z), nodes, outStart, width);
        const at = (t * trees + p) * (depth + 1) + d;
        if (visited) visited[at] = k;
        if (logits) logits[at] = z;
        k = 2 * k + 1 + (z > 0 ? 1 : 0);
      }
    }
    const start = t * width;
    for (let i = 0; i < width; i++) output[start + i] = accumulate ? output[start + i] + y[i] : y[i];
  }
}

/** dz = (dy . w_out) gelu'(z) at every visited node; the other gradients follow from it. Shapes as in Backend.fffBackward. */
export function fffBackward(
  input: Floats,
  nodes: Floats,
  visited: Integers,
  logits: Floats,
  gradOutput: Floats,
  gradInput: Floats,
  gradNodes: Floats | undefined,
  gradBias: Floats | undefined,
  touched: Integers | undefined,
  rows: number,
  width: number,
  trees: number,
  depth: number,
  accumulate: number,
): void {
  const nodesPerTree = 2 ** (depth + 1) - 1;
  const visitsPerRow = trees * (depth + 1);
  // The node (counted through all trees) and the dz of each visit (t, p, d).
  const nodeOfVisit = visited.map((k, visit) => {
    const t = Math.floor(visit / visitsPerRow);
    const p = Math.floor(visit / (depth + 1)) % trees;
    const d = visit % (depth + 1);
    if (k < 2 ** d - 1 || k >= 2 ** (d + 1) - 1)
      throw new RangeError(`fffBackward: node ${k}, visited by token ${t}, is not on level ${d}`);
    return p * nodesPerTree + k;
  });
  const gradLogits = new Float64Array(visited.length);
  const dx = new Float64Array(width);
  for (let t = 0; t < rows; t++) {
    dx.fill(0);
    for (let visit = t * visitsPerRow; visit < (t + 1) * visitsPerRow; visit++) {
      const inStart = nodeOfVisit[visit] * 2 * width;
      const outStart = inStart + width;
      const dz = dot(gradOutput, t * width, nodes, outStart, width) * geluSlope(logits[visit]);
      addScaled(dx, dz, nodes, inStart, width);
      gradLogits[visit] = dz;
    }
    const start = t * width;
    for (let i = 0; i < width; i++) gradInput[start + i] = accumulate ? gradInput[start + i] + dx[i] : dx[i];
  }
  if (!gradNodes || !gradBias || !touched) return;

  const gradIn = new Float64Array(width);
  const gradOut = new Float64Array(width);
  for (const [node, visits] of positionsByValue(nodeOfVisit)) {
    gradIn.fill(0);
    gradOut.fill(0);
    let gradNodeBias = 0;
    for (const visit of visits) {
      const start = Math.floor(visit / visitsPerRow) * width;
      addScaled(gradIn, gradLogits[visit], input, start, width);
      addScaled(gradOut, geluValue(logits[visit]), gradOutput, start, width);
      gradNodeBias += gradLogits[visit];
    }
    const inStart = node * 2 * width;
    const outStart = inStart + width;
    for (let i = 0; i < width; i++) {
      gradNodes[inStart + i] += gradIn[i];
      gradNodes[outStart + i] += gradOut[i];
    }
    gradBias[node] += gradNodeBias;
    touched[node] = 1;
  }
}
