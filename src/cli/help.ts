/** How `--help` lists options: required ones first, and where there are many, in groups. */
import { type Command, Help, type HelpConfiguration, type Option } from 'commander';

/** Where an option stands among its command's. */
const places = new WeakMap<Option, number>();

/** What a command without groups has. */
const requiredHeading = 'Required:';

/**
 * Puts a command's options below headings, in the order given: the options as they are written, with blanks between. What is in no group
 * stands below 'Options:', behind all others.
 */
export function groupOptions(command: Command, groups: Record<string, string>): void {
  let place = 0;
  for (const [heading, names] of Object.entries(groups)) {
    for (const name of names.split(' ')) {
      const option = command.options.find(({ long }) => long === name);
      if (!option) throw new Error(`${command.name()} has no option ${name}`);
      option.helpGroup(heading);
      places.set(option, place++);
    }
  }
}

/** Which options are not in one of the groups of {@link groupOptions}; none for a command without groups. */
export function ungroupedOptions({ options }: Command): string[] {
  if (!options.some((option) => places.has(option))) return [];
  return options.filter((option) => !places.has(option)).map(({ long }) => `${long}`);
}

/** What the commands that train have in common. */
export const computingOptions = '--device --threads --precision';
/** Of commands that a launcher of MPI may start several times. */
export const ranksHeading = 'Several processes, by mpirun (docs/distributed.md):';
export const rankOptions = '--wire --shard-optimizer';

export const helpConfiguration: HelpConfiguration = {
  visibleOptions(command) {
    const place = (option: Option) => places.get(option) ?? (option.mandatory ? -1 : Number.MAX_SAFE_INTEGER);
    const options = Help.prototype.visibleOptions.call(this, command).sort((a, b) => place(a) - place(b));
    for (const option of options) if (option.mandatory) option.helpGroupHeading ??= requiredHeading;
    return options;
  },
  // In the order of what is shown, not of what was declared.
  groupItems<Item extends Command | Option>(_: Item[], visible: Item[], groupOf: (item: Item) => string) {
    const groups = new Map<string, Item[]>();
    for (const item of visible) groups.set(groupOf(item), [...(groups.get(groupOf(item)) ?? []), item]);
    return groups;
  },
};
