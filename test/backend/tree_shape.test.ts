import { expect, test } from 'vitest';
import { branches, firstNeuron, neuronsPerTree } from '../../src/backend/tree_shape.ts';

/** Of each neuron: tree, level, number within its node, and its node's ancestors from the root down to itself. */
function neurons(trees: number, depth: number, leafWidth: number) {
  const perTree = neuronsPerTree(depth, leafWidth);
  const all: { place: string; ancestors: number[] }[] = [];
  for (let tree = 0; tree < trees; tree++) {
    for (let node = 0; node < 2 ** (depth + 1) - 1; node++) {
      const ancestors = [node];
      while (ancestors[0] > 0) ancestors.unshift(Math.floor((ancestors[0] - 1) / 2));
      const level = ancestors.length - 1;
      for (let number = 0; number < (level === depth ? leafWidth : 1); number++)
        all[tree * perTree + firstNeuron(node, depth, leafWidth) + number] = { place: `${tree} ${level} ${number}`, ancestors };
    }
  }
  return all;
}

test.each([
  { trees: 1, depth: 0, tops: [0] },
  { trees: 1, depth: 3, tops: [0] },
  { trees: 3, depth: 1, leafWidth: 4, tops: [0] },
  { trees: 2, depth: 5, leafWidth: 3, tops: [2, 0] },
  { trees: 1, depth: 6, tops: [4, 2, 0] },
])('branches of $trees x $depth, leaves of $leafWidth, below the nodes of levels $tops', ({ trees, depth, leafWidth = 1, tops }) => {
  const all = neurons(trees, depth, leafWidth);
  const lists = branches({ trees, depth, leafWidth });
  expect(lists).toHaveLength(tops.length);
  let own = all.map((_, neuron) => neuron);
  for (const [i, top] of tops.entries()) {
    own = own.map((narrower) => lists[i][narrower]);
    const ofBranch = new Map<string, number>();
    for (const [neuron, { place, ancestors }] of all.entries()) {
      const name = `${place} ${ancestors[Math.min(top, ancestors.length - 1)]}`;
      ofBranch.set(name, ofBranch.get(name) ?? own[neuron]);
      expect(own[neuron]).toBe(ofBranch.get(name));
    }
    expect([...ofBranch.values()].sort((a, b) => a - b)).toEqual(Array.from({ length: ofBranch.size }, (_, branch) => branch));
  }
});
