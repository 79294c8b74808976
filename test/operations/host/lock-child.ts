/** A program that takes the lock in the folder given, says so, and holds it until it is killed. */
import { takeLock } from '../../../src/operations/host/lock.ts';

const lock = takeLock(process.argv[2] ?? '', 'test');
console.log('locked');
process.stdin.resume(); // stays alive
process.stdin.on('end', () => lock[Symbol.dispose]());
