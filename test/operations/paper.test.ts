import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { wordsOf } from '../../src/crypto/words.ts';
import { fingerprint } from '../../src/identity/agent-key.ts';
import { parseRecoveryText } from '../../src/identity/recovery-text.ts';
import { newRoot } from '../../src/identity/root.ts';
import { createPaper, type CreatePaperOptions } from '../../src/operations/paper.ts';
import { failure, everythingOf, lacks, seededRandom } from '../crypto/support.ts';
import { drawnText, inflated, scan, zbarimg } from '../identity/paper-scan.ts';
import { makeAgent, type TestAgent } from './support.ts';

const noScanner = lacks('pdftoppm', '-v') || lacks('zbarimg', '--version');
const seed = new Uint8Array(32).fill(9);
const importedKey = { seed, publicKey: publicKeyOf(seed) };
const output = (agent: TestAgent) => join(agent.folder, 'sheet.pdf');

function options(agent: TestAgent, over: Partial<CreatePaperOptions> = {}): CreatePaperOptions {
  return {
    output: output(agent),
    size: 'a4',
    backends: agent.addresses,
    tool: 'holdfast/0.1.0',
    from: { kind: 'root', root: agent.root, expected: undefined },
    ...over,
  };
}

test('the document is a new file that only its owner can read', async () => {
  await using agent = await makeAgent();
  const result = await createPaper(options(agent), agent.seams());
  expect(result).toEqual({
    ...{ file: output(agent), pages: 1, size: 'a4', codes: 2 },
    fingerprint: fingerprint(agent.signer.publicKey),
  });
  expect(statSync(output(agent)).mode & 0o777).toBe(0o600);
  expect(readdirSync(agent.folder).filter((name) => name.startsWith('.'))).toEqual([]);
  const text = drawnText(readFileSync(output(agent)));
  for (const expected of [agent.writerKey.repositoryId, 'ada', ...wordsOf(agent.root)])
    expect(text).toContain(expected);
});

test('a file that is there is never replaced', async () => {
  await using agent = await makeAgent();
  writeFileSync(output(agent), 'mine');
  await failure(() => createPaper(options(agent), agent.seams()), 'exists');
  expect(readFileSync(output(agent), 'utf8')).toBe('mine');
});

test('words of another agent make no document', async () => {
  await using agent = await makeAgent();
  const root = newRoot(seededRandom('another'));
  const from = { kind: 'root', root, expected: undefined } as const;
  const failed = await failure(() => createPaper(options(agent, { from }), agent.seams()), 'wrong_key');
  expect(existsSync(output(agent))).toBe(false);
  expect(everythingOf(failed)).not.toContain(wordsOf(root).slice(0, 2).join(' '));
});

test('without any backend there is no document, for nothing could prove it', async () => {
  await using agent = await makeAgent();
  agent.stores.clear();
  await failure(() => createPaper(options(agent), agent.seams()), 'backend_unavailable');
  expect(existsSync(output(agent))).toBe(false);
});

test.skipIf(noScanner)(
  'an imported key, taken from the repository, is on it and comes back from its codes',
  async () => {
    await using agent = await makeAgent({ importedKey });
    const result = await createPaper(options(agent), agent.seams());
    expect(result).toMatchObject({ pages: 2, codes: 5 });
    await agent.backup();
    // No backend has the wrapped key any more: the one on paper is taken.
    for (const store of agent.stores.values())
      for await (const { key } of store.list('identity/', {})) await store.delete(key, {});
    const text = zbarimg(scan(readFileSync(output(agent))));
    const { source: _, ...secret } = parseRecoveryText([text]);
    const recovered = await agent.recover(join(agent.folder, 'home'), { secret });
    expect(recovered.agent.publicKey).toBe(Buffer.from(importedKey.publicKey).toString('hex'));
    expect(recovered.identity.continuous).toBe(true);
  },
);

test.skipIf(noScanner)('from two of three shares, scanned, the agent is recovered', async () => {
  await using agent = await makeAgent();
  await agent.backup();
  const shares = { threshold: 2, count: 3 };
  const result = await createPaper(options(agent, { shares, size: 'letter' }), agent.seams());
  expect(result).toMatchObject({ pages: 3, size: 'letter', codes: 3, shares });
  const pages = scan(readFileSync(output(agent)));
  const { source: _, ...secret } = parseRecoveryText([zbarimg(pages.slice(1))]);
  const recovered = await agent.recover(join(agent.folder, 'home'), { secret });
  expect(recovered.agent.fingerprint).toBe(result.fingerprint);
});

test('a sample tells what the repository says in public, and no secret', async () => {
  await using agent = await makeAgent({ importedKey });
  const from = { kind: 'sample', handle: 'config', access: agent.access.writer } as const;
  const result = await createPaper(options(agent, { from }), agent.seams());
  expect(result).toMatchObject({ pages: 2, fingerprint: fingerprint(importedKey.publicKey) });
  const file = readFileSync(output(agent));
  const text = `${drawnText(file)}\n${inflated(file)}`;
  expect(text).toContain('SAMPLE');
  expect(text).toContain('(imported)');
  for (const word of wordsOf(agent.root)) expect(text).not.toContain(`\n${word}\n`);
  expect(text).not.toContain(agent.restoreKey);
});

test('a sample can be made with nothing but a config', async () => {
  await using agent = await makeAgent();
  agent.stores.clear();
  for (const access of [undefined, agent.access.writer]) {
    const file = join(agent.folder, `${access ? 'with' : 'without'}.pdf`);
    await createPaper(
      options(agent, { output: file, from: { kind: 'sample', handle: 'config', access } }),
      agent.seams(),
    );
    expect(drawnText(readFileSync(file))).toContain('config');
  }
});
