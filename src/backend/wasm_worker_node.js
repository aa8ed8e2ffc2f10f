/** Gives one of Node's worker threads the two functions of a browser's worker that wasm_worker.js uses, and runs that. */
import { parentPort } from 'node:worker_threads';

globalThis.postMessage = (message, transfer) => parentPort.postMessage(message, transfer);
globalThis.addEventListener = (type, receive) => parentPort.on(type, (data) => receive({ data }));
await import('./wasm_worker.js');
