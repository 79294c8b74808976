/** How long holdfast takes to do next to nothing. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { measure, type Command } from './measure.ts';
import { series, type StartResult } from './results.ts';
import { holdfast, holdfastCommand } from './tools.ts';

/** `work` is an empty folder. Node, `--version` and `snapshots` run in turn, `runs` times. */
export async function measureStart(program: string, work: string, runs: number): Promise<StartResult> {
  const [tree, home] = [join(work, 'tree'), join(work, 'home')];
  mkdirSync(tree, { recursive: true });
  writeFileSync(join(tree, 'MEMORY.md'), 'The operator prefers short answers.\n');
  const repository = await holdfast(program).open(work, home, tree);
  await measure(repository.backup('first'));

  const version = holdfastCommand(program, ['--version'], home);
  const commands = {
    node: { ...version, args: ['-e', '0'] },
    version,
    snapshots: holdfastCommand(program, ['snapshots', '--config', join(work, 'holdfast.yaml')], home),
  } satisfies Record<keyof StartResult, Command>;
  const milliseconds = { node: [] as number[], version: [] as number[], snapshots: [] as number[] };
  // The first run of each fills the cache of compiled code.
  for (const command of Object.values(commands)) await measure(command);
  for (let run = 0; run < runs; run++)
    for (const name of ['node', 'version', 'snapshots'] as const)
      milliseconds[name].push(1000 * (await measure(commands[name])).seconds);
  rmSync(work, { recursive: true });

  const beyondNode = (values: readonly number[]) =>
    series(values.map((value, run) => value - (milliseconds.node[run] as number)));
  return {
    node: series(milliseconds.node),
    version: beyondNode(milliseconds.version),
    snapshots: beyondNode(milliseconds.snapshots),
  };
}
