/**
 * An agent of a fleet, as small as a process can be: HTTP health, numbers about itself, a heartbeat file, a queue folder, tasks. Plain JavaScript,
 * so that thirty of them start at once. Its folder (the only argument) holds `settings.json`, and what it writes:
 *
 *     pid  HEARTBEAT.md  queue/  replicas (of its workers, by the scale command)
 *     fault: one word, written by whoever does it harm; a start removes it
 *
 * It ends when its folder or its owner is gone.
 */
import { readdirSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';

const folder = process.argv[2];
/** { address, port, beatMs, warmUpMs, slowMs, ownerPid } */
const settings = JSON.parse(readFileSync(`${folder}/settings.json`, 'utf8'));
const startedMs = Date.now();
/** Tasks of each beat, the window of the error rate, and tasks from the queue that one replica does in a beat. */
const [TASKS, WINDOW, QUEUED] = [4, 12, 2];
const BEATS_BETWEEN_LOOKS_AT_OWNER = 20;

rmSync(`${folder}/fault`, { force: true });
write('pid', String(process.pid));

let fault = '';
let beats = 0;
let lastTaskMs = startedMs;
let added = 0;
const results = [];
const completed = { success: 0, failure: 0 };
const sockets = new Set();

/** In one step: a reader never finds half of it. */
function write(name, text) {
  writeFileSync(`${folder}/.${name}`, text);
  renameSync(`${folder}/.${name}`, `${folder}/${name}`);
}

function read(name) {
  try {
    return readFileSync(`${folder}/${name}`, 'utf8').trim();
  } catch {
    return '';
  }
}

const queue = () => readdirSync(`${folder}/queue`);

function task(ok) {
  completed[ok ? 'success' : 'failure']++;
  results.push(ok);
  if (results.length > WINDOW) results.shift();
  if (ok) lastTaskMs = Date.now();
}

function workOff() {
  const replicas = Number(read('replicas')) || 1;
  // More comes in than so many replicas can do: it takes another one.
  const [word, replicasThen] = fault.split(' ');
  if (word === 'growing' && queue().length < 40)
    for (let i = 0; i <= QUEUED * Number(replicasThen); i++)
      writeFileSync(`${folder}/queue/${process.pid}-${added++}`, '');
  for (const name of queue().slice(0, QUEUED * replicas)) {
    unlinkSync(`${folder}/queue/${name}`);
    task(true);
  }
}

function beat() {
  try {
    fault = read('fault');
    if (fault === 'partitioned' && server.listening) cutOff();
    else if (fault !== 'partitioned' && !server.listening) listen();
    if (beats++ % BEATS_BETWEEN_LOOKS_AT_OWNER === 0) process.kill(settings.ownerPid, 0);
    if (fault === 'stuck') return;
    for (let i = 0; i < TASKS; i++) task(fault !== 'erroring');
    workOff();
    write('HEARTBEAT.md', `# Heartbeat\n\nlast_beat: ${new Date().toISOString()}\ncurrent_task: none\n`);
  } catch {
    process.exit(1); // no folder or no owner
  }
}

function cutOff() {
  server.close();
  for (const socket of sockets) socket.destroy();
}

/** The one before may still be on its way out. */
function listen() {
  server.listen(settings.port, settings.address);
}

const stats = () => ({
  queueDepth: queue().length,
  tasksReceived: completed.success + completed.failure,
  tasksCompleted: completed,
  tasksInProgress: fault === 'stuck' ? 1 : 0,
  errorRate: results.length === 0 ? 0 : results.filter((ok) => !ok).length / results.length,
  memoryBytes: process.memoryUsage.rss(),
  lastActivityMs: lastTaskMs,
});

const ANSWERS = {
  '/health/live': () => [200, { status: 'ok' }],
  '/health/ready': () => {
    const ok = Date.now() - startedMs >= settings.warmUpMs;
    return [ok ? 200 : 503, { status: ok ? 'ok' : 'starting', checks: { messaging: { ok }, model: { ok: true } } }];
  },
  '/health/progress': () => [200, { status: 'ok', lastActivity: new Date(lastTaskMs).toISOString() }],
  '/stats': () => [200, stats()],
};

const server = createServer((request, response) => {
  fault = read('fault');
  if (fault === 'partitioned') return cutOff();
  if (fault === 'silent') return; // takes the call, and never answers
  const answer = () => {
    const [status, body] = ANSWERS[request.url]?.() ?? [404, {}];
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  if (fault === 'slow') setTimeout(answer, settings.slowMs);
  else answer();
});
server.on('connection', (socket) => {
  sockets.add(socket);
  socket.on('close', () => sockets.delete(socket)).on('error', () => {});
});
server.on('error', () => setTimeout(() => server.listening || listen(), 20));
listen();
beat();
setInterval(beat, settings.beatMs);
