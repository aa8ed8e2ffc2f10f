import { toRegExp } from 'oniguruma-to-es';
import { InputError } from '../errors.ts';
import { type Match, PatternAutomaton, sizeAt } from './pattern_automaton.ts';
import { compileProgram, isSimple, parsePattern } from './pattern_program.ts';

/** A literal text, or a regular expression in Oniguruma's syntax. */
export type Pattern = { String: string } | { Regex: string };

/** Finds where a pattern matches, from left to right. */
export type Matcher = (text: string) => Iterable<Match>;

/** UTF-16 units; more than any pattern has. */
const longestPattern = 1000;

/**
 * Compiles a pattern; what it gives takes time in proportion to the text's length, for whatever pattern. Oniguruma's syntax is read by the
 * oniguruma-to-es library and its parser. JavaScript's engine has only what it, too, matches without trying several ways.
 * @throws InputError that goes on after the pattern's name: what is wrong with it, or what of it cannot be matched in linear time
 */
export function compilePattern(pattern: Pattern): Matcher {
  const source = 'String' in pattern ? pattern.String : pattern.Regex;
  if (source.length > longestPattern) throw new InputError(`has ${source.length} characters, expected at most ${longestPattern}`);
  if ('String' in pattern) {
    return (text) =>
      matches(text, (from) => {
        const start = text.indexOf(source, from);
        return start < 0 ? undefined : { start, end: start + source.length };
      });
  }
  try {
    const parsed = parsePattern(source);
    if (isSimple(parsed)) return regExpMatcher(toRegExp(source, { global: true, avoidSubclass: true }));
    const automaton = new PatternAutomaton(compileProgram(parsed));
    return (text) => matches(text, automaton.finder(text));
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`is not a regular expression that is understood here: ${(error as Error).message}`);
  }
}

/** `pattern` must be global, and such that it needs no second look at a character. */
export function regExpMatcher(pattern: RegExp): Matcher {
  return (text) =>
    matches(text, (from) => {
      pattern.lastIndex = from;
      const match = pattern.exec(text);
      return match ? { start: match.index, end: match.index + match[0].length } : undefined;
    });
}

/** All matches, as the format's reference has them: none that is empty just behind another, within a surrogate pair, or in a text without characters. */
function* matches(text: string, find: (from: number) => Match | undefined): Generator<Match> {
  if (text === '') return;
  let last = -1;
  for (let from = 0; from <= text.length; ) {
    const match = find(from);
    if (!match) return;
    if (match.start === match.end && match.end === last) from = last + sizeAt(text, last);
    else {
      yield match;
      last = from = match.end;
    }
  }
}
