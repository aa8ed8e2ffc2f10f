import { expect, test } from 'vitest';
import { Callable } from '../../src/pipelines/callable.ts';

class Greeting extends Callable {
  readonly task = 'greeting';
  private readonly word = 'Hello';

  protected override _call(name: string, mark = '.'): string {
    return `${this.word}, ${name}${mark}`;
  }
}
const greet = new Greeting() as Greeting & ((name: string, mark?: string) => string);

test('an instance is called as a function, and is one of its class', () => {
  expect(greet('Ada')).toBe('Hello, Ada.');
  expect(typeof greet).toBe('function');
  expect(greet).toBeInstanceOf(Greeting);
  expect(greet.task).toBe('greeting');
});

test('it has what functions have', () => {
  expect(greet).toBeInstanceOf(Function);
  expect(greet.name).toBe('Greeting');
  expect(greet.call(undefined, 'Ada')).toBe('Hello, Ada.');
  expect(greet.apply(undefined, ['Ada', '!'])).toBe('Hello, Ada!');
  expect(greet.bind(undefined, 'Ada')('?')).toBe('Hello, Ada?');
  expect(JSON.stringify({ greet })).toBe('{}');
});
