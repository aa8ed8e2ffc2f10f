/** All routes that answer texts. */
import type { Route } from '../route.ts';
import type { ModelKind } from '../served_model.ts';
import { chatRoute, completionsRoute } from './completions.ts';
import { embedAllRoute, embedRoute, similarityRoute } from './embed.ts';
import { fillMaskRoute } from './fill_mask.ts';
import { embeddingsRoute } from './openai.ts';
import { documentsRoute, predictRoute, rerankRoute } from './predict.ts';
import { decodeRoute, tokenizeRoute } from './tokenize.ts';

export const allRoutes: readonly Route[] = [
  embedRoute,
  embedAllRoute,
  similarityRoute,
  embeddingsRoute,
  predictRoute,
  rerankRoute,
  documentsRoute,
  fillMaskRoute,
  completionsRoute,
  chatRoute,
  tokenizeRoute,
  decodeRoute,
];

/** What a POST to / does, by the kind of the first model: clients that are told an address alone ask there. */
export const mainRoutes: Record<ModelKind, Route> = {
  embedding: embedRoute,
  classifier: predictRoute,
  reranker: rerankRoute,
  fill_mask: fillMaskRoute,
  decoder: completionsRoute,
};

/** Those that one of the models does. */
export const routesFor = (kinds: readonly ModelKind[]) =>
  allRoutes.filter((route) => route.kinds === undefined || route.kinds.some((kind) => kinds.includes(kind)));
