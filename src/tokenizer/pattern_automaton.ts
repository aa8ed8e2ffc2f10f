import { InputError } from '../errors.ts';
import type { PatternProgram, State } from './pattern_program.ts';

/** A stretch of a text, in UTF-16 units. */
export interface Match {
  start: number;
  end: number;
}

/** Sets of states that are remembered; real patterns have some dozens, hostile ones could have two to the number of their states. */
const maxSets = 20_000;
/** Classes of characters that a pattern tells apart. */
const maxClasses = 4096;
/** Work that a text may take beyond looking up what is known: some seconds for a million characters. */
const maxSteps = (length: number) => 10_000_000 + 200 * length;

/**
 * Matches a pattern in time that grows with the text's length, whatever the pattern: no way of matching is tried twice.
 *
 * From the end of the text to its beginning it notes for each place which states lead to a match from there; then, from the beginning, it
 * goes the first way of those that do, and never has to turn back (Frisch and Cardelli, "Greedy Regular Expression Matching", 2004).
 * A lookahead is a set of states like any other, known when its place is come to. Sets of states that have occurred are kept with what
 * follows from them, so that each place costs one look into a table.
 */
export class PatternAutomaton {
  private readonly states: readonly State[];
  private readonly start: number;
  private readonly looksBack: boolean;
  private readonly layers: number[][] = [];
  /** For each state those that lead to it without a character between them. */
  private readonly sources: number[][];

  private readonly sets: readonly RegExp[];
  private readonly tests: readonly RegExp[];
  /** Class 0 is the text's end; characters of one class are in the same sets. */
  private readonly classOf = new Map<number, number>();
  private readonly classNumbers = new Map<string, number>();
  private readonly examples: (string | undefined)[] = [undefined];
  private readonly members: boolean[][] = [[]];

  private readonly liveSets: Uint32Array[] = [];
  private readonly setNumbers = new Map<string, number>();
  private readonly transitions = new Map<number, number>();

  private readonly seen: Float64Array;
  private turn = 0;
  private stepsLeft = 0;

  constructor(program: PatternProgram) {
    const { states, layers } = program;
    this.states = states;
    this.start = program.start;
    this.looksBack = program.looksBack;
    this.sets = program.sets;
    this.tests = program.placeSets;
    this.seen = new Float64Array(states.length);
    const sources: number[][] = states.map(() => []);
    states.forEach((state, number) => {
      (this.layers[layers[number]] ??= []).push(number);
      if (state.kind === 'split') for (const way of state.ways) sources[way].push(number);
      else if (state.kind === 'place' || state.kind === 'ahead') sources[state.next].push(number);
    });
    this.sources = sources;
  }

  /**
   * Reads a text; the function returned gives the first match that begins at or behind a place, or nothing. Of several that begin there it
   * gives the one that engines which try one way after the other would find first.
   * @throws InputError if the pattern has more to tell apart in this text than it could in any that is meant
   */
  finder(text: string): (from: number) => Match | undefined {
    const live = this.liveAtEachPlace(text);
    return (from) => {
      for (let at = from; at <= text.length; at += sizeAt(text, at)) {
        if (has(this.liveSets[live[at]], this.start)) return { start: at, end: this.endOf(text, live, at) };
      }
      return undefined;
    };
  }

  /** The number of the set of states that lead to a match, for each place between characters. */
  private liveAtEachPlace(text: string): Int32Array {
    if (this.liveSets.length > maxSets / 2 || this.transitions.size > 10 * maxSets) this.forget();
    this.stepsLeft = maxSteps(text.length);
    const live = new Int32Array(text.length + 1);
    let next = -1;
    let behind = 0;
    for (let at = text.length; ; ) {
      const character = characterBefore(text, at);
      const before = this.classNumber(character);
      const known = ((next + 1) * maxClasses + behind) * maxClasses + (this.looksBack ? before : 0);
      let number = this.transitions.get(known);
      if (number === undefined) {
        number = this.numberOf(this.liveStates(next, behind, before));
        this.transitions.set(known, number);
      }
      live[at] = number;
      if (at === 0) return live;
      next = number;
      behind = before;
      at -= character > 0xffff ? 2 : 1;
    }
  }

  /** The states that lead to a match, where a character of the class `behind` follows, and then a place with the set `next`. */
  private liveStates(next: number, behind: number, before: number): Uint32Array {
    const live = new Uint32Array(Math.ceil(this.states.length / 32));
    const nextLive = next < 0 ? undefined : this.liveSets[next];
    const members = this.members[behind];
    const enters = (state: State): boolean => {
      if (state.kind === 'place') return state.test(this.examples[before], this.examples[behind]);
      return state.kind !== 'ahead' || has(live, state.inner) !== state.negated;
    };
    for (const layer of this.layers) {
      const open: number[] = [];
      this.spend(layer.length);
      for (const number of layer) {
        const state = this.states[number];
        if (state.kind === 'match' || (state.kind === 'character' && nextLive && members[state.set] && has(nextLive, state.next))) {
          add(live, number);
          open.push(number);
        }
      }
      for (let number = open.pop(); number !== undefined; number = open.pop()) {
        this.spend(this.sources[number].length);
        for (const source of this.sources[number]) {
          if (has(live, source) || !enters(this.states[source])) continue;
          add(live, source);
          open.push(source);
        }
      }
    }
    return live;
  }

  /** Where the match that begins at `at`, of which it is known that there is one, ends. */
  private endOf(text: string, live: Int32Array, from: number): number {
    let at = from;
    let set = this.liveSets[live[at]];
    let open = [this.start];
    this.turn++;
    for (;;) {
      const number = open.pop() as number;
      // What has come here by another way, with no character between, has found nothing.
      if (this.seen[number] === this.turn) continue;
      this.seen[number] = this.turn;
      this.spend(1);
      const state = this.states[number];
      if (state.kind === 'match') return at;
      if (state.kind === 'split') {
        for (let i = state.ways.length - 1; i >= 0; i--) if (has(set, state.ways[i])) open.push(state.ways[i]);
      } else if (state.kind === 'character') {
        at += sizeAt(text, at);
        set = this.liveSets[live[at]];
        open = [state.next];
        this.turn++;
      } else if (has(set, state.next)) open.push(state.next);
    }
  }

  private numberOf(live: Uint32Array): number {
    const key = live.join();
    const known = this.setNumbers.get(key);
    if (known !== undefined) return known;
    if (this.liveSets.length >= maxSets) throw tooMuch();
    this.setNumbers.set(key, this.liveSets.length);
    return this.liveSets.push(live) - 1;
  }

  private classNumber(codePoint: number): number {
    if (codePoint < 0) return 0;
    const known = this.classOf.get(codePoint);
    if (known !== undefined) return known;
    const character = String.fromCodePoint(codePoint);
    const members = this.sets.map((set) => set.test(character));
    // The line end is a class of its own, since tests of places ask for it by name.
    const key = [...members, ...this.tests.map((set) => set.test(character)), character === '\n'].map(Number).join('');
    let number = this.classNumbers.get(key);
    if (number === undefined) {
      number = this.members.push(members) - 1;
      if (number >= maxClasses) throw tooMuch();
      this.examples.push(character);
      this.classNumbers.set(key, number);
    }
    this.classOf.set(codePoint, number);
    return number;
  }

  private forget(): void {
    this.liveSets.length = 0;
    this.setNumbers.clear();
    this.transitions.clear();
  }

  private spend(steps: number): void {
    this.stepsLeft -= steps;
    if (this.stepsLeft < 0) throw tooMuch();
  }
}

const tooMuch = () =>
  new InputError("a pattern of the tokenizer.json takes too much work for this text: it is no model's; use another file, or shorter texts");

const has = (set: Uint32Array, number: number) => (set[number >>> 5] & (1 << (number & 31))) !== 0;
const add = (set: Uint32Array, number: number) => {
  set[number >>> 5] |= 1 << (number & 31);
};

/** The code point that ends at `at`; -1 at the beginning. */
function characterBefore(text: string, at: number): number {
  if (at === 0) return -1;
  const unit = text.charCodeAt(at - 1);
  if (unit < 0xdc00 || unit > 0xdfff || at < 2) return unit;
  const pair = text.codePointAt(at - 2) as number;
  return pair > 0xffff ? pair : unit;
}

/** UTF-16 units of the character that begins at `at`; 1 at the end. */
export const sizeAt = (text: string, at: number) => ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1);
