/** An object whose instances are functions: to call one is to call its `_call`, as in transformers.js. */
export abstract class Callable {
  constructor() {
    const instance = (...given: unknown[]): unknown => (instance as unknown as Callable)._call(...given);
    Object.defineProperty(instance, 'name', { value: new.target.name });
    // biome-ignore lint/correctness/noConstructorReturn: what is constructed is a function
    return Object.setPrototypeOf(instance, new.target.prototype) as Callable;
  }

  protected abstract _call(...given: unknown[]): unknown;
}

// Functions that they are, they have `call`, `apply` and `bind`.
Object.setPrototypeOf(Callable.prototype, Function.prototype);
