/**
 * TypeDoc finds each property of a type that is inferred from a schema (valibot) declared twice, at one and the same place, and warns of its
 * two comments. There is one: these warnings are left out.
 */
export function load({ logger }) {
  const { warn, info } = logger;
  let twice = false;
  logger.warn = (message, ...rest) => {
    twice = / has multiple declarations with a comment\./.test(message);
    if (!twice) warn.call(logger, message, ...rest);
  };
  logger.info = (message, ...rest) => {
    if (!twice || !/ are declared at:/.test(message)) info.call(logger, message, ...rest);
  };
}
