import { InputError } from '../errors.ts';
import type { Backend } from './backend.ts';
import { NativeBackend } from './native.ts';
import { loadAddon } from './native_loader.ts';
import { ReferenceBackend } from './reference.ts';

export interface BackendOptions {
  /** By default native if it loads, else the reference. */
  name?: 'native' | 'reference';
  /** For native: the CPU quota by default. */
  threads?: number;
}

/** A backend to compute on; whoever creates it disposes it. Throws if 'native' is asked for by name and does not load. */
export function createBackend(options: BackendOptions = {}): Backend {
  const name = options.name ?? (loadAddon().addon ? 'native' : 'reference');
  switch (name) {
    case 'native':
      return new NativeBackend({ threads: options.threads });
    case 'reference':
      return new ReferenceBackend();
    default:
      throw new InputError(`backend '${name as string}' is neither 'native' nor 'reference'`);
  }
}

/** Why there is no native backend, in one line; undefined if there is one. */
export function nativeMissing(): string | undefined {
  return loadAddon().reason;
}

/** What to tell the user when {@link createBackend} takes the reference backend though nothing was asked for; undefined if it takes the native one. */
export function backendNotice(): string | undefined {
  const reason = nativeMissing();
  return reason && `${reason}; using the reference backend, which is slow`;
}
