/**
 * The thread that owns a WASM backend's memory, and each of its helpers. Plain JavaScript, for it is loaded as it stands in
 * browsers' workers, and by wasm_worker_node.js in Node's worker threads. src/backend/wasm.ts is the other side; kernels/wasm/runtime.cc is what it calls.
 */
const post = (message, transfer) => globalThis.postMessage(message, transfer ?? []);

/** Bytes of each thread's stack. */
const stackBytes = 262144;

/** @type {{ memory: WebAssembly.Memory, exports: any, table?: number, tableLength: number, error?: string }} */
let state;

/** Addresses come out of WASM as signed numbers. */
const allocate = (bytes) => state.exports.allocate(bytes) >>> 0;

/** Views are made anew at each use: when memory grows, older ones see nothing any more. */
const bytesAt = (address, length) => new Uint8Array(state.memory.buffer, address, length);

async function download(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: the server answers ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

async function start({ wasm, threads, maximumPages }) {
  const module = await WebAssembly.compile(typeof wasm === 'string' ? await download(wasm) : wasm);
  const memory = new WebAssembly.Memory({ initial: 32, maximum: maximumPages, shared: threads > 1 });
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  state = { memory, exports, table: 0, tableLength: 0 };
  exports.start(threads);
  const stacks = Array.from({ length: threads - 1 }, () => allocate(stackBytes) + stackBytes);
  post({ kind: 'ready', module: threads > 1 ? module : undefined, memory: threads > 1 ? memory : undefined, stacks });
}

async function help({ module, memory, stack, worker }) {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  exports.__stack_pointer.value = stack;
  exports.help(worker);
}

/** Makes code i mean the kernel of that name, for each of the names, which follow those that came before. */
function learn(names) {
  const { exports } = state;
  const length = state.tableLength + names.length;
  const table = allocate(4 * length);
  if (state.table) {
    bytesAt(table, 4 * state.tableLength).set(bytesAt(state.table, 4 * state.tableLength));
    exports.release(state.table, 4 * state.tableLength);
  }
  names.forEach((name, i) => {
    const text = new TextEncoder().encode(name);
    const at = allocate(text.length);
    bytesAt(at, text.length).set(text);
    const number = exports.kernel(at, text.length);
    exports.release(at, text.length);
    if (number < 0) throw new Error(`the WASM backend has no kernel '${name}'`);
    new Int32Array(state.memory.buffer, table, length)[state.tableLength + i] = number;
  });
  state.table = table;
  state.tableLength = length;
}

/** Copies what JavaScript has into a new block; the caller releases it. */
function bring(view) {
  const source = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const address = allocate(source.length);
  if (address === 0) throw new Error(`no memory for ${source.length} bytes`);
  bytesAt(address, source.length).set(source);
  return { address, length: source.length };
}

function execute({ commands, names, staged }) {
  const { exports } = state;
  if (names.length > 0) learn(names);
  if (commands.length === 0) return;
  const blocks = [];
  try {
    for (const view of [...staged, commands]) blocks.push(bring(view));
    const list = blocks[blocks.length - 1].address;
    blocks.push(bring(Uint32Array.from(blocks.slice(0, -1), ({ address }) => address)));
    exports.run(list, commands.length, state.table, blocks[blocks.length - 1].address);
  } finally {
    for (const { address, length } of blocks) exports.release(address, length);
  }
}

/** The first error since the last barrier, and forgets it. */
function takeError() {
  const { exports, error } = state;
  state.error = undefined;
  const failure = exports.takeFailure() >>> 0;
  if (failure === 0) return error;
  const [format, ...values] = new Float64Array(state.memory.buffer, failure, 4);
  let end = format;
  const all = new Uint8Array(state.memory.buffer);
  while (all[end] !== 0) end++;
  let next = 0;
  return new TextDecoder().decode(all.slice(format, end)).replace(/%lld/g, () => String(values[next++]));
}

function run(job) {
  try {
    execute(job);
  } catch (error) {
    // A trap: what a failing allocation of scratch ends in, which has said why.
    state.error ??= error instanceof Error ? error.message : String(error);
  }
  if (job.id === undefined) return;
  const error = takeError();
  let bytes;
  if (error === undefined && job.read && job.read.bytes > 0)
    bytes = bytesAt(state.exports.locate(job.read.address) >>> 0, job.read.bytes).slice().buffer;
  const answer = { kind: 'done', id: job.id, error, bytes };
  if (!job.now) {
    post(answer, bytes ? [bytes] : []);
    return;
  }
  job.now.port.postMessage(answer, bytes ? [bytes] : []);
  Atomics.store(new Int32Array(job.now.signal), 0, 1);
  Atomics.notify(new Int32Array(job.now.signal), 0);
}

// Lists that come before the module is there wait for it.
let ready = Promise.resolve();
globalThis.addEventListener('message', ({ data: message }) => {
  if (message.kind === 'start') ready = start(message).catch((error) => post({ kind: 'failed', error: String(error?.message ?? error) }));
  else if (message.kind === 'help') help(message);
  else if (state) run(message);
  else ready = ready.then(() => state && run(message));
});
