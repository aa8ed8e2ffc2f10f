import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { distributionOf, penalize, Sampler, type SamplingOptions } from '../../src/generation/sampling.ts';

interface Case {
  logits: string;
  settings: Omit<SamplingOptions, 'do_sample'>;
  greedy: number;
  ids: number[];
  probabilities: number[];
}
const fixture = new URL('../fixtures/sampling/processed.json', import.meta.url);
const figures = JSON.parse(readFileSync(fixture, 'utf8')) as { logits: Record<string, number[]>; seen: number[]; cases: Case[] };

describe("as transformers' logits processors", () => {
  test.each(figures.cases)('$logits, $settings', ({ logits: name, settings, greedy, ids, probabilities }) => {
    const logits = Float32Array.from(figures.logits[name]);
    const sampler = new Sampler({ ...settings, do_sample: false }, 0, 0);
    expect(sampler.next(logits.slice(), figures.seen)).toBe(greedy);
    penalize(logits, figures.seen, settings.repetition_penalty);
    const own = distributionOf(logits, settings);
    // Of equal logits at the border of top_p the sort that torch happens to use decides: as many are kept, with the same probabilities.
    if (name === 'ties' && settings.top_p < 1) expect(own.ids.map((id) => logits[id]).sort()).toEqual(ids.map((id) => logits[id]).sort());
    else expect(own.ids).toEqual(ids);
    const sorted = probabilities.toSorted();
    for (const [index, value] of own.probabilities.toSorted().entries()) expect(value).toBeCloseTo(sorted[index], 6);
  });
});

const all: SamplingOptions = { do_sample: true, temperature: 1, top_k: 0, top_p: 1, repetition_penalty: 1 };

test('tokens come as often as they are probable', () => {
  const logits = Float32Array.from([0.5, 0.2, 0.2, 0.1], Math.log);
  const counts = [0, 0, 0, 0];
  const sampler = new Sampler(all, 11, 0);
  for (let i = 0; i < 10_000; i++) counts[sampler.next(logits.slice(), [])]++;
  for (const [id, count] of counts.entries()) expect(count / 10_000).toBeCloseTo(Math.exp(logits[id]), 1.5);
});

test('seed and stream decide what is drawn, and nothing else', () => {
  const logits = new Float32Array(1000);
  const drawn = (seed: number, stream: number) => {
    const sampler = new Sampler(all, seed, stream);
    return Array.from({ length: 8 }, () => sampler.next(logits.slice(), []));
  };
  expect(drawn(3, 0)).toEqual(drawn(3, 0));
  expect(drawn(3, 1)).not.toEqual(drawn(3, 0));
  expect(drawn(4, 0)).not.toEqual(drawn(3, 0));
  // What is drawn is the same on every machine and in every version.
  expect(drawn(3, 0)).toMatchInlineSnapshot(`
    [
      675,
      553,
      712,
      323,
      583,
      463,
      907,
      463,
    ]
  `);
});

test('of a large vocabulary the same are kept as of a small one', () => {
  // Small ones at the end, which no option keeps.
  const small = Float32Array.from(figures.logits.spread);
  const large = new Float32Array(50_000).fill(-60);
  large.set(small);
  for (const top_k of [0, 7, 1, 2000]) {
    for (const top_p of [0.5, 0.999999]) {
      const kept = distributionOf(large, { temperature: 1, top_k, top_p }).ids;
      expect(kept).toEqual(distributionOf(small, { temperature: 1, top_k, top_p }).ids);
    }
  }
});

test.each([Number.NaN, Number.POSITIVE_INFINITY])('logits with %s are a failure, whether it would be chosen or not', (value) => {
  for (const do_sample of [true, false])
    expect(() => new Sampler({ ...all, do_sample }, 0, 0).next(Float32Array.of(9, 1, value), [])).toThrow(
      "the model's logits are not finite",
    );
});
