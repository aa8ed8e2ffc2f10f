import { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { convertCommand } from '../../src/cli/commands/convert.ts';
import { finetuneCommand } from '../../src/cli/commands/finetune.ts';
import { glueCommand } from '../../src/cli/commands/glue.ts';
import { pretrainCommand } from '../../src/cli/commands/pretrain.ts';
import { rerankCommand } from '../../src/cli/commands/rerank.ts';
import { groupOptions, helpConfiguration, ungroupedOptions } from '../../src/cli/help.ts';
import { ufb } from './ufb.ts';

function added(add: (program: Command) => void): Command {
  const program = new Command('ufb').configureHelp(helpConfiguration);
  add(program);
  return program.commands[0];
}

const headingsOf = (help: string) => help.split('\n').filter((line) => /^\S.*:$/.test(line));

describe('commands of many options', () => {
  test.each([
    ['pretrain', pretrainCommand, 'Required, with one of --tokens and --minutes:', ['--corpus', '--out', '--tokens', '--minutes']],
    ['convert', convertCommand, 'Required:', ['--model', '--corpus', '--out']],
    ['finetune', finetuneCommand, 'Required:', ['--train', '--out']],
    ['glue', glueCommand, 'Required:', ['--data']],
  ] as const)('%s: in groups, what is required first', (_, add, heading, required) => {
    const command = added(add);
    expect(ungroupedOptions(command)).toEqual([]);
    const help = command.helpInformation();
    expect(headingsOf(help)[0]).toBe(heading);
    expect(headingsOf(help).length).toBeGreaterThanOrEqual(5);
    const listed = [...help.matchAll(/^ {2}(?:-[a-z], )?(--[a-z-]+)/gm)].flatMap(([, name]) => (name === '--help' ? [] : name));
    expect(listed.slice(0, required.length)).toEqual(required);
    expect(new Set(listed).size).toBe(command.options.length);
  });
});

test('a command of few: what is required first, the others below', () => {
  const help = added(rerankCommand).helpInformation();
  expect(headingsOf(help).slice(0, 3)).toEqual(['Arguments:', 'Required:', 'Options:']);
  const [required, others] = help.split('Options:');
  expect(required).toContain('--in <file>');
  expect(required).toContain('--model <model>');
  expect(others).not.toContain('--in <file>');
});

test('a group of an option that is not there is a mistake of ours', () => {
  expect(() => groupOptions(new Command('some').option('--one'), { 'All:': '--one --two' })).toThrow('some has no option --two');
});

test('the list of commands is in the order of use', async () => {
  const { code, stdout } = await ufb(['--help']);
  expect(code).toBe(0);
  const headings = headingsOf(stdout).slice(1);
  expect(headings.slice(0, 4)).toEqual(['Use a model:', 'Train one:', 'Measure it:', 'Take it elsewhere:']);
  const names = [...stdout.matchAll(/^ {2}([a-z][a-z-]*)/gm)].map(([, name]) => name);
  const order = [
    'fill-mask',
    'embed',
    'similar',
    'rerank',
    'classify',
    'tokenizer',
    'pretrain',
    'convert',
    'finetune',
    'eval',
    'glue',
    'curves',
    'export',
  ];
  expect(names.filter((name) => order.includes(name))).toEqual(order);
});
