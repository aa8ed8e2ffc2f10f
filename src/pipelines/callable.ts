/** An object whose instances are functions: to call one is to call its `_call`, as in transformers.js. */
export abstract class Callable {
  constructor() {
    const instance = (...given: unknown[]): unknown => (instance as unknown as Callable)._call(...given);
    // biome-ignore lint/correctness/noConstructorReturn: what is constructed is a function
    return Object.setPrototypeOf(instance, new.target.prototype) as Callable;
  }

  protected abstract _call(...given: unknown[]): unknown;
}
