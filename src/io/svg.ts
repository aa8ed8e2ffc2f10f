/** A picture as a file may hold it: characters that XML has not, of a name say, are written as escapes. Markup in names is escaped before. */
export function wellFormed(svg: string): string {
  return svg.replace(
    /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
