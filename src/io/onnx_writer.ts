/** Writes ONNX models: the few messages of onnx.proto (https://onnx.ai) that a graph of tensors needs, in protocol buffers' wire format. */

export type OnnxType = 'f32' | 'u8' | 'i8' | 'i32' | 'i64' | 'bool';

const typeCodes: Record<OnnxType, number> = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, bool: 9 };

/** A constant. `data` holds its values, little-endian, row-major. */
export interface OnnxInitializer {
  name: string;
  type: OnnxType;
  shape: readonly number[];
  data: ArrayBufferView;
}

/** An input or output of the graph; an extent that is a name is free. */
export interface OnnxValue {
  name: string;
  type: OnnxType;
  shape: readonly (number | string)[];
}

/** A whole number, a list of them, { float } or text. */
export type OnnxAttribute = number | readonly number[] | { float: number } | string;

export interface OnnxNode {
  operator: string;
  inputs: readonly string[];
  outputs: readonly string[];
  /** 'com.microsoft' for onnxruntime's own operators; the standard ones by default. */
  domain?: string;
  attributes?: Readonly<Record<string, OnnxAttribute>>;
}

export interface OnnxGraph {
  name: string;
  inputs: readonly OnnxValue[];
  outputs: readonly OnnxValue[];
  initializers: readonly OnnxInitializer[];
  /** In an order in which each comes after those that it needs. */
  nodes: readonly OnnxNode[];
}

/** The version of the standard operators that graphs are written in. */
export const onnxOpset = 20;
const irVersion = 9;

/** A model file's bytes. Throws RangeError if it would be larger than 2 GiB, which the format cannot hold. */
export function encodeOnnx(graph: OnnxGraph): Uint8Array<ArrayBuffer> {
  const domains = [...new Set(graph.nodes.map(({ domain }) => domain ?? ''))];
  const model = [
    integer(1, irVersion),
    text(2, 'ultrafastbert'),
    message(7, encodeGraph(graph)),
    ...domains.map((domain) => message(8, [text(1, domain), integer(2, domain === '' ? onnxOpset : 1)])),
  ];
  const length = lengthOf(model);
  if (length >= 2 ** 31) throw new RangeError(`ONNX model '${graph.name}' takes ${length} bytes, more than the format's 2 GiB`);
  return join(model);
}

function encodeGraph({ name, nodes, initializers, inputs, outputs }: OnnxGraph): Bytes[] {
  return [
    ...nodes.map((node) => message(1, encodeNode(node))),
    text(2, name),
    ...initializers.map((initializer) => message(5, encodeInitializer(initializer))),
    ...inputs.map((value) => message(11, encodeValue(value))),
    ...outputs.map((value) => message(12, encodeValue(value))),
  ];
}

function encodeNode({ operator, inputs, outputs, domain, attributes = {} }: OnnxNode): Bytes[] {
  return [
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(4, operator),
    ...Object.entries(attributes).map(([name, value]) => message(5, [text(1, name), ...encodeAttribute(value)])),
    ...(domain ? [text(7, domain)] : []),
  ];
}

function encodeAttribute(value: OnnxAttribute): Bytes[] {
  if (typeof value === 'number') return [integer(3, value), integer(20, 2)];
  if (typeof value === 'string') return [text(4, value), integer(20, 3)];
  if ('float' in value) return [float(2, value.float), integer(20, 1)];
  return [...value.map((element) => integer(8, element)), integer(20, 7)];
}

function encodeInitializer({ name, type, shape, data }: OnnxInitializer): Bytes[] {
  const raw = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  return [...shape.map((extent) => integer(1, extent)), integer(2, typeCodes[type]), text(8, name), field(9, raw)];
}

function encodeValue({ name, type, shape }: OnnxValue): Bytes[] {
  const extents = shape.map((extent) => message(1, [typeof extent === 'number' ? integer(1, extent) : text(2, extent)]));
  const tensor = [integer(1, typeCodes[type]), message(2, extents)];
  return [text(1, name), message(2, [message(1, tensor)])];
}

// ------------------------------------------------------------------ wire format

/** Pieces that are written one after the other; large ones are copied only once, at the end. */
type Bytes = Uint8Array<ArrayBuffer> | readonly Bytes[];

const utf8 = new TextEncoder();

function lengthOf(bytes: Bytes): number {
  return bytes instanceof Uint8Array ? bytes.length : bytes.reduce((sum, part) => sum + lengthOf(part), 0);
}

function join(bytes: Bytes): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(lengthOf(bytes));
  let at = 0;
  const put = (part: Bytes) => {
    if (part instanceof Uint8Array) {
      all.set(part, at);
      at += part.length;
    } else part.forEach(put);
  };
  put(bytes);
  return all;
}

/** A whole number in seven bits a byte; negative ones as 64 bits of two's complement. */
function varint(value: number): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    bytes.push(Number(rest & 127n) | (rest > 127n ? 128 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

const tag = (number: number, wireType: number) => varint(number * 8 + wireType);
const integer = (number: number, value: number): Bytes => [tag(number, 0), varint(value)];
const field = (number: number, value: Bytes): Bytes => [tag(number, 2), varint(lengthOf(value)), value];
const message = (number: number, parts: readonly Bytes[]): Bytes => field(number, parts);
const text = (number: number, value: string): Bytes => field(number, utf8.encode(value) as Uint8Array<ArrayBuffer>);
const float = (number: number, value: number): Bytes => [tag(number, 5), new Uint8Array(Float32Array.of(value).buffer)];
