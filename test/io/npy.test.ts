import { expect, test } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { npyHeader, npyHeaderBytes, parseNpy } from '../../src/io/npy.ts';

const values = Float32Array.of(1, -2.5, 3, 4, 5e-8, 6);
const file = () => new Uint8Array([...npyHeader(2, 3), ...new Uint8Array(values.buffer)]);

test('what is written is read', () => {
  expect(npyHeader(2, 3)).toHaveLength(npyHeaderBytes);
  expect(String.fromCharCode(...npyHeader(2, 3).subarray(0, 73))).toBe(
    "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      ".slice(0, 73),
  );
  expect(parseNpy(file(), 'a.npy')).toEqual({ rows: 2, columns: 3, values });
});

test('int8 too', () => {
  const bytes = new Uint8Array([...npyHeader(2, 3, '|i1'), 1, 2, 3, 255, 128, 127]);
  expect(parseNpy(bytes, 'a.npy')).toEqual({ rows: 2, columns: 3, values: Int8Array.of(1, 2, 3, -1, -128, 127) });
  expect(() => parseNpy(bytes.subarray(0, -1), 'a.npy')).toThrow('has 5 bytes of values for [2, 3]');
});

test('the values are a view where they lie aligned, and copied where they do not', () => {
  const bytes = file();
  expect(parseNpy(bytes, 'a.npy').values.buffer).toBe(bytes.buffer);
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  expect(parseNpy(shifted.subarray(1), 'a.npy').values).toEqual(values);
});

test.each([
  ['nothing', (_: Uint8Array) => new Uint8Array(0)],
  ['text', (_: Uint8Array) => new TextEncoder().encode('these are lines of text')],
  ['cut within the header', (bytes: Uint8Array) => bytes.slice(0, 60)],
  ['cut within the values', (bytes: Uint8Array) => bytes.slice(0, -1)],
  ['more rows than there are', (bytes: Uint8Array) => bytes.slice().fill(0x39, 62, 63)],
  ['doubles', (bytes: Uint8Array) => bytes.slice().fill(0x38, 23, 24)],
  ['version 2 without a length', (bytes: Uint8Array) => bytes.slice(0, 11).fill(2, 6, 7)],
])('refused: %s', (_, damage) => {
  expect(() => parseNpy(damage(file()), 'a.npy')).toThrow(InputError);
});
