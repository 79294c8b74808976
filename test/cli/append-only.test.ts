/** The policy of docs/backends.md: credentials that cannot delete are enough for an agent's host. */
import { PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { newBucket } from '../services/bucket.ts';
import { s3Server } from '../services/real.ts';
import { PROGRAM, ROOT, run } from './run.ts';

const s3 = await s3Server('credentials that cannot delete');

interface Statement {
  Effect: 'Allow' | 'Deny';
  Action: string[];
  Resource: string | string[];
}

/** What the page tells people to set, for a bucket and the user `guest`. */
function policyOfThePage(bucket: string): string {
  const page = readFileSync(join(ROOT, 'docs/backends.md'), 'utf8');
  const [, block = ''] = /^```json\n([\s\S]*?)^```$/m.exec(page) ?? [];
  const policy = JSON.parse(block.replaceAll('BUCKET', bucket).replaceAll('PREFIX', 'ada')) as {
    Version: string;
    Statement: Statement[];
  };
  const guest = { AWS: ['arn:aws:iam:::user/guest'] };
  return JSON.stringify({ ...policy, Statement: policy.Statement.map((one) => ({ ...one, Principal: guest })) });
}

test('init, backup, sync, verify, restore do with them all they need, and nothing is deleted', async ({ skip }) => {
  skip(s3.gaps.includes('bucket policies'), 'no bucket policies');
  const { endpoint, guest } = s3.server;
  const bucket = await newBucket(s3.server);
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-append-'));
  const at = (...names: string[]) => join(folder, ...names);
  mkdirSync(at('state'));
  mkdirSync(at('home'));
  writeFileSync(at('state', 'MEMORY.md'), 'one\n');
  const holdfast = (...args: string[]) =>
    run(PROGRAM, [...args, '--json'], {
      cwd: folder,
      env: {
        HOME: at('home'),
        ...{ XDG_STATE_HOME: '', XDG_CACHE_HOME: '', XDG_CONFIG_HOME: '' },
        AWS_ACCESS_KEY_ID: guest.accessKeyId,
        AWS_SECRET_ACCESS_KEY: guest.secretAccessKey,
      },
    });
  try {
    const Policy = policyOfThePage(bucket.name);
    await bucket.client.send(new PutBucketPolicyCommand({ Bucket: bucket.name, Policy }));
    const url = `cloud=s3://${bucket.name}/ada?endpoint=${endpoint}`;
    const made = await holdfast(
      'init',
      '--handle',
      'ada',
      '--state',
      'state',
      '--backend',
      url,
      '--words-file',
      'words.txt',
    );
    expect(made).toMatchObject({ code: 0 });
    expect(await holdfast('backup')).toMatchObject({ code: 0 });
    writeFileSync(at('state', 'MEMORY.md'), 'two\n');
    for (const command of [
      ['backup'],
      ['sync'],
      ['verify', '--level', 'objects'],
      ['restore', '--target', 'out', '--words-file', 'words.txt'],
    ])
      expect(await holdfast(...command), command[0]).toMatchObject({ code: 0 });
    expect(spawnSync('diff', ['-r', at('state'), at('out')]).status).toBe(0);
    const tested = await holdfast('backend', 'test', 'cloud');
    expect(JSON.parse(tested.stdout)).toMatchObject({
      ok: true,
      checks: expect.arrayContaining([expect.objectContaining({ line: 9, ok: false })]),
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await bucket.remove();
  }
});
