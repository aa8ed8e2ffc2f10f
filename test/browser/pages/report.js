/** Runs `work` and posts its result, or its error, to the test's server. */
export async function report(work) {
  let message;
  try {
    message = { result: await work() };
  } catch (error) {
    message = { error: error.stack ?? String(error) };
  }
  await fetch('/report', { method: 'POST', body: JSON.stringify(message) });
}
