/** A real terminal (pty) for the command line, and what is left to see on its screen. */
import { spawn } from 'node:child_process';
import { ROOT } from './run.ts';

export const COLUMNS = 80;

/** Runs a program on a new terminal: waits for each text in turn and types the answer. Everything goes through stdin and stdout as JSON. */
const DRIVER = `
import fcntl, json, os, pty, select, struct, sys, termios, time
job = json.load(sys.stdin)
pid, master = pty.fork()
if pid == 0:
    os.chdir(job["cwd"])
    os.execvpe(job["argv"][0], job["argv"], job["env"])
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, ${COLUMNS}, 0, 0))
output, seen, steps, deadline = b"", 0, job["dialogue"], time.monotonic() + 40
while time.monotonic() < deadline:
    while steps and (at := output.find(steps[0][0].encode(), seen)) >= 0:
        seen = at + len(steps[0][0].encode())
        os.write(master, steps.pop(0)[1].encode())
    if not select.select([master], [], [], 0.2)[0]:
        continue
    try:
        piece = os.read(master, 65536)
    except OSError:
        break
    if not piece:
        break
    output += piece
else:
    os.kill(pid, 9)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
json.dump({"code": code, "output": output.decode(), "unsaid": [step[0] for step in steps]}, sys.stdout)
`;

export interface TerminalRun {
  code: number;
  /** All that was written, with its control sequences. */
  output: string;
  /** What was waited for and never came. */
  unsaid: string[];
}

/** `dialogue`: what to wait for, and what to type then. */
export function onTerminal(
  program: string,
  args: readonly string[],
  dialogue: readonly (readonly [string, string])[],
  { env = {}, cwd = ROOT }: { env?: Record<string, string>; cwd?: string } = {},
): Promise<TerminalRun> {
  const child = spawn('python3', ['-c', DRIVER], { stdio: ['pipe', 'pipe', 'inherit'] });
  const job = {
    argv: [process.execPath, `${ROOT}/${program}`, ...args],
    env: { ...process.env, TERM: 'xterm', ...env },
    cwd,
    dialogue,
  };
  child.stdin.end(JSON.stringify(job));
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => (text += piece));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve(JSON.parse(text) as TerminalRun));
  });
}

/** The lines that a terminal shows after this output: the control sequences that readline and holdfast use, and automatic line breaks. */
export function screenAfter(output: string, columns = COLUMNS): string[] {
  const lines: string[][] = [[]];
  let row = 0;
  let column = 0;
  for (const [part] of output.matchAll(/\x1b\[(\?)?[\d;]*[A-Za-z]|[\s\S]/gu)) {
    const count = Number(/\d+/.exec(part)?.[0] ?? 0);
    if (part === '\r') column = 0;
    else if (part === '\n') {
      // Node's raw mode leaves the terminal to add the carriage return.
      column = 0;
      row += 1;
    } else if (part === '\b') column = Math.max(0, column - 1);
    else if (part === '\x07' || /^\x1b\[(\?|.*m$)/.test(part)) continue;
    else if (part.startsWith('\x1b')) {
      const final = part.at(-1);
      if (final === 'A') row = Math.max(0, row - Math.max(1, count));
      else if (final === 'G') column = Math.max(0, count - 1);
      else if (final === 'C') column += Math.max(1, count);
      else if (final === 'D') column = Math.max(0, column - Math.max(1, count));
      else if (final === 'K' && count === 2) lines[row] = [];
      else if (final === 'K' && count === 0) lines[row]?.splice(column);
      else if (final === 'J' && count === 0) {
        lines.splice(row + 1);
        lines[row]?.splice(column);
      } else throw new Error(`unknown control sequence ${JSON.stringify(part)}`);
    } else {
      if (column === columns) {
        column = 0;
        row += 1;
      }
      while (lines.length <= row) lines.push([]);
      const line = lines[row]!;
      while (line.length < column) line.push(' ');
      line[column] = part;
      column += 1;
    }
    while (lines.length <= row) lines.push([]);
  }
  return lines.map((line) => line.join(''));
}
