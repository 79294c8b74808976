/** For programs of tests that need a user without privileges. */

const NOBODY = 65_534;

/** Becomes `nobody` when root has started this process; for anybody else nothing changes. */
export function becomeNobody(): void {
  if (process.geteuid?.() !== 0) return;
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}
