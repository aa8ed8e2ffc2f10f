/** Codes of commands that are not kernels; see kernels/command_list.h. */
export const commandCodes = {
  releaseBlock: -1,
  writeInline: -2,
  writeStaged: -3,
  allocateBlock: -4,
  startSum: -5,
  startGather: -6,
  awaitExchanges: -7,
} as const;

/** Up to so many bytes travel inside the list of commands. */
export const inlineBytes = 4096;
/** A list this long (numbers) is handed over at once. */
const longList = 1 << 15;
/** So is one with this much memory (bytes) waiting for it, so that memory does not pile up behind. */
const muchMemory = 1 << 20;

/**
 * What C++ is told to do, as numbers: code, operand count, operand addresses (0: absent), number count, numbers; command after command.
 * Kernels have codes from 0 on.
 */
export class CommandList {
  private commands = new Float64Array(4096);
  private used = 0;
  private waiting = 0;

  /** `waiting`: bytes of memory that are free again once the command has run. */
  add(code: number, addresses: readonly number[], numbers: readonly number[], waiting = 0): void {
    this.waiting += waiting;
    let at = this.reserve(3 + addresses.length + numbers.length);
    const list = this.commands;
    list[at++] = code;
    list[at++] = addresses.length;
    for (const address of addresses) list[at++] = address;
    list[at++] = numbers.length;
    for (const number of numbers) list[at++] = number;
  }

  /** Writes `values` (at most {@link inlineBytes}) to an address. */
  write(address: number, values: ArrayBufferView): void {
    const { byteLength: bytes } = values;
    const at = this.reserve(5 + Math.ceil(bytes / 8));
    this.commands.set([commandCodes.writeInline, 1, address, 1 + Math.ceil(bytes / 8), bytes], at);
    // As bytes: as doubles, some patterns are NaNs, which a copy may change.
    new Uint8Array(this.commands.buffer, 8 * (at + 5), bytes).set(new Uint8Array(values.buffer, values.byteOffset, bytes));
  }

  get empty(): boolean {
    return this.used === 0;
  }

  /** Long enough, or with enough memory waiting for it, to be handed over without waiting for more. */
  get long(): boolean {
    return this.used >= longList || this.waiting >= muchMemory;
  }

  /** The list and how many of its numbers count; the next command starts a new one in the same memory. */
  take(): { commands: Float64Array<ArrayBuffer>; used: number } {
    const taken = { commands: this.commands, used: this.used };
    this.used = 0;
    this.waiting = 0;
    return taken;
  }

  /** Makes room for so many more numbers; returns where they begin. */
  private reserve(count: number): number {
    const at = this.used;
    this.used += count;
    if (this.used > this.commands.length) {
      const longer = new Float64Array(Math.max(this.used, 2 * this.commands.length));
      new Uint8Array(longer.buffer).set(new Uint8Array(this.commands.buffer, 0, 8 * at));
      this.commands = longer;
    }
    return at;
  }
}
