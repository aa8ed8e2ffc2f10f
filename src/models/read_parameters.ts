import type { Device } from '../backend/device.ts';
import type { FileType } from '../backend/operations/strided_copy.ts';
import type { SafetensorsFile } from '../io/safetensors.ts';
import type { Parameter, Placement } from '../nn/parameter.ts';

/** What is read at once: enough that calls cost nothing beside it, little enough that two of them cost no memory and stay in the caches. */
const chunkBytes = 2 ** 21;

/** Some rows of a tensor of the file, and where they go. */
interface Piece {
  parameter: Parameter;
  type: FileType;
  /** Bytes from the start of the file's values. */
  start: number;
  bytes: number;
  placement: Placement;
}

/** Neighboring pieces. */
interface Chunk {
  start: number;
  bytes: number;
  pieces: Piece[];
}

/**
 * Reads the parameters' values as they lie in the file, large tensors in parts; the device converts and places one part while the next
 * is being read. `locate` gives a tensor's name in the file; shapes have been checked. `complete` is called for each parameter when all
 * of it is queued. Rejects, naming no tensor, if a value is not finite.
 */
export async function readParameters(
  file: SafetensorsFile,
  device: Device,
  parameters: readonly Parameter[],
  locate: (name: string) => string,
  complete: (parameter: Parameter) => void,
): Promise<void> {
  const pieces: Piece[] = [];
  for (const parameter of parameters) {
    for (const { name, placement } of parameter.layout.tensors) {
      const location = locate(name);
      const { dtype, start } = file.info(location);
      if (dtype === 'F32' || dtype === 'BF16' || dtype === 'F16') pieces.push(...piecesOf(parameter, placement, dtype, start));
      else await convertAndPlace(file, device, parameter, location, placement);
    }
  }
  const left = new Map(parameters.map((parameter) => [parameter, 0]));
  for (const { parameter } of pieces) left.set(parameter, (left.get(parameter) as number) + 1);
  for (const [parameter, count] of left) if (count === 0) complete(parameter);

  const chunks = chunksOf(pieces);
  const size = chunks.reduce((most, { bytes }) => Math.max(most, bytes), 0);
  const buffers = [new Uint8Array(size), new Uint8Array(chunks.length > 1 ? size : 0)];
  const placed: Promise<void>[] = [Promise.resolve(), Promise.resolve()];
  const read = async (index: number) => {
    await placed[index % 2];
    const { start, bytes } = chunks[index];
    return file.readBytes(start, bytes, buffers[index % 2]);
  };
  let reading = chunks.length > 0 ? read(0) : undefined;
  for (let index = 0; index < chunks.length; index++) {
    const values = (await reading) as Uint8Array<ArrayBuffer>;
    reading = index + 1 < chunks.length ? read(index + 1) : undefined;
    reading?.catch(() => {}); // it is awaited, unless something else fails before
    const chunk = chunks[index];
    using input = device.borrow('values of a file', values);
    for (const { parameter, type, start, bytes, placement } of chunk.pieces) {
      device.stridedCopy({ input: input.view([bytes], start - chunk.start), type, output: parameter.value, ...placement });
      const count = (left.get(parameter) as number) - 1;
      left.set(parameter, count);
      if (count === 0) complete(parameter);
    }
    placed[index % 2] = device.finish();
    placed[index % 2].catch(() => {}); // awaited by the reader after next, or below
  }
  await Promise.all(placed);
}

/** A tensor's rows, as many at a time as make a chunk. */
function* piecesOf(parameter: Parameter, placement: Placement, type: FileType, start: number): Generator<Piece> {
  const rowBytes = placement.columns * (type === 'F32' ? 4 : 2);
  const rowsAtOnce = Math.max(1, Math.floor(chunkBytes / rowBytes));
  for (let row = 0; row < placement.rows; row += rowsAtOnce) {
    const rows = Math.min(rowsAtOnce, placement.rows - row);
    const offset = placement.offset + row * placement.rowStride;
    yield { parameter, type, start: start + row * rowBytes, bytes: rows * rowBytes, placement: { ...placement, rows, offset } };
  }
}

function chunksOf(pieces: Piece[]): Chunk[] {
  pieces.sort((a, b) => a.start - b.start);
  const chunks: Chunk[] = [];
  for (const piece of pieces) {
    const last = chunks.at(-1);
    if (last && last.start + last.bytes === piece.start && last.bytes + piece.bytes <= chunkBytes) {
      last.pieces.push(piece);
      last.bytes += piece.bytes;
    } else chunks.push({ start: piece.start, bytes: piece.bytes, pieces: [piece] });
  }
  return chunks;
}

/** For types that the device does not read: F64, rounded. */
async function convertAndPlace(
  file: SafetensorsFile,
  device: Device,
  parameter: Parameter,
  location: string,
  placement: Placement,
): Promise<void> {
  using input = device.borrow(location, new Uint8Array((await file.read(location)).buffer));
  device.stridedCopy({ input, type: 'F32', output: parameter.value, ...placement });
  await device.finish();
}
