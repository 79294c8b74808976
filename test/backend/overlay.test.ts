import { describe, expect, test } from 'vitest';
import { withCutoff } from '../../src/backend/cutoff.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { Overlay } from '../../src/backend/overlay.ts';
import { systemClock } from '../../src/clock.ts';
import { expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { backendSuite, type Subject } from '../backend-suite.ts';
import { FakeClock } from '../fake-clock.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { contentOf } from '../operations/support.ts';

const clock = systemClock;

async function subject(): Promise<Subject> {
  const scratch = createMemory('scratch');
  const base = withCutoff(createMemory('real'), { name: 'real', clock });
  const overlay = new Overlay({ name: 'real', base, scratch });
  return {
    backend: await overlay.open(),
    reopen: () => overlay.open(),
    loseStorage: async () => overlay.lose(),
    cleanup: () => overlay[Symbol.asyncDispose](),
  };
}

backendSuite('an overlay', subject);

/** A real backend with two objects, and an overlay on it. */
async function overReal() {
  const real = createMemory('real');
  await real.put('packs/one', patterned(100, 1));
  await real.put('packs/two', patterned(100, 2));
  const before = await contentOf(real);
  const overlay = new Overlay({ name: 'real', base: real, scratch: createMemory('scratch') });
  return { real, before, overlay, backend: await overlay.open() };
}

describe('an overlay', () => {
  test('takes every change for itself: what it lies on stays as it is', async () => {
    const { real, before, overlay, backend } = await overReal();
    expect(await backend.put('packs/one', patterned(5, 3), { ifAbsent: true })).toBe('exists');
    await backend.put('packs/one', patterned(5, 3));
    await backend.put('packs/three', patterned(7, 4), { ifAbsent: true });
    await backend.delete('packs/two');
    expect(await keysAndSizes(backend, 'packs/')).toEqual([
      ['packs/one', 5],
      ['packs/three', 7],
    ]);
    await rejects(backend.get('packs/two'), 'not_found');
    expect(await backend.put('packs/two', patterned(9, 5), { ifAbsent: true })).toBe('created');
    expectSame(await backend.get('packs/two'), patterned(9, 5));
    expect(await overlay.written()).toEqual(['packs/one', 'packs/three', 'packs/two']);
    expect(await contentOf(real)).toEqual(before);
  });

  test('shows planted damage in the whole and in each range that has the byte, until the object is stored anew', async () => {
    const { overlay, backend } = await overReal();
    await overlay.damage('packs/one');
    const damaged = await backend.get('packs/one');
    const differing = [...patterned(100, 1).keys()].filter((i) => damaged[i] !== patterned(100, 1)[i]);
    expect(differing).toEqual([50]);
    expectSame(await backend.get('packs/one', { offset: 45, length: 10 }), damaged.slice(45, 55));
    expectSame(await backend.get('packs/one', { offset: 51, length: 10 }), patterned(100, 1).slice(51, 61));
    await backend.put('packs/one', patterned(100, 1));
    expectSame(await backend.get('packs/one'), patterned(100, 1));
    await rejects(overlay.damage('packs/none'), 'not_found');
  });

  test('hides objects, is lost and comes back, and dies at a put with everything after it', async () => {
    const { overlay, backend } = await overReal();
    overlay.hide('packs/one');
    expect(await keysAndSizes(backend, '')).toEqual([['packs/two', 100]]);
    expect(await backend.head('packs/one')).toBeUndefined();
    overlay.lose();
    await rejects(backend.get('packs/two'), 'backend_unavailable');
    await rejects(overlay.open(), 'backend_unavailable');
    overlay.bringBack();
    overlay.dieAt((key) => key.startsWith('index/'));
    await backend.put('packs/three', patterned(1, 1));
    await rejects(backend.put('index/a', patterned(1, 1)), 'backend_unavailable');
    await rejects(backend.get('packs/two'), 'backend_unavailable');
    overlay.bringBack();
    expect(await backend.head('index/a')).toBeUndefined();
    expect(await backend.head('packs/three')).toEqual({ size: 1 });
  });
});

describe('a backend with a cutoff', () => {
  test('is given up when it is silent, with its name, and asks nothing of the storage after that', async () => {
    const fake = new FakeClock();
    const real = new FaultyBackend(createMemory('nas'));
    await real.inner.put('packs/one', patterned(10, 1));
    real.plan({ effect: 'stall', times: Infinity });
    const backend = withCutoff(real, { name: 'nas', clock: fake });
    await rejects(fake.through(backend.get('packs/one')), 'backend_unavailable');
    expect(backend.cut?.message).toBe('backend nas has not answered for 90 s');
    const asked = real.count();
    await rejects(backend.head('packs/one'), 'backend_unavailable');
    await rejects(backend.list('')[Symbol.asyncIterator]().next(), 'backend_unavailable');
    expect(real.count()).toBe(asked);
  });

  test('waits for a transfer that takes long while it answers others', async () => {
    const fake = new FakeClock();
    const { promise, resolve } = Promise.withResolvers<void>();
    const real = new FaultyBackend(createMemory('nas'));
    await real.inner.put('packs/one', patterned(10, 1));
    real.plan({ effect: 'delay', on: 'get', until: promise });
    const backend = withCutoff(real, { name: 'nas', clock: fake, silenceMs: 1000 });
    const getting = backend.get('packs/one');
    await fake.advance(10_500);
    expect(real.count('head')).toBe(10);
    resolve();
    expectSame(await getting, patterned(10, 1));
    expect(backend.cut).toBeUndefined();
  });

  test('a listing that stops in the middle ends, and what is absent or interrupted is no reason to give it up', async () => {
    const fake = new FakeClock();
    const real = new FaultyBackend(createMemory('nas'));
    const backend = withCutoff(real, { name: 'nas', clock: fake });
    await rejects(backend.get('packs/none'), 'not_found');
    await rejects(backend.head('packs/none', { signal: AbortSignal.abort() }), 'interrupted');
    expect(backend.cut).toBeUndefined();
    real.plan({ effect: 'stall', on: 'list' });
    const listing = backend.list('')[Symbol.asyncIterator]();
    await rejects(fake.through(listing.next()), 'backend_unavailable');
    expect(backend.cut).toBeDefined();
  });
});
