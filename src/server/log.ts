/** What the server says of its work: never a text of a request, never a key. */
import { printable } from '../errors.ts';

export type Level = 'info' | 'warn' | 'error';
export type Log = (level: Level, message: string, fields?: Record<string, string | number | undefined>) => void;

/** One line an event: JSON, or for people its time, message and fields. */
export function createLog(write: (line: string) => void, isJson: boolean): Log {
  return (level, message, fields = {}) => {
    const time = new Date().toISOString();
    if (isJson) write(`${JSON.stringify({ time, level, message, ...fields })}\n`);
    else {
      const shown = Object.entries(fields).filter(([, value]) => value !== undefined);
      const said = shown.map(([name, value]) => `  ${name}=${typeof value === 'number' ? Math.round(value * 1000) / 1000 : value}`);
      write(`${printable(`${time} ${level === 'info' ? '' : `${level}: `}${message}${said.join('')}`)}\n`);
    }
  };
}

/** Where an error came from, and its kind: its message may hold a text. */
export function traceOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return [error.name, ...frames.map((line) => line.trim())].join(' | ');
}
