import { Argument, type Command } from 'commander';

/**
 * `ufb completion SHELL` prints what makes a shell complete the program's commands and options; the shell then asks `ufb complete -- WORDS`.
 * A library does both; it is loaded only for them.
 */
export function completionCommand(program: Command): void {
  program
    .command('completion')
    .description('print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'whose script').choices(['bash', 'zsh', 'fish', 'powershell']))
    .addHelpText(
      'after',
      '\nExamples:\n  source <(ufb completion bash)                                         in ~/.bashrc\n  source <(ufb completion zsh)                                          in ~/.zshrc\n  ufb completion fish > ~/.config/fish/completions/ufb.fish             once',
    )
    .action(async (shell: string) => (await completionOf(program)).setup('ufb', 'ufb', shell));
  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .action(async (words: string[]) => (await completionOf(program)).parse(words));
}

/** The words of the program's commands, told to the library that completes them. */
async function completionOf(program: Command) {
  const [{ default: tab }, { ShellCompDirective }, { Command: Plain }] = await Promise.all([
    import('@bomb.sh/tab/commander'),
    import('@bomb.sh/tab'),
    import('commander'),
  ]);
  // The library adds commands of its own, which are these two.
  const described = new Plain('ufb');
  for (const command of program.commands) if (!/^complet(e|ion)$/.test(command.name())) described.addCommand(command);
  const words = tab(described, { completionCommandName: 'completion' });
  // It tells shells never to offer files. Most of our options name some: they do where there is nothing else.
  return Object.defineProperty(words, 'directive', {
    get: () =>
      words.completions.length > 0 ? ShellCompDirective.ShellCompDirectiveNoFileComp : ShellCompDirective.ShellCompDirectiveDefault,
    set() {},
  });
}
