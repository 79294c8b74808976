/** Whether somebody accepts connections at a port. */
import { connect } from 'node:net';
import { HoldfastError } from '../../errors.ts';
import { unreached } from './http.ts';
import { cachedLookup } from './lookup.ts';
import { found, type Finding, type Probe } from './probe.ts';

export interface TcpSpec {
  host: string;
  port: number;
}

export function tcpProbe({ host, port }: TcpSpec): Probe {
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return (signal) => {
    const { promise, resolve, reject } = Promise.withResolvers<Finding>();
    const socket = connect({ host, port, lookup: cachedLookup });
    const interrupt = () => {
      socket.destroy();
      reject(new HoldfastError('interrupted', 'interrupted'));
    };
    signal.addEventListener('abort', interrupt, { once: true });
    socket.once('connect', () => {
      socket.destroy();
      resolve(found(`connected to ${where}`));
    });
    socket.on('error', (error) => resolve(unreached(error, where)));
    if (signal.aborted) interrupt();
    return promise.finally(() => signal.removeEventListener('abort', interrupt));
  };
}
