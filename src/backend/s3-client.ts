/** How the AWS SDK is set up: made for many providers, with one attempt for every call. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';

export interface S3Location {
  bucket: string;
  /** '' or text that ends in a slash: what stands before every key. */
  prefix: string;
  /** Of a provider other than AWS, e.g. `https://s3.example.org`. */
  endpoint?: string | undefined;
  region?: string | undefined;
  /** Buckets as the first part of the path instead of the host name. Default: where an endpoint is given. */
  pathStyle?: boolean | undefined;
  storageClass?: string | undefined;
  /** `AES256`, or `aws:kms` with `kmsKeyId`. */
  serverSideEncryption?: string | undefined;
  kmsKeyId?: string | undefined;
  /** Retention of every object that is written. */
  objectLock?: { mode: 'governance' | 'compliance'; days: number } | undefined;
}

/** Connections kept open to the service. */
const SOCKETS_MAX = 64;
const CONNECT_TIMEOUT_MS = 10_000;
/** A connection on which nothing moves for so long is dead, also while the service answers on others. */
export const SILENT_MS = 15_000;

/** @param overrides credentials and the like, for tests; else the SDK's own chain */
export function s3Client(
  location: S3Location,
  overrides: Partial<S3ClientConfig> = {},
  silentMs = SILENT_MS,
): S3Client {
  const agent = { keepAlive: true, maxSockets: SOCKETS_MAX, noDelay: true };
  return new S3Client({
    ...(location.endpoint === undefined ? {} : { endpoint: location.endpoint }),
    ...(location.region === undefined
      ? location.endpoint === undefined
        ? {}
        : { region: 'us-east-1' } // the signature names one, and others than AWS do not mind which
      : { region: location.region }),
    forcePathStyle: location.pathStyle ?? location.endpoint !== undefined,
    maxAttempts: 1,
    // Bodies are signed with their MD5 (s3.ts), which every provider checks; trailing checksums in aws-chunked bodies some refuse.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: new NodeHttpHandler({
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent(agent),
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: silentMs,
    }),
    logger: { trace: silent, debug: silent, info: silent, warn: silent, error: silent },
    ...overrides,
  });
}

function silent(): void {
  // the SDK's remarks are for its developers
}
