/** What sentence-transformers calls the prompts of queries and of what is searched, in the order in which it looks for them. */
const names = { query: ['query'], document: ['document', 'passage', 'corpus'] };

/** The name of a model's prompt for one side of a search, as `encode_query` and `encode_document` choose it; undefined if there is none of its own. */
export function retrievalPrompt(prompts: Readonly<Record<string, string>>, side: keyof typeof names): string | undefined {
  return names[side].find((name) => Object.hasOwn(prompts, name));
}
