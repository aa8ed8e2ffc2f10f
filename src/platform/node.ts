/** What differs between Node and browsers: files, threads, loading. This is Node's side; nothing else in src imports `node:` modules. */
export {};
