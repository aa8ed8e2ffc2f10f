/** Answers that come piece by piece: server-sent events. */

export const eventHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache',
  // nginx would keep them back otherwise.
  'x-accel-buffering': 'no',
};

/** Events, each an object. What reads them ends them too, also before they have all come. */
export class EventStream {
  constructor(private readonly events: AsyncGenerator<unknown, void>) {}

  /**
   * The body of a response: `data: JSON` for each event, and `data: [DONE]` at the end. Resolves when the first has come.
   * @param ended called when no more is to come
   * @param failure what is sent of an error, instead of the end
   * @throws what the events throw before the first
   */
  async body(ended: () => void, failure: (error: unknown) => unknown): Promise<ReadableStream<Uint8Array>> {
    const { events } = this;
    const first = await events.next();
    const encoder = new TextEncoder();
    const data = (event: unknown) => encoder.encode(`data: ${typeof event === 'string' ? event : JSON.stringify(event)}\n\n`);
    let next: Promise<IteratorResult<unknown, void>> | undefined = Promise.resolve(first);
    return new ReadableStream({
      async pull(controller) {
        try {
          const { value, done } = await (next ?? events.next());
          next = undefined;
          if (!done) {
            controller.enqueue(data(value));
            return;
          }
          controller.enqueue(data('[DONE]'));
        } catch (error) {
          controller.enqueue(data(failure(error)));
        }
        controller.close();
        ended();
      },
      async cancel() {
        await events.return();
        ended();
      },
    });
  }
}
