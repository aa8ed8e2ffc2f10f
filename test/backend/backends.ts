import type { Backend } from '../../src/backend/backend.ts';
import { ReferenceBackend } from '../../src/backend/reference.ts';

/** A backend that tests run on; `unavailable` says why it cannot run here. */
export interface Candidate {
  label: string;
  create(): Backend;
  unavailable?: string;
}

export const candidates: readonly Candidate[] = [{ label: 'reference', create: () => new ReferenceBackend() }];
