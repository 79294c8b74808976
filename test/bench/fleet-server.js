/**
 * A thousand agents as seen from outside, in one cheap process: each has a port of its own. Told how many answer and how many take a call and never
 * answer; tells their ports, and, asked with any message, how many calls it has answered.
 */
import { createServer } from 'node:http';

const [answering, silent] = process.argv.slice(2).map(Number);
let calls = 0;
const body = JSON.stringify({ status: 'ok', checks: { messaging: { ok: true }, model: { ok: true } } });
const answer = (_request, response) => {
  calls++;
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body);
};
const never = () => {};

function port(handler) {
  const server = createServer(handler);
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

const ports = (count, handler) => Promise.all(Array.from({ length: count }, () => port(handler)));
process.on('disconnect', () => process.exit());
process.on('message', () => process.send({ calls }));
process.send({ answering: await ports(answering, answer), silent: await ports(silent, never) });
