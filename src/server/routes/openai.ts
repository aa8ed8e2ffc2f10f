/** OpenAI's routes. */
import * as v from 'valibot';
import { route } from '../route.ts';
import { dimensions, fields, inputs, modelName } from '../schemas.ts';
import { embed } from './embed.ts';

export const embeddingsRoute = route({
  paths: ['/v1/embeddings', '/embeddings'],
  summary: "The vector of each text: OpenAI's form of /embed",
  kinds: ['embedding'],
  body: fields({
    input: inputs,
    model: modelName,
    user: v.nullish(v.string()),
    encoding_format: v.nullish(v.picklist(['float', 'base64'], "'float' or 'base64'"), 'float'),
    dimensions,
  }),
  answer: v.object({
    object: v.literal('list'),
    data: v.array(
      v.object({
        object: v.literal('embedding'),
        embedding: v.pipe(
          v.union([v.array(v.number()), v.string()]),
          v.description('Numbers, or base64 of them as 32-bit floats, little-endian.'),
        ),
        index: v.number(),
      }),
    ),
    model: v.string(),
    usage: v.object({ prompt_tokens: v.number(), total_tokens: v.number() }),
  }),
  example: { input: ['A cat sleeps.', 'A dog barks.'] },
  async handle({ input, encoding_format, ...asked }, exchange) {
    const vectors = await embed({ ...asked, inputs: input, normalize: true }, exchange);
    const { tokens } = exchange;
    return {
      object: 'list',
      data: vectors.map((vector, index) => ({
        object: 'embedding',
        embedding: encoding_format === 'base64' ? base64(vector) : vector,
        index,
      })),
      model: exchange.model?.name,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    };
  },
});

function base64(vector: Float32Array): string {
  const bytes = new DataView(new ArrayBuffer(4 * vector.length));
  for (const [i, value] of vector.entries()) bytes.setFloat32(4 * i, value, true);
  return Buffer.from(bytes.buffer).toString('base64');
}
