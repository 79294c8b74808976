/**
 * The command table: each command's id (topics separated by ':', which people type as a space) and its module. Modules are
 * loaded when they are needed, so that a command pays for the libraries it uses and no others.
 */
import { commandTable } from '../command-table.ts';

export const { COMMANDS, loadCommands } = commandTable({
  completion: () => import('./completion.ts'),
});
