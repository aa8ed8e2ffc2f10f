import { expect, test } from 'vitest';
import { firstNeuron, neuronCounts, placesOnPath } from '../../src/backend/tree_shape.ts';

test.each([
  { trees: 1, depth: 3 },
  { trees: 2, depth: 2, leafWidth: 3 },
  { trees: 3, depth: 0, leafWidth: 2 },
])('every path takes one neuron of each place: $trees x $depth, leaves of $leafWidth', ({ trees, depth, leafWidth = 1 }) => {
  const places = placesOnPath({ trees, depth, leafWidth });
  const { total, used } = neuronCounts({ trees, depth, leafWidth });
  expect(places).toHaveLength(total);
  for (let leaf = 0; leaf < 2 ** depth; leaf++) {
    const onPath: number[] = [];
    for (let tree = 0; tree < trees; tree++) {
      const first = (tree * total) / trees;
      let node = 2 ** depth - 1 + leaf;
      const leafAt = first + firstNeuron(node, depth, leafWidth);
      const path = Array.from({ length: leafWidth }, (_, j) => places[leafAt + j]);
      while (node > 0) {
        node = Math.floor((node - 1) / 2);
        path.unshift(places[first + firstNeuron(node, depth, leafWidth)]);
      }
      onPath.push(...path);
    }
    expect(onPath).toEqual(Array.from({ length: used }, (_, place) => place));
  }
});
