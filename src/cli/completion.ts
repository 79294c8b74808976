/** Completion scripts made from the command table: they hold all names, so that pressing TAB starts no program. */

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export interface CompletedCommand {
  /** As typed: 'identity show'. */
  words: string;
  summary: string;
  flags: readonly { name: string; summary: string; takesValue: boolean }[];
}

export function completionScript(shell: Shell, commands: readonly CompletedCommand[]): string {
  switch (shell) {
    case 'bash':
      return bash(commands);
    case 'zsh':
      return zsh(commands);
    case 'fish':
      return fish(commands);
  }
}

/**
 * The arms of a `case` over the words before the cursor (with a space around them): after a command its flags, after a
 * topic or nothing the next words. It sets `next`; file names are offered where no flag has been begun.
 */
function arms(commands: readonly CompletedCommand[]): string {
  const next = new Map<string, Set<string>>();
  for (const { words } of commands) {
    const parts = words.split(' ');
    parts.forEach((part, i) => {
      const before = parts.slice(0, i).join(' ');
      next.set(before, (next.get(before) ?? new Set()).add(part));
    });
  }
  const flagsOf = new Map(commands.map(({ words, flags }) => [words, flags.map(({ name }) => `--${name}`).join(' ')]));
  const wordArms = [...next].map(([before, words]) => {
    const flags = flagsOf.get(before); // of a command that is a topic too: `snapshots`, `snapshots tag`
    return `    "${before === '' ? '  ' : ` ${before} `}") next="${[...words].sort().join(' ')}"${flags === undefined ? '' : ` flags="${flags}"`} ;;`;
  });
  // The first arm that fits is taken: longer names come first.
  const flagArms = [...flagsOf]
    .toSorted(([a], [b]) => b.split(' ').length - a.split(' ').length)
    .map(([words, flags]) => `    " ${words} "*) flags="${flags}" ;;`);
  return [...wordArms, ...flagArms].join('\n');
}

function bash(commands: readonly CompletedCommand[]): string {
  return `_holdfast() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" before=" \${COMP_WORDS[*]:1:COMP_CWORD-1} " next="" flags=""
  case "$before" in
${arms(commands)}
  esac
  if [[ "$cur" == -* ]]; then next="$flags"; fi
  COMPREPLY=()
  if [[ -n "$next" ]]; then mapfile -t COMPREPLY < <(compgen -W "$next" -- "$cur"); fi
}
complete -o default -F _holdfast holdfast
`;
}

function zsh(commands: readonly CompletedCommand[]): string {
  return `#compdef holdfast
_holdfast() {
  local before=" \${(j: :)words[2,CURRENT-1]} " next="" flags=""
  case "$before" in
${arms(commands)}
  esac
  if [[ "$PREFIX" == -* ]]; then next="$flags"; fi
  if [[ -n "$next" ]]; then compadd -- \${=next}; else _files; fi
}
compdef _holdfast holdfast
`;
}

function fish(commands: readonly CompletedCommand[]): string {
  const lines = [
    'function __holdfast_at',
    '  set -l before (commandline -opc)[2..-1]',
    '  test "$before" = "$argv[1]"',
    'end',
    'function __holdfast_in',
    '  set -l before (commandline -opc)[2..-1]',
    '  string match -q -- "$argv[1] *" "$before "',
    'end',
  ];
  const seen = new Set<string>();
  for (const { words, summary, flags } of commands) {
    const parts = words.split(' ');
    parts.forEach((part, i) => {
      const before = parts.slice(0, i).join(' ');
      if (seen.has(`${before} ${part}`)) return;
      seen.add(`${before} ${part}`);
      const description = i === parts.length - 1 ? ` -d ${quote(summary)}` : '';
      lines.push(`complete -c holdfast -n ${quote(`__holdfast_at '${before}'`)} -f -a ${part}${description}`);
    });
    const here = quote(`__holdfast_in '${words}'`);
    for (const flag of flags) {
      const value = flag.takesValue ? ' -r' : '';
      lines.push(`complete -c holdfast -n ${here} -l ${flag.name}${value} -d ${quote(flag.summary)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** A fish string literal. */
function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
