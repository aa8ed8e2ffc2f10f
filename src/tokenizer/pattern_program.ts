import { generate } from 'oniguruma-parser/generator';
import {
  type AlternativeElementNode,
  type AlternativeNode,
  type AssertionNode,
  createAlternative,
  createFlags,
  createGroup,
  createRegex,
  type GroupNode,
  type LookaroundAssertionNode,
  parse,
  type QuantifierNode,
  type RegexNode,
} from 'oniguruma-parser/parser';
import { toRegExp } from 'oniguruma-to-es';
import { InputError } from '../errors.ts';

/** Tells whether a character, given as a text, is one of a set. */
export type CharacterSet = RegExp;

/** The characters before and behind a place in the text; undefined at its ends. */
export type PlaceTest = (before: string | undefined, behind: string | undefined) => boolean;

/**
 * A state of a nondeterministic automaton. Of the ways onwards from a `split` the first that leads to a match counts. An `ahead` is passed
 * where the states from `inner` on match, or, if it is negated, where they do not.
 */
export type State =
  | { kind: 'match' }
  | { kind: 'character'; set: number; next: number }
  | { kind: 'split'; ways: number[] }
  | { kind: 'place'; test: PlaceTest; next: number }
  | { kind: 'ahead'; inner: number; negated: boolean; next: number };

export interface PatternProgram {
  states: State[];
  start: number;
  /** For each state the lookahead that it is part of; those within others come first, the pattern itself comes last. */
  layers: number[];
  sets: CharacterSet[];
  /** Sets that only tests of places ask for. */
  placeSets: CharacterSet[];
  /** Whether what is before a place matters anywhere. */
  looksBack: boolean;
}

/** More than any pattern needs: x{1,50} has 100. */
const maxStates = 2000;

/** @throws Error (of the parser) if it is not Oniguruma's syntax */
export function parsePattern(source: string): RegexNode {
  // Names of properties are checked when their characters are asked for.
  return parse(source, { normalizeUnknownPropertyNames: true, skipPropertyNameValidation: true });
}

/** Whether a pattern is one set of characters, repeated or not, or a choice of such: whatever engine tries it needs no second look at a character. */
export function isSimple({ body }: RegexNode): boolean {
  return body.every(({ body: elements }) => {
    const [element] = elements;
    if (elements.length !== 1) return false;
    return isSet(element) || (element.type === 'Quantifier' && element.kind === 'greedy' && element.min <= 10 && isSet(element.body));
  });
}

type SetNode = Extract<AlternativeElementNode, { type: 'Character' | 'CharacterClass' | 'CharacterSet' }>;

const isSet = (node: AlternativeElementNode): node is SetNode =>
  node.type === 'Character' || node.type === 'CharacterClass' || (node.type === 'CharacterSet' && !isLong(node));

/** `\R` and `\X` match several characters. */
const isLong = ({ kind }: { kind: string }) => kind === 'newline' || kind === 'text_segment';

interface Flags {
  ignoreCase: boolean;
  dotAll: boolean;
}

/**
 * Makes the states of a pattern.
 * @throws InputError if it is too large, or has what cannot be matched in linear time; Error (of the library) if it has characters that are none
 */
export function compileProgram(pattern: RegexNode): PatternProgram {
  const states: State[] = [];
  const layers: number[] = [];
  const sets: CharacterSet[] = [];
  const placeSets: CharacterSet[] = [];
  const setNumbers = new Map<string, number>();
  let layerCount = 0;
  let looksBack = false;
  /** States of the layer that is being made; their numbers are known when it is complete. */
  let layer: number[] = [];

  const add = (state: State): number => {
    if (states.length >= maxStates) throw new InputError(`is too large: has more than ${maxStates} states when its counts are written out`);
    layer.push(states.length);
    return states.push(state) - 1;
  };

  const sourceOf = (node: SetNode, flags: Flags): string => {
    const off = { digitIsAscii: false, posixIsAscii: false, spaceIsAscii: false, wordIsAscii: false, textSegmentMode: null };
    const regex = createRegex(createFlags({ ...flags, extended: false, ...off }), { body: [createAlternative({ body: [node] })] });
    return generate(regex).pattern;
  };
  const setOf = (node: SetNode, flags: Flags): CharacterSet =>
    toRegExp(sourceOf(node, flags), { flags: `${flags.ignoreCase ? 'i' : ''}${flags.dotAll ? 'm' : ''}`, avoidSubclass: true });
  const setNumber = (node: SetNode, flags: Flags): number => {
    const key = `${flags.ignoreCase}${flags.dotAll}${sourceOf(node, flags)}`;
    const known = setNumbers.get(key);
    if (known !== undefined) return known;
    setNumbers.set(key, sets.length);
    return sets.push(setOf(node, flags)) - 1;
  };
  const placeSet = (set: CharacterSet): CharacterSet => {
    placeSets.push(set);
    return set;
  };

  const newline = /\n/u;
  const word = /[\p{L}\p{M}\p{N}\p{Pc}]/u;
  const place = (test: PlaceTest, next: number): number => add({ kind: 'place', test, next });

  /** The states of `alternatives`, of which the first that leads to a match counts, before the state `next`. */
  function choice(alternatives: readonly AlternativeNode[], flags: Flags, next: number): number {
    const ways = grouped(alternatives).map(({ body }) => body.reduceRight((behind, node) => single(node, flags, behind), next));
    return ways.length === 1 ? ways[0] : add({ kind: 'split', ways });
  }

  function single(node: AlternativeElementNode, flags: Flags, next: number): number {
    if (isSet(node)) return add({ kind: 'character', set: setNumber(node, flags), next });
    switch (node.type) {
      case 'CapturingGroup':
        return choice(node.body, flags, next);
      case 'Group':
        if (node.atomic) throw unsupported('(?>...)');
        return choice(node.body, changed(flags, (node as GroupNode).flags), next);
      case 'Quantifier':
        return repeated(node, flags, next);
      case 'Assertion':
        return assertion(node, next);
      case 'LookaroundAssertion':
        return node.kind === 'lookahead' ? ahead(node.body, node.negate, flags, next) : behind(node, flags, next);
      case 'Backreference':
        throw unsupported('a reference back to what a group matched');
      case 'Subroutine':
        throw unsupported('a pattern that calls itself');
      default:
        throw unsupported('one of \\R, \\X, \\K, (?~...) and (*...)');
    }
  }

  function repeated({ kind, min, max, body }: QuantifierNode, flags: Flags, next: number): number {
    const ways = (again: number, onwards: number) => (kind === 'lazy' ? [onwards, again] : [again, onwards]);
    let after = next;
    if (kind === 'possessive') {
      // Of single characters: as many as there are, and no other behind them.
      if (!isSet(body as AlternativeElementNode) || max !== Number.POSITIVE_INFINITY)
        throw unsupported('a possessive quantifier of more than one character (such as (ab)++)');
      after = ahead([createAlternative({ body: [body as SetNode] })], true, flags, next);
    }
    let least = min;
    if (max === Number.POSITIVE_INFINITY) {
      // One or more, which the first may be left out of: what has matched nothing is not matched again, but what comes next may be tried.
      const split: State = { kind: 'split', ways: [] };
      const loop = add(split);
      const first = single(body, flags, loop);
      split.ways = ways(first, after);
      after = min === 0 ? add({ kind: 'split', ways: ways(first, after) }) : first;
      least = min - 1;
    } else {
      const end = after;
      for (let i = min; i < max; i++) after = add({ kind: 'split', ways: ways(single(body, flags, after), end) });
    }
    for (let i = 0; i < least; i++) after = single(body, flags, after);
    return after;
  }

  function ahead(body: readonly AlternativeNode[], negated: boolean, flags: Flags, next: number): number {
    const outer = layer;
    layer = [];
    const inner = choice(body, flags, add({ kind: 'match' }));
    closeLayer();
    layer = outer;
    return add({ kind: 'ahead', inner, negated, next });
  }

  function behind({ body, negate }: LookaroundAssertionNode, flags: Flags, next: number): number {
    looksBack = true;
    const tests = body.map(({ body: elements }): PlaceTest => {
      const [element] = elements;
      if (elements.length === 1 && isSet(element)) {
        const set = placeSet(setOf(element, flags));
        return (before) => before !== undefined && set.test(before);
      }
      if (elements.length === 1 && element.type === 'Assertion') return placeTest(element);
      throw unsupported('(?<=...) or (?<!...) of more than one character');
    });
    return place((...around) => tests.some((test) => test(...around)) !== negate, next);
  }

  function placeTest({ kind, negate = false }: AssertionNode): PlaceTest {
    if (kind !== 'string_end' && kind !== 'line_end') looksBack = true;
    switch (kind) {
      case 'string_start':
        return (before) => before === undefined;
      case 'string_end':
        return (_, next) => next === undefined;
      case 'line_start':
        placeSet(newline);
        // Not behind the line end that ends the text.
        return (before, next) => before === undefined || (before === '\n' && next !== undefined);
      case 'line_end':
        placeSet(newline);
        return (_, next) => next === undefined || next === '\n';
      case 'word_boundary':
        placeSet(word);
        return (before, next) => ((before !== undefined && word.test(before)) !== (next !== undefined && word.test(next))) !== negate;
      default:
        throw unsupported('\\G or \\y');
    }
  }

  function assertion(node: AssertionNode, next: number): number {
    // At the end, or before the line end that is the last character.
    if (node.kind === 'string_end_newline') return ahead(parsePattern('\\n?\\z').body, false, noFlags, next);
    return place(placeTest(node), next);
  }

  function closeLayer(): void {
    for (const state of layer) layers[state] = layerCount;
    layerCount++;
  }

  const start = choice(pattern.body, noFlags, add({ kind: 'match' }));
  closeLayer();
  return { states, start, layers, sets, placeSets, looksBack };
}

/** Flags in the midst, as in `a(?i)b|c`, hold to the end of all alternatives: `a(?i:b|c)`. */
function grouped(alternatives: readonly AlternativeNode[]): readonly AlternativeNode[] {
  for (const [index, { body }] of alternatives.entries()) {
    for (const [at, node] of body.entries()) {
      if (node.type !== 'Directive' || node.kind !== 'flags') continue;
      const rest = [createAlternative({ body: body.slice(at + 1) }), ...alternatives.slice(index + 1)];
      const group = createGroup({ flags: node.flags, body: rest });
      return [...alternatives.slice(0, index), createAlternative({ body: [...body.slice(0, at), group] })];
    }
  }
  return alternatives;
}

const noFlags: Flags = { ignoreCase: false, dotAll: false };

function changed(flags: Flags, change: GroupNode['flags']): Flags {
  const flag = (name: keyof Flags) => (flags[name] || change?.enable?.[name] === true) && change?.disable?.[name] !== true;
  return { ignoreCase: flag('ignoreCase'), dotAll: flag('dotAll') };
}

const unsupported = (what: string) => new InputError(`has ${what}, which is not matched here, as its time could grow without bound`);
