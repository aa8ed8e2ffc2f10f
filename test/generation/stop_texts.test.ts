import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { StopTexts } from '../../src/generation/stop_texts.ts';

/** What comes out piece by piece, and whether it was stopped. */
function run(pieces: string[], stops: string[]) {
  const finder = new StopTexts(stops);
  const shown = pieces.map((piece) => finder.push(piece));
  const stopped = finder.isFound;
  return { shown: [...shown, finder.end()], stopped };
}

test('a text that is split over pieces is found, and nothing of it is shown', () => {
  expect(run(['Hello ', 'wor', 'ld. E', 'N', 'D and more'], ['END'])).toEqual({
    shown: ['Hello ', 'wor', 'ld. ', '', '', ''],
    stopped: true,
  });
});

test('what only began as one is shown after all', () => {
  expect(run(['a E', 'NX', ' E', 'E'], ['END'])).toEqual({ shown: ['a ', 'ENX', ' ', 'E', 'E'], stopped: false });
});

test('without any every piece is shown at once', () => {
  expect(run(['a', 'b'], [])).toEqual({ shown: ['a', 'b', ''], stopped: false });
});

test('the first in the text counts, whatever its place in the list', () => {
  expect(run(['one two three'], ['three', 'two'])).toEqual({ shown: ['one ', ''], stopped: true });
});

test('as in the whole text, however it is cut', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '\n'), maxLength: 12 });
  fc.assert(
    fc.property(
      fc.array(letters, { maxLength: 6 }),
      fc.array(
        letters.filter((text) => text !== ''),
        { maxLength: 3 },
      ),
      (pieces, stops) => {
        const whole = pieces.join('');
        const places = stops.map((stop) => whole.indexOf(stop)).filter((place) => place >= 0);
        const { shown, stopped } = run(pieces, stops);
        expect(stopped).toBe(places.length > 0);
        expect(shown.join('')).toBe(places.length > 0 ? expectedBefore(pieces, stops) : whole);
      },
    ),
  );
});

/** Of two that overlap the one that is complete first counts, for what comes later is not generated. */
function expectedBefore(pieces: string[], stops: string[]): string {
  let text = '';
  for (const piece of pieces) {
    text += piece;
    const places = stops.map((stop) => text.indexOf(stop)).filter((place) => place >= 0);
    if (places.length > 0) return text.slice(0, Math.min(...places));
  }
  return text;
}
