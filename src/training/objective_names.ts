/** What a pretraining predicts: tokens that are masked, or at each place the next. */
export const objectiveNames = ['masked', 'causal'] as const;
export type ObjectiveName = (typeof objectiveNames)[number];
