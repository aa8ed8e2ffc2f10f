import type { Command } from 'commander';
import { conditionalMatmulCommand } from './bench_conditional_matmul.ts';
import { decodeCommand } from './bench_decode.ts';
import { depthCommand } from './bench_depth.ts';
import { layerCommand } from './bench_layer.ts';
import { modelCommand } from './bench_model.ts';
import { scalingCommand } from './bench_scaling.ts';
import { trainingCommand } from './bench_training.ts';

export function benchCommand(program: Command): void {
  const command = program.command('bench').description('measure how fast this machine computes');
  for (const add of [layerCommand, conditionalMatmulCommand, modelCommand, decodeCommand, scalingCommand, depthCommand, trainingCommand])
    add(command);
}
