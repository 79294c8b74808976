/** The explicit command table that oclif reads, with commands that load themselves when they are run. */
import type { Command, Config } from '@oclif/core';

interface CommandModule {
  default: Command.Class;
}

/** What oclif needs of an entry to run it: either a loaded command class, or a stand-in that loads the class first. */
export type TableEntry = Command.Class | { run(argv: string[], config: Config): Promise<unknown> };

export interface CommandTable {
  COMMANDS: Record<string, TableEntry>;
  /**
   * Puts the loaded classes into COMMANDS, which help needs (summaries, flags) where no manifest tells it. The published
   * program has a manifest.
   */
  loadCommands: () => Promise<void>;
}

export function commandTable(modules: Record<string, () => Promise<CommandModule>>): CommandTable {
  async function load(id: string): Promise<Command.Class> {
    const module = await modules[id]?.();
    if (module === undefined) throw new Error(`no command module ${id}`);
    module.default.id = id;
    return module.default;
  }
  const ids = Object.keys(modules);
  const COMMANDS: Record<string, TableEntry> = Object.fromEntries(
    ids.map((id) => [id, { run: async (argv: string[], config: Config) => (await load(id)).run(argv, config) }]),
  );
  return {
    COMMANDS,
    loadCommands: async () =>
      void Object.assign(COMMANDS, Object.fromEntries(await Promise.all(ids.map(async (id) => [id, await load(id)])))),
  };
}
