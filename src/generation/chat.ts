/** Conversations as the text that a model was trained on them in: by the template of its tokenizer (Jinja). */
import { joinPath } from '#platform';
import { InputError } from '../errors.ts';
import { kindOf, readBytes } from '../io/files.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

export interface ChatMessage {
  /** Who says it: 'system', 'user', 'assistant', or what else the template knows. */
  role: string;
  content: string;
}

export type Chat = readonly ChatMessage[];

export const isMessage = (value: unknown): value is ChatMessage => {
  const { role, content } = (value ?? {}) as Partial<ChatMessage>;
  return typeof role === 'string' && typeof content === 'string';
};

/** The text of a conversation, up to where the answer begins. @throws InputError if the template refuses it */
export type ChatTemplate = (chat: Chat) => Promise<string>;

/** Bytes. */
const largestTemplate = 2 ** 20;

/**
 * The template of a model's folder: chat_template.jinja, or what tokenizer_config.json says. undefined if it has none. What reads it is loaded with the first
 * conversation: a model whose template cannot be read writes on from texts all the same.
 */
export async function readChatTemplate(folder: string, tokenizer: Tokenizer): Promise<ChatTemplate | undefined> {
  const path = joinPath(folder, 'chat_template.jinja');
  const own = (await kindOf(path)) === 'file';
  const source = own ? new TextDecoder().decode(await readBytes(path, largestTemplate)) : templateIn(tokenizer.settings.config);
  if (source === undefined) return undefined;
  const name = own ? path : `${joinPath(folder, 'tokenizer_config.json')}: 'chat_template'`;
  const specials = specialTokens(tokenizer);
  return async (chat) => {
    const { Template } = await import('@huggingface/jinja');
    try {
      const messages = chat.map((message) => ({ ...message }));
      return new Template(source).render({ ...specials, messages, add_generation_prompt: true });
    } catch (error) {
      throw new InputError(`${name}: ${(error as Error).message}`, { cause: error });
    }
  };
}

/** One template, or of several that which is called 'default'. */
function templateIn(config: Readonly<Record<string, unknown>> | undefined): string | undefined {
  const said = config?.chat_template;
  if (typeof said === 'string') return said;
  if (!Array.isArray(said)) return undefined;
  const named = said.find((one) => one?.name === 'default')?.template;
  return typeof named === 'string' ? named : undefined;
}

/** What templates call special tokens: bos_token and so on. */
function specialTokens({ settings: { config = {} } }: Tokenizer): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [name, value] of Object.entries(config)) {
    const content = typeof value === 'string' ? value : (value as { content?: unknown } | null)?.content;
    if (name.endsWith('_token') && typeof content === 'string') tokens[name] = content;
  }
  return tokens;
}
