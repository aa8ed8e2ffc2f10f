/**
 * The thread that owns a WASM backend's memory, and each of its helpers. Plain JavaScript, for it is loaded as it stands in
 * browsers' workers, and by wasm_worker_node.js in Node's worker threads. src/backend/wasm.ts is the other side; kernels/wasm/runtime.cc is what it calls.
 */
const post = (message, transfer) => globalThis.postMessage(message, transfer ?? []);
const messageOf = (error) => String(error?.message ?? error);
/** Says that this thread computes no more. Browsers say nothing of a promise that was rejected in a worker. */
const postFailed = (error) => post({ kind: 'failed', error: messageOf(error) });

/** Bytes of each thread's stack. */
const stackBytes = 262144;

/** @type {{ memory: WebAssembly.Memory, exports: any, table: number, tableLength: number, list: number, listBytes: number, error?: string }} */
let state;
/** Why nothing can be computed any more. */
let broken;

/** Addresses come out of WASM as signed numbers. */
const allocate = (bytes) => state.exports.allocate(bytes) >>> 0;
function allocateOrThrow(bytes) {
  const address = allocate(bytes);
  if (address === 0) throw new Error(`no memory for ${bytes} bytes`);
  return address;
}

/** Views are made anew at each use: when memory grows, older ones see nothing any more. */
const bytesAt = (address, length) => new Uint8Array(state.memory.buffer, address, length);

async function download(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: the server answers ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

async function start({ wasm, threads, maximumPages }) {
  const module = await WebAssembly.compile(typeof wasm === 'string' ? await download(wasm) : wasm);
  const memory = createMemory(maximumPages, threads > 1);
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  state = { memory, exports, table: 0, tableLength: 0, list: 0, listBytes: 0 };
  exports.start(threads);
  const stacks = Array.from({ length: threads - 1 }, () => allocateOrThrow(stackBytes) + stackBytes);
  post({ kind: 'ready', module: threads > 1 ? module : undefined, memory: threads > 1 ? memory : undefined, stacks });
}

/** Memory that may grow to so many pages; where the address space is short (phones), to half as many, and so on. */
function createMemory(maximum, shared) {
  try {
    return new WebAssembly.Memory({ initial: 32, maximum, shared });
  } catch (error) {
    if (maximum < 1024) throw error;
    return createMemory(maximum / 2, shared);
  }
}

async function help({ module, memory, stack, worker }) {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  for (let begin = exports.help; ; begin = exports.helpAgain) {
    exports.__stack_pointer.value = stack;
    try {
      begin(worker);
    } catch (error) {
      // A trap for want of scratch has said so; the owner tells it. Any other is the end, but the owner must not wait for this helper's part.
      if (!exports.hasFailed()) postFailed(error);
    }
  }
}

/** Makes code i mean the kernel of that name, for each of the names, which follow those that came before. */
function learn(names) {
  const { exports } = state;
  const length = state.tableLength + names.length;
  const table = allocateOrThrow(4 * length);
  if (state.table) {
    bytesAt(table, 4 * state.tableLength).set(bytesAt(state.table, 4 * state.tableLength));
    exports.release(state.table, 4 * state.tableLength);
  }
  names.forEach((name, i) => {
    const text = new TextEncoder().encode(name);
    const at = allocateOrThrow(text.length);
    bytesAt(at, text.length).set(text);
    const number = exports.kernel(at, text.length);
    exports.release(at, text.length);
    if (number < 0) throw new Error(`the WASM backend has no kernel '${name}'`);
    new Int32Array(state.memory.buffer, table, length)[state.tableLength + i] = number;
  });
  state.table = table;
  state.tableLength = length;
}

/** Memory for a list and the addresses of what is staged; kept, for the next list needs about as much. */
function memoryForList(bytes) {
  if (state.listBytes < bytes) {
    if (state.list) state.exports.release(state.list, state.listBytes);
    state.list = 0;
    state.list = allocateOrThrow(bytes);
    state.listBytes = bytes;
  }
  return state.list;
}

/** Copies a staged buffer into a block of its own; 0 if there is no memory for it, which the list then finds out. */
function bring(buffer) {
  const { byteLength } = buffer;
  const address = allocate(byteLength);
  if (address !== 0) bytesAt(address, byteLength).set(new Uint8Array(buffer));
  return address;
}

function execute({ commands: list, names, staged }) {
  const { exports } = state;
  if (names.length > 0) learn(names);
  if (list.byteLength === 0) return;
  const commands = new Float64Array(list);
  const address = memoryForList(commands.byteLength + 4 * staged.length);
  const blocks = staged.map(bring);
  new Float64Array(state.memory.buffer, address, commands.length).set(commands);
  new Uint32Array(state.memory.buffer, address + commands.byteLength, staged.length).set(blocks);
  const stack = exports.__stack_pointer.value;
  for (let go = () => exports.run(address, commands.length, state.table, address + commands.byteLength); ; go = exports.resume) {
    try {
      go();
      break;
    } catch (error) {
      exports.__stack_pointer.value = stack;
      // For want of scratch, which has been noted, or a mistake of ours.
      if (!exports.hasFailed()) state.error ??= messageOf(error);
    }
  }
  for (const [i, block] of blocks.entries()) exports.release(block, staged[i].byteLength);
}

/** The first error since the last barrier, and forgets it. */
function takeError() {
  const { exports, error } = state;
  state.error = undefined;
  const failure = exports.takeFailure() >>> 0;
  if (error !== undefined || failure === 0) return error;
  const [format, ...values] = new Float64Array(state.memory.buffer, failure, 4);
  let end = format;
  const all = new Uint8Array(state.memory.buffer);
  while (all[end] !== 0) end++;
  let next = 0;
  return new TextDecoder().decode(all.slice(format, end)).replace(/%lld/g, () => String(values[next++]));
}

function run(job) {
  if (broken === undefined) {
    try {
      execute(job);
    } catch (error) {
      // The rest of the list is lost, and with it what the other side believes to be in memory.
      broken = messageOf(error);
    }
  }
  if (job.id === undefined) return;
  // Whatever happens, somebody waits for an answer.
  let error = broken;
  let bytes;
  try {
    error ??= takeError();
    if (error === undefined && job.read?.bytes > 0) bytes = copyOf(job.read);
  } catch (problem) {
    error = messageOf(problem);
  }
  post({ kind: 'done', id: job.id, error, bytes }, bytes ? [bytes] : []);
}

/** What lies at a tensor's address, in memory of its own. */
function copyOf({ address, bytes }) {
  const at = state.exports.locate(address) >>> 0;
  if (at === 0) throw new Error('a tensor found no memory');
  return bytesAt(at, bytes).slice().buffer;
}

// Lists that come before the module is there wait for it.
let ready = Promise.resolve();
let started = false;
globalThis.addEventListener('message', ({ data: message }) => {
  if (message.kind === 'help') help(message).catch(postFailed);
  else if (message.kind === 'start') {
    ready = start(message)
      .catch((error) => {
        broken = messageOf(error);
        postFailed(error);
      })
      .then(() => {
        started = true;
      });
  } else if (started) run(message);
  else ready = ready.then(() => run(message));
});
