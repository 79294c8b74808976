/**
 * The command table: each command's id (topics separated by ':', which people type as a space) and its module. Modules are
 * loaded when they are needed, so that a command pays for the libraries it uses and no others.
 */
import { commandTable } from '../command-table.ts';

export const { COMMANDS, loadCommands } = commandTable({
  backup: () => import('./backup.ts'),
  cat: () => import('./cat.ts'),
  completion: () => import('./completion.ts'),
  demo: () => import('./demo.ts'),
  'identity:export': () => import('./identity/export.ts'),
  'identity:show': () => import('./identity/show.ts'),
  init: () => import('./init.ts'),
  ls: () => import('./ls.ts'),
  recover: () => import('./recover.ts'),
  restore: () => import('./restore.ts'),
  snapshots: () => import('./snapshots.ts'),
  sync: () => import('./sync.ts'),
  verify: () => import('./verify.ts'),
});
