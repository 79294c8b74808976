import { randomUUID } from 'node:crypto';
import { S3Client, CreateBucketCommand } from '@aws-sdk/client-s3';
import { openS3 } from '../../src/backend/s3.ts';
import { backendSuite } from '../backend-suite.ts';

const endpoint = 'http://127.0.0.1:7480';
const credentials = { accessKeyId: 'AKTEST', secretAccessKey: 'SKTEST' };
const bucket = `t${randomUUID().slice(0, 12)}`;
const admin = new S3Client({ endpoint, region: 'us-east-1', credentials, forcePathStyle: true });
await admin.send(new CreateBucketCommand({ Bucket: bucket }));
let n = 0;

backendSuite('s3', async () => {
  const prefix = `p${n++}/`;
  const open = () =>
    openS3({ bucket, prefix, endpoint, region: 'us-east-1' }, { name: 's3', now: Date.now, client: { credentials } });
  const backend = await open();
  return { backend, finishesLate: true, reopen: open, cleanup: () => backend[Symbol.asyncDispose]() };
});
