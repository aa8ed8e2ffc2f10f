/** Losses. */
import { ShapeError } from '../../errors.ts';
import { inPlace, input, operation, optional, output } from './operation.ts';
import { describe, expectInt32 } from './shapes.ts';

/**
 * losses[r] = logSumExp(logits[r]) - logits[r][labels[r]], and gradLogits = scale (softmax - one-hot), which may be the logits themselves.
 * Rows labeled ignoreIndex (-100) get 0 in both. logits [rows, classes], labels i32 [rows], losses [rows]. A label outside the classes is a late error.
 */
export const crossEntropy = operation<{ scale?: number; ignoreIndex?: number }>()('crossEntropy', {
  operands: {
    logits: input('f32'),
    labels: input('i32'),
    losses: output('f32', 'rows'),
    gradLogits: optional(inPlace(output('f32', 'size'), 'logits')),
  },
  numbers: ['rows', 'classes', 'scale', 'ignoreIndex', 'size'],
  measure: ({ logits, labels, scale = 1, ignoreIndex = -100 }) => {
    const rows = labels.size;
    const classes = rows > 0 ? logits.size / rows : 0;
    if (!Number.isInteger(classes)) throw new ShapeError(`logits ${describe(logits)} are not rows of classes for ${rows} labels`);
    expectInt32('ignoreIndex', ignoreIndex);
    return [rows, classes, scale, ignoreIndex, logits.size];
  },
});

/** losses = (predictions - targets)^2, elementwise; gradPredictions = 2 scale (predictions - targets), which may be the predictions themselves. */
export const squaredError = operation<{ scale?: number }>()('squaredError', {
  operands: {
    predictions: input('f32'),
    targets: input('f32', 'count'),
    losses: output('f32', 'count'),
    gradPredictions: optional(inPlace(output('f32', 'count'), 'predictions')),
  },
  numbers: ['count', 'scale'],
  measure: ({ predictions, scale = 1 }) => [predictions.size, scale],
});
