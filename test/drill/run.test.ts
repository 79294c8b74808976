import { afterAll, describe, expect, test } from 'vitest';
import { drilledAgent, failures, leaving } from './support.ts';

const agent = await drilledAgent();
afterAll(() => agent[Symbol.asyncDispose]());

describe('a drill of an agent that is well', () => {
  test('passes every scenario', async () => {
    const secret = { kind: 'root', root: agent.root } as const;
    const result = await leaving([agent.folder], () => agent.drill([], { secrets: { words: secret, vault: secret } }));
    console.log(JSON.stringify(result, null, 1));
    expect(failures(result)).toEqual({});
    expect(result.ok).toBe(true);
  });
});
