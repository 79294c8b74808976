/**
 * The command table: each command's id (topics separated by ':', which people type as a space) and its module. Modules are
 * loaded when they are needed, so that a command pays for the libraries it uses and no others.
 */
import { commandTable } from '../command-table.ts';

export const { COMMANDS, loadCommands } = commandTable({
  'backend:test': () => import('./backend/test.ts'),
  backup: () => import('./backup.ts'),
  browse: () => import('./browse.ts'),
  cat: () => import('./cat.ts'),
  completion: () => import('./completion.ts'),
  demo: () => import('./demo.ts'),
  diff: () => import('./diff.ts'),
  find: () => import('./find.ts'),
  'identity:export': () => import('./identity/export.ts'),
  'identity:import': () => import('./identity/import.ts'),
  'identity:log': () => import('./identity/log.ts'),
  'identity:object': () => import('./identity/object.ts'),
  'identity:relays': () => import('./identity/relays.ts'),
  'identity:rotate': () => import('./identity/rotate.ts'),
  'identity:show': () => import('./identity/show.ts'),
  'identity:sign': () => import('./identity/sign.ts'),
  'identity:verify': () => import('./identity/verify.ts'),
  init: () => import('./init.ts'),
  ls: () => import('./ls.ts'),
  'paper:create': () => import('./paper/create.ts'),
  'paper:verify': () => import('./paper/verify.ts'),
  'recipients:add': () => import('./recipients/add.ts'),
  'recipients:list': () => import('./recipients/list.ts'),
  'recipients:remove': () => import('./recipients/remove.ts'),
  recover: () => import('./recover.ts'),
  repair: () => import('./repair.ts'),
  restore: () => import('./restore.ts'),
  'schedule:install': () => import('./schedule/install.ts'),
  'schedule:remove': () => import('./schedule/remove.ts'),
  'schedule:show': () => import('./schedule/show.ts'),
  snapshots: () => import('./snapshots.ts'),
  'snapshots:acknowledge': () => import('./snapshots/acknowledge.ts'),
  'snapshots:note': () => import('./snapshots/note.ts'),
  'snapshots:tag': () => import('./snapshots/tag.ts'),
  sync: () => import('./sync.ts'),
  verify: () => import('./verify.ts'),
});
