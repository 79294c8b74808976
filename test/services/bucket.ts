/** Buckets on a test server, and the look at them that a backend does not give. */
import { randomUUID } from 'node:crypto';
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectsCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import type { S3Server } from './servers.ts';

export interface TestBucket {
  name: string;
  /** As its owner, who may do everything. */
  client: S3Client;
  /** Keys of uploads in parts that were begun and not finished. */
  unfinishedUploads(): Promise<string[]>;
  /** Removes it and what is in it. Object Lock refuses. */
  remove(): Promise<void>;
}

export async function newBucket(server: S3Server, { lock = false } = {}): Promise<TestBucket> {
  const { endpoint, credentials } = server;
  const client = new S3Client({ endpoint, region: 'us-east-1', credentials, forcePathStyle: true, maxAttempts: 1 });
  const Bucket = `b-${randomUUID()}`;
  await client.send(new CreateBucketCommand({ Bucket, ...(lock ? { ObjectLockEnabledForBucket: true } : {}) }));
  return {
    name: Bucket,
    client,
    async unfinishedUploads() {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket }));
      return Uploads.map(({ Key = '' }) => Key);
    },
    async remove() {
      for (;;) {
        const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket }));
        const Objects = [...Versions, ...DeleteMarkers].map(({ Key, VersionId }) => ({ Key, VersionId }));
        if (Objects.length === 0) break;
        await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
      }
      await client.send(new DeleteBucketCommand({ Bucket }));
    },
  };
}
