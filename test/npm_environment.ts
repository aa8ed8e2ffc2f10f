/** npm tells its children who called; an installation in another folder must not hear of this one. */
export const npmEnvironment = (env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(env).filter(([name]) => !/^(npm_|INIT_CWD$)/i.test(name) || /^npm_config_(registry|userconfig|cache)$/i.test(name)),
  );
