/**
 * A bucket, or a part of one, of S3 or of a service that speaks it. What providers do otherwise is in capabilities, found out by asking; the
 * table is in docs/backends.md. Retries and deadlines are those of the decorator around it (guarded.ts); here every call is made once.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  PutObjectRetentionCommand,
  UploadPartCommand,
  type GetObjectCommandOutput,
  type ListMultipartUploadsCommandInput,
  type ObjectLockMode,
  type PutObjectCommandInput,
  type S3Client,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import { HoldfastError, isHoldfastError, throwIfAborted } from '../errors.ts';
import {
  checkKey,
  checkObject,
  clampRange,
  isKey,
  objectNotFound,
  type Backend,
  type ByteRange,
  type ObjectInfo,
  type ObjectLock,
  type PutOptions,
} from './backend.ts';
import { s3Client, type S3Location } from './s3-client.ts';
import { codeOf, isPreconditionFailed, statusOf, translated } from './s3-errors.ts';

/** What the bucket turned out to do. */
export type S3Capabilities = {
  /** `If-None-Match: *` is honoured: of several writers of one key one wins. Else one looks first, and two at the same moment may both write. */
  conditionalWrites: boolean;
};

interface S3Options {
  name: string;
  /** Wall clock, for how long objects are locked. */
  now: () => number;
  /** Ends the opening. */
  signal?: AbortSignal | undefined;
  /** Credentials and the like, for tests; else the SDK's own chain. */
  client?: Pick<S3ClientConfig, 'credentials' | 'systemClockOffset'>;
  /** How long nothing may move on a connection; default see s3-client.ts. */
  silentMs?: number;
  /** From which size on an object is sent in parts, and of which size they are: 5 MiB at least, by S3's own rule. */
  parts?: { fromBytes: number; bytes: number } | undefined;
  /** How many keys one answer to `list` has at most; default: what the service has, which is 1000. */
  pageKeys?: number;
}

/** Packs are smaller; only large indexes are not. */
const PARTS = { fromBytes: 24 * 1024 * 1024, bytes: 8 * 1024 * 1024 };
/** Uploads that were begun this long ago and never finished are nobody's any more. */
const ABANDONED_UPLOAD_MS = 24 * 60 * 60 * 1000;
/** Under tmp/, so no object: what conditional writes are tried on. */
const PROBE_KEY = 'tmp/conditional-write';
const DAY_MS = 24 * 60 * 60 * 1000;
/**
 * Of every object, as 8 hexadecimal digits: `x-amz-meta-…` is what all providers keep as it is, whichever checksums they know. It is against accidents
 * on the way, and takes an eighth of the time of an MD5; against malice is what the objects themselves carry.
 */
const CRC32_METADATA = 'holdfast-crc32';

/** Opens a bucket that exists. @throws `backend_unavailable` when it cannot be reached, is not there, or the credentials do not do */
export async function openS3(location: S3Location, options: S3Options): Promise<S3Backend> {
  const backend = new S3Backend(s3Client(location, options.client, options.silentMs), location, options);
  try {
    await backend.check(options);
  } catch (error) {
    await backend[Symbol.asyncDispose]();
    throw error;
  }
  return backend;
}

type Cancellable = { signal?: AbortSignal | undefined };

export class S3Backend implements Backend {
  readonly place: string;
  readonly lock?: ObjectLock;
  readonly #client: S3Client;
  readonly #location: S3Location;
  readonly #options: S3Options;
  #capabilities: Promise<S3Capabilities> | undefined;

  constructor(client: S3Client, location: S3Location, options: S3Options) {
    this.#client = client;
    this.#location = location;
    this.#options = options;
    this.place = `s3:${location.endpoint ?? `aws:${location.region ?? ''}`}/${location.bucket}/${location.prefix}`;
    const { objectLock } = location;
    if (objectLock)
      this.lock = {
        days: objectLock.days,
        extend: (key, { signal } = {}) => this.#extendLock(key, objectLock, signal),
      };
  }

  async #extendLock(
    key: string,
    { mode, days }: NonNullable<S3Location['objectLock']>,
    signal?: AbortSignal,
  ): Promise<void> {
    checkKey(key);
    const until = new Date(this.#options.now() + days * DAY_MS);
    try {
      await this.#send(`extend the lock of ${key}`, signal, (options) =>
        this.#client.send(
          new PutObjectRetentionCommand({
            Bucket: this.#location.bucket,
            Key: this.#key(key),
            Retention: {
              Mode: mode.toUpperCase() as ObjectLockMode,
              RetainUntilDate: until,
            },
          }),
          options,
        ),
      );
    } catch (error) {
      if (codeOf(error) === 'NoSuchKey') throw objectNotFound(key, this.#where);
      // No lock is shortened, and to none is asked.
      if (statusOf(error) === 403 && ((await this.#lockedUntil(key, signal)) ?? 0) >= until) return;
      throw error;
    }
  }

  async #lockedUntil(key: string, signal: AbortSignal | undefined): Promise<Date | undefined> {
    const answer = await this.#send(`look at the lock of ${key}`, signal, (options) =>
      this.#client.send(new HeadObjectCommand({ Bucket: this.#location.bucket, Key: this.#key(key) }), options),
    );
    return answer.ObjectLockRetainUntilDate;
  }

  /** Asks for the bucket. */
  async check({ signal }: Cancellable = {}): Promise<void> {
    const { bucket, prefix } = this.#location;
    await this.#send('look at the bucket', signal, (options) =>
      this.#client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: 1 }), options),
    );
  }

  async put(
    key: string,
    bytes: Uint8Array,
    { ifAbsent = false, signal }: PutOptions = {},
  ): Promise<'created' | 'exists'> {
    checkObject(key, bytes);
    throwIfAborted(signal);
    const isConditional = ifAbsent && (await this.capabilities({ signal })).conditionalWrites;
    const isLarge = bytes.length >= (this.#options.parts ?? PARTS).fromBytes;
    // The condition on a large one is looked at only when all of it was sent.
    if (ifAbsent && (isLarge || !isConditional) && (await this.head(key, { signal }))) return 'exists';
    const target = { ...this.#target(key), Metadata: { [CRC32_METADATA]: crc32Hex(bytes) } };
    const condition = isConditional ? { IfNoneMatch: '*' } : {};
    if (isLarge) return this.#putParts(key, bytes, target, condition, signal);
    try {
      await this.#send(`store ${key}`, signal, (options) =>
        this.#client.send(
          new PutObjectCommand({
            ...target,
            ...condition,
            Body: bytes,
            ContentLength: bytes.length,
            ContentMD5: md5(bytes),
          }),
          options,
        ),
      );
      return 'created';
    } catch (error) {
      if (ifAbsent && isPreconditionFailed(error)) return 'exists';
      throw error;
    }
  }

  async get(key: string, range?: ByteRange, { signal }: Cancellable = {}): Promise<Uint8Array> {
    checkKey(key);
    throwIfAborted(signal);
    if (range !== undefined) clampRange(range, 0, key, this.#where); // before anything is done
    if (range?.length === 0) {
      if (!(await this.head(key, { signal }))) throw objectNotFound(key, this.#where);
      return new Uint8Array(0);
    }
    const first = await this.#read(key, range, signal);
    if (first.isIntact) return first.bytes;
    const second = await this.#read(key, range, signal); // it may have been changed on the way
    if (second.isIntact) return second.bytes;
    throw new HoldfastError(
      'damaged',
      `object ${key} on ${this.#where} is not what was stored: its checksum is another`,
    );
  }

  /** Of a part of an object nobody knows whether it is intact. */
  async #read(
    key: string,
    range: ByteRange | undefined,
    signal: AbortSignal | undefined,
  ): Promise<{ bytes: Uint8Array; isIntact: boolean }> {
    const Range = range && `bytes=${range.offset}-${range.offset + range.length - 1}`;
    try {
      return await this.#send(`read ${key}`, signal, async (options) => {
        const target = { Bucket: this.#location.bucket, Key: this.#key(key), ...(Range ? { Range } : {}) };
        const answer = await this.#client.send(new GetObjectCommand(target), options);
        const bytes = await this.#collect(key, answer, range);
        const expected = range ? undefined : answer.Metadata?.[CRC32_METADATA];
        return { bytes, isIntact: expected === undefined || expected === crc32Hex(bytes) };
      });
    } catch (error) {
      const code = codeOf(error);
      if (code === 'NoSuchKey') throw objectNotFound(key, this.#where);
      // Past the end. (Of an empty object every range is.)
      if (code === 'InvalidRange' && range) return { bytes: new Uint8Array(0), isIntact: true };
      throw error;
    }
  }

  async head(key: string, { signal }: Cancellable = {}): Promise<{ size: number } | undefined> {
    checkKey(key);
    throwIfAborted(signal);
    const { bucket } = this.#location;
    try {
      const { ContentLength } = await this.#send(`look for ${key}`, signal, (options) =>
        this.#client.send(new HeadObjectCommand({ Bucket: bucket, Key: this.#key(key) }), options),
      );
      return { size: ContentLength ?? 0 };
    } catch (error) {
      if (statusOf(error) !== 404) throw error;
      await this.check({ signal }); // an answer to HEAD does not tell a missing object from a missing bucket
      return undefined;
    }
  }

  async *list(prefix: string, { signal }: Cancellable = {}): AsyncGenerator<ObjectInfo> {
    throwIfAborted(signal);
    const { bucket, prefix: base } = this.#location;
    const { pageKeys } = this.#options;
    let token: string | undefined;
    do {
      const page = await this.#send('list objects', signal, (options) =>
        this.#client.send(
          new ListObjectsV2Command({
            Bucket: bucket,
            Prefix: base + prefix,
            ...(pageKeys === undefined ? {} : { MaxKeys: pageKeys }),
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          options,
        ),
      );
      for (const { Key = '', Size = 0 } of page.Contents ?? []) {
        throwIfAborted(signal);
        const key = Key.slice(base.length);
        if (Key.startsWith(base) && isKey(key)) yield { key, size: Size };
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
      if (page.IsTruncated && token === undefined)
        throw new HoldfastError('backend_unavailable', `${this.#where} broke a listing off, and does not say where`, {
          retryable: true,
        });
    } while (token !== undefined);
  }

  async delete(key: string, { signal }: Cancellable = {}): Promise<void> {
    checkKey(key);
    throwIfAborted(signal);
    await this.#send(`delete ${key}`, signal, (options) =>
      this.#client.send(new DeleteObjectCommand({ Bucket: this.#location.bucket, Key: this.#key(key) }), options),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    return Promise.resolve();
  }

  /**
   * What the bucket can do. Conditional writes are tried on a key that is no object, which stays: with credentials that may not overwrite or delete,
   * it is refused the second time, and that is an answer too.
   */
  async capabilities({ signal }: Cancellable = {}): Promise<S3Capabilities> {
    this.#capabilities ??= this.#probe(signal).catch((error: unknown) => {
      this.#capabilities = undefined;
      throw error;
    });
    try {
      return await this.#capabilities;
    } catch (error) {
      // Asked under the signal of another call, which was given up: this one goes on.
      const isOthers = isHoldfastError(error) && error.code === 'interrupted' && !signal?.aborted;
      if (isOthers) return this.capabilities({ signal });
      throw error;
    }
  }

  async #probe(signal: AbortSignal | undefined): Promise<S3Capabilities> {
    const target = this.#target(PROBE_KEY);
    for (let attempt = 1; attempt <= 2; attempt++) {
      try {
        await this.#send('try a conditional write', signal, (options) =>
          this.#client.send(
            new PutObjectCommand({
              ...target,
              Body: new Uint8Array(0),
              ContentMD5: md5(new Uint8Array(0)),
              IfNoneMatch: '*',
            }),
            options,
          ),
        );
      } catch (error) {
        if (isPreconditionFailed(error)) return { conditionalWrites: true };
        if (codeOf(error) === 'NotImplemented' || statusOf(error) === 501) return { conditionalWrites: false };
        throw error;
      }
    }
    return { conditionalWrites: false }; // it was written twice
  }

  async #putParts(
    key: string,
    bytes: Uint8Array,
    target: Omit<PutObjectCommandInput, 'Body'>,
    condition: { IfNoneMatch?: string },
    signal: AbortSignal | undefined,
  ): Promise<'created' | 'exists'> {
    const { Bucket, Key } = target;
    const doing = `store ${key}`;
    const { bytes: partBytes } = this.#options.parts ?? PARTS;
    const { UploadId } = await this.#send(doing, signal, (options) =>
      this.#client.send(new CreateMultipartUploadCommand(target), options),
    );
    try {
      const parts: { PartNumber: number; ETag: string | undefined }[] = [];
      for (let at = 0; at < bytes.length; at += partBytes) {
        const Body = bytes.subarray(at, at + partBytes);
        const PartNumber = parts.length + 1;
        const part = new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body, ContentMD5: md5(Body) });
        const { ETag } = await onceMore(() => this.#send(doing, signal, (options) => this.#client.send(part, options)));
        parts.push({ PartNumber, ETag });
      }
      await this.#send(doing, signal, (options) =>
        this.#client.send(
          new CompleteMultipartUploadCommand({
            Bucket,
            Key,
            UploadId,
            MultipartUpload: { Parts: parts },
            ...condition,
          }),
          options,
        ),
      );
      return 'created';
    } catch (error) {
      const exists = isPreconditionFailed(error);
      // Without the signal: also what was cancelled is cleaned away. A failure here is `cleanUp`'s to mend.
      await this.#client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })).catch(() => undefined);
      if (exists) return 'exists';
      throw error;
    }
  }

  /** Takes away uploads in parts that were begun long ago and never finished. @returns how many */
  async cleanUp({ signal }: Cancellable = {}): Promise<number> {
    const { bucket: Bucket, prefix: Prefix } = this.#location;
    let removed = 0;
    let at: Pick<ListMultipartUploadsCommandInput, 'KeyMarker' | 'UploadIdMarker'> | undefined = {};
    while (at) {
      const from: Pick<ListMultipartUploadsCommandInput, 'KeyMarker' | 'UploadIdMarker'> = at;
      const page = await this.#send('list unfinished uploads', signal, (options) =>
        this.#client.send(new ListMultipartUploadsCommand({ Bucket, Prefix, ...from }), options),
      );
      for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
        // Below its own keys only: the bucket may be another program's, too.
        if (!Key?.startsWith(Prefix) || !isKey(Key.slice(Prefix.length))) continue;
        if (!Initiated || this.#options.now() - Initiated.getTime() <= ABANDONED_UPLOAD_MS) continue;
        await this.#send('remove an unfinished upload', signal, (options) =>
          this.#client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), options),
        );
        removed++;
      }
      const { NextKeyMarker: KeyMarker, NextUploadIdMarker: UploadIdMarker } = page;
      at = page.IsTruncated && KeyMarker !== undefined ? { KeyMarker, UploadIdMarker } : undefined;
    }
    return removed;
  }

  async #collect(key: string, answer: GetObjectCommandOutput, range: ByteRange | undefined): Promise<Uint8Array> {
    const total = Number(/\/(\d+)$/.exec(answer.ContentRange ?? '')?.[1] ?? answer.ContentLength ?? 0);
    const body = answer.Body;
    try {
      const wanted = clampRange(range, total, key, this.#where);
      const bytes = new Uint8Array(wanted.length);
      let length = 0;
      for await (const part of (body ?? []) as AsyncIterable<Uint8Array>) {
        if (length + part.length <= bytes.length) bytes.set(part, length);
        length += part.length;
        if (length > bytes.length) break;
      }
      if (length !== wanted.length) {
        throw new HoldfastError(
          'backend_unavailable',
          `${this.#where} broke off while it sent ${key}: ${length} of ${wanted.length} bytes`,
          { hint: 'Try again.', retryable: true },
        );
      }
      return bytes;
    } finally {
      if (body && 'destroy' in body) (body as { destroy(): void }).destroy();
    }
  }

  #key(key: string): string {
    return this.#location.prefix + key;
  }

  get #where(): string {
    return `backend ${this.#options.name}`;
  }

  #target(key: string) {
    const { bucket, storageClass, serverSideEncryption, kmsKeyId, objectLock } = this.#location;
    return {
      Bucket: bucket,
      Key: this.#key(key),
      ContentType: 'application/octet-stream',
      ...(storageClass === undefined
        ? {}
        : { StorageClass: storageClass as NonNullable<PutObjectCommandInput['StorageClass']> }),
      ...(serverSideEncryption === undefined
        ? {}
        : { ServerSideEncryption: serverSideEncryption as NonNullable<PutObjectCommandInput['ServerSideEncryption']> }),
      ...(kmsKeyId === undefined ? {} : { SSEKMSKeyId: kmsKeyId }),
      ...(objectLock
        ? {
            ObjectLockMode: objectLock.mode.toUpperCase() as ObjectLockMode,
            ObjectLockRetainUntilDate: new Date(this.#options.now() + objectLock.days * DAY_MS),
          }
        : {}),
    };
  }

  /** Makes a call, and errors of ours of what the SDK throws. */
  async #send<T>(
    doing: string,
    signal: AbortSignal | undefined,
    call: (options: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    throwIfAborted(signal);
    try {
      return await call(signal ? { abortSignal: signal } : {});
    } catch (error) {
      throwIfAborted(signal);
      if (isHoldfastError(error)) throw error;
      throw translated(error, doing, this.#where);
    }
  }
}

/** One accident shall not cost the parts before it; what lasts longer is the caller's, who repeats the whole after a pause. */
async function onceMore<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (isHoldfastError(error) && error.retryable) return call();
    throw error;
  }
}

/** As the header `Content-MD5` has it (RFC 1864). */
function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('base64');
}

function crc32Hex(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(8, '0');
}
