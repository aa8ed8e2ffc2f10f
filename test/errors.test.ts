import { expect, test } from 'vitest';
import { FailureError, InputError, printable, printableLines } from '../src/errors.ts';

test.each([InputError, FailureError])('%o has one line of bounded length, whatever it quotes', (Class) => {
  const cause = new Error('why');
  const error = new Class("model.safetensors: tensor 'a\nb\r\u001b[31m\u2028c' is not", { cause });
  expect(error.message).toBe("model.safetensors: tensor 'a\\nb\\u000d\\u001b[31m\\u2028c' is not");
  expect(error.cause).toBe(cause);
  const long = new Class(`model.safetensors: tensor '${'x'.repeat(1e6)}' is missing`).message;
  expect(long).toMatch(/^model\.safetensors: tensor 'x+ \.\.\. x+' is missing$/);
  expect(long.length).toBeLessThan(4000);
  expect(new Class('größer als „möglich“ 😀').message).toBe('größer als „möglich“ 😀');
});

test('what terminals take as commands, and what turns the direction of writing, is written as escapes', () => {
  const hostile = 'a\u001b]0;x\u0007\r\u009b31m\u202eb\u2028c\u2066\td\ne';
  expect(printable(hostile)).toBe('a\\u001b]0;x\\u0007\\u000d\\u009b31m\\u202eb\\u2028c\\u2066\\u0009d\\ne');
  expect(printableLines(hostile)).toBe('a\\u001b]0;x\\u0007\\u000d\\u009b31m\\u202eb\\u2028c\\u2066\td\ne');
  expect(printable('東京 é 😀')).toBe('東京 é 😀');
});
