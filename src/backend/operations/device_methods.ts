import type { Device } from '../device.ts';
import { type AnyOperation, type ArgumentsOf, callOperation } from './operation.ts';
import { calledOperations } from './operations.ts';

type Call<Name extends keyof typeof calledOperations> = (a: ArgumentsOf<(typeof calledOperations)[Name]>) => void;
type Calls = { [Name in keyof typeof calledOperations]: Call<Name> };

/** What a device inherits from: a method for each operation that programs call. */
export const OperationMethods = class {} as new () => Calls;

for (const [name, operation] of Object.entries<AnyOperation>(calledOperations)) {
  const call = function (this: Device, a: Record<string, unknown>) {
    callOperation(this, operation, a);
  };
  Object.defineProperty(OperationMethods.prototype, name, { value: call, configurable: true, writable: true });
}
