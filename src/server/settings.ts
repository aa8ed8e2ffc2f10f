/** What a server is told. */

export interface ServerSettings {
  /** Texts that are taken on at a time; whatever is more gets 429 at once. */
  maxConcurrentRequests: number;
  /** Texts of a request that count against that; longer lists are answered, in parts of this size. */
  maxClientBatchSize: number;
  /** Tokens of a batch, padding included. */
  maxBatchTokens: number;
  /** Texts of a batch, if they are limited. */
  maxBatchRequests?: number;
  /** Whether texts that are too long are cut where a request does not say. */
  autoTruncate: boolean;
  /** Bytes of a request's body. */
  payloadLimit: number;
  /** Seconds after which a request is given up. */
  requestSeconds: number;
  /** Without any, everybody may ask. */
  apiKeys: readonly string[];
  /** Origins whose pages may ask; '*' is all. */
  corsAllowOrigin: readonly string[];
  version: string;
}
