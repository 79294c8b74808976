/**
 * Stands in for Ceph where it cannot be had: as much of S3 as src/backend/s3.ts and bucket.ts speak, on loopback, in this process, in memory. It
 * checks what a real one checks (signatures, clocks, digests, conditions), and what it does not know it refuses rather than passes over.
 */
import { createHash, createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Running, S3Server } from './servers.ts';

/** What Ceph has and this has not: tests that need it are skipped. */
export const S3_GAPS = [
  'Object Lock',
  'bucket policies',
  'versioning',
  'checksums other than MD5 and SHA-256',
  'uploads listed in pages',
  'keys of unusual characters',
] as const;

interface Stored {
  body: Buffer;
  etag: string;
  /** That it is given back with. */
  headers: Record<string, string>;
  modified: Date;
}
interface Upload {
  key: string;
  headers: Record<string, string>;
  begun: Date;
  parts: Map<number, { body: Buffer; etag: string }>;
}
interface Bucket {
  owner: string;
  objects: Map<string, Stored>;
  uploads: Map<string, Upload>;
}
interface World {
  buckets: Map<string, Bucket>;
  /** By access key. */
  secrets: ReadonlyMap<string, string>;
}
interface Call extends World {
  name: string;
  bucket: Bucket;
  key: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  body: Buffer;
}
interface Answer {
  status?: number;
  headers?: Record<string, string | number>;
  body?: Buffer | string;
}

/** Its message is S3's error code. */
class Refusal extends Error {
  readonly status: number;
  constructor(status: number, code: string) {
    super(code);
    this.status = status;
  }
}

const PAGE_KEYS = 1000;
/** Of all parts but the last. */
const PART_MIN_BYTES = 5 * 1024 * 1024;
const SKEW_MAX_MS = 15 * 60_000;
/** What says how an operation is to be done. All other words of a query say which one it is. */
const PARAMETERS = new Set(['x-id', 'prefix', 'max-keys', 'continuation-token', 'partNumber']);
/** Headers that ask for what is not done here. */
const HEADERS_UNKNOWN =
  /^(if-(match|modified|unmodified)|x-amz-(acl|bucket-|copy-|grant-|object-lock|server-side|storage-class|tagging|website))/;

/** Such as holdfast uses; others would have to be escaped, here in XML and there in URLs. */
const KEYS = /^[\w./-]*$/;

/** By method, what it concerns, and the words of the query. */
const OPERATIONS: Record<string, (call: Call) => Answer> = {
  'DELETE bucket': ({ buckets, name, bucket }) => {
    if (bucket.objects.size > 0) throw new Refusal(409, 'BucketNotEmpty');
    buckets.delete(name);
    return { status: 204 };
  },
  'GET bucket list-type': ({ bucket: { objects }, query }) => {
    const from = query.get('continuation-token') ?? '';
    const count = Math.min(PAGE_KEYS, Number(query.get('max-keys') ?? PAGE_KEYS));
    const left = matching(objects, query).filter(([key]) => key > from);
    const page = left.slice(0, count);
    const token = left.length > count ? [xml('NextContinuationToken', page.at(-1)?.[0] ?? '')] : [];
    const contents = page.map((found) => xml('Contents', ...described(found)));
    const head = [xml('KeyCount', String(page.length)), xml('IsTruncated', String(token.length > 0))];
    return { body: xml('ListBucketResult', ...head, ...token, ...contents) };
  },
  'GET bucket versions': ({ bucket: { objects }, query }) => {
    const version = (found: [string, Stored]) => xml('Version', xml('VersionId', 'null'), ...described(found));
    return { body: xml('ListVersionsResult', ...matching(objects, query).map(version)) };
  },
  'GET bucket uploads': ({ bucket: { uploads }, query }) => {
    const found = [...uploads].filter(([, { key }]) => key.startsWith(query.get('prefix') ?? ''));
    const listed = found.map(([id, { key, begun }]) =>
      xml('Upload', xml('Key', key), xml('UploadId', id), xml('Initiated', begun.toISOString())),
    );
    return { body: xml('ListMultipartUploadsResult', ...listed) };
  },
  'POST bucket delete': ({ bucket, body }) => {
    const keys = [...body.toString().matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key = '']) => key);
    for (const key of keys) bucket.objects.delete(key);
    return { body: xml('DeleteResult', ...keys.map((key) => xml('Deleted', xml('Key', key)))) };
  },
  'PUT object': ({ bucket: { objects }, key, headers, body }) => {
    requireCondition(objects, key, headers);
    const etag = `"${hex('md5', body)}"`;
    objects.set(key, { body, etag, headers: kept(headers), modified: new Date() });
    return { headers: { etag } };
  },
  'GET object': (call) => {
    const found = requireObject(call);
    const size = found.body.length;
    const all = { ...found.headers, etag: found.etag, 'last-modified': found.modified.toUTCString() };
    const { range } = call.headers;
    if (range === undefined) return { headers: { ...all, 'content-length': size }, body: found.body };
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range) ?? [];
    if (first === undefined) throw new Refusal(501, 'NotImplemented');
    if (Number(first) >= size) throw new Refusal(416, 'InvalidRange');
    const body = found.body.subarray(Number(first), Number(last) + 1);
    const part = `bytes ${first}-${Number(first) + body.length - 1}/${size}`;
    return { status: 206, headers: { ...all, 'content-length': body.length, 'content-range': part }, body };
  },
  'HEAD object': (call) => OPERATIONS['GET object']?.(call) ?? {},
  'DELETE object': ({ bucket, key }) => {
    bucket.objects.delete(key);
    return { status: 204 };
  },
  'POST object uploads': ({ bucket, key, headers }) => {
    const id = randomUUID();
    bucket.uploads.set(id, { key, headers: kept(headers), begun: new Date(), parts: new Map() });
    return { body: xml('InitiateMultipartUploadResult', xml('UploadId', id)) };
  },
  'PUT object uploadId': (call) => {
    const etag = `"${hex('md5', call.body)}"`;
    requireUpload(call).parts.set(Number(call.query.get('partNumber')), { body: call.body, etag });
    return { headers: { etag } };
  },
  'POST object uploadId': (call) => {
    const { bucket, key, query, headers } = call;
    const upload = requireUpload(call);
    const parts = [...call.body.toString().matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, part = '']) => {
      const found = upload.parts.get(Number(/<PartNumber>(\d+)</.exec(part)?.[1]));
      if (!found || !part.includes(found.etag.slice(1, -1))) throw new Refusal(400, 'InvalidPart');
      return found;
    });
    if (parts.length === 0) throw new Refusal(400, 'MalformedXML');
    if (parts.slice(0, -1).some(({ body }) => body.length < PART_MIN_BYTES)) throw new Refusal(400, 'EntityTooSmall');
    requireCondition(bucket.objects, key, headers);
    const digests = parts.map(({ etag }) => Buffer.from(etag.slice(1, -1), 'hex'));
    const etag = `"${hex('md5', Buffer.concat(digests))}-${parts.length}"`;
    const body = Buffer.concat(parts.map((part) => part.body));
    bucket.objects.set(key, { body, etag, headers: upload.headers, modified: new Date() });
    bucket.uploads.delete(query.get('uploadId') ?? '');
    return { body: xml('CompleteMultipartUploadResult', xml('ETag', etag.replaceAll('"', '&quot;'))) };
  },
  'DELETE object uploadId': (call) => {
    requireUpload(call);
    call.bucket.uploads.delete(call.query.get('uploadId') ?? '');
    return { status: 204 };
  },
};

/** Starts one; what is stored outlives `kill`, and ends with `stop`. */
export async function startEmbeddedS3(): Promise<S3Server & Running> {
  const credentials = { accessKeyId: 'holdfast', secretAccessKey: 'of-these-tests' };
  const guest = { ...credentials, accessKeyId: 'holdfast-guest' };
  const secrets = new Map([credentials, guest].map((user) => [user.accessKeyId, user.secretAccessKey]));
  const world: World = { buckets: new Map(), secrets };
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    // What fails otherwise is a connection that broke off.
    serve(request, response, world).catch(() => response.destroy());
  });
  let port = 0;
  const up = async (): Promise<void> => {
    await once(server.listen(port, '127.0.0.1'), 'listening');
    ({ port } = server.address() as AddressInfo);
  };
  const kill = async (): Promise<void> => {
    const closed = once(server.close(), 'close');
    server.closeAllConnections();
    await closed;
  };
  const stop = async (): Promise<void> => {
    if (server.listening) await kill();
  };
  await up();
  return { endpoint: `http://127.0.0.1:${port}`, credentials, guest, version: 0, kill, restart: up, stop };
}

async function serve(request: IncomingMessage, response: ServerResponse, world: World): Promise<void> {
  const body = Buffer.concat((await request.toArray()) as Buffer[]);
  let answer: Answer;
  try {
    answer = perform(request, body, world);
  } catch (error) {
    const { status, message } = error instanceof Refusal ? error : new Refusal(500, 'InternalError');
    answer = { status, body: xml('Error', xml('Code', message)) };
  }
  response.writeHead(answer.status ?? 200, answer.headers);
  response.end(request.method === 'HEAD' ? '' : answer.body);
}

function perform(request: IncomingMessage, body: Buffer, world: World): Answer {
  const { method = '', url = '', headers } = request;
  const user = signer(request, world);
  if (headers['x-amz-content-sha256'] !== hex('sha256', body)) throw new Refusal(400, 'XAmzContentSHA256Mismatch');
  const md5 = Buffer.from(String(headers['content-md5'] ?? ''), 'base64').toString('hex');
  if (md5 !== '' && md5 !== hex('md5', body)) throw new Refusal(400, 'BadDigest');

  const [path = '', queryText] = url.split('?');
  const query = new URLSearchParams(queryText);
  const [, name = '', key = ''] = /^\/([^/]*)\/?(.*)$/s.exec(path) ?? [];
  const words = [...query.keys()].filter((word) => !PARAMETERS.has(word)).sort();
  const operation = [method, key === '' ? 'bucket' : 'object', ...words].join(' ');
  if (!KEYS.test(key) || Object.keys(headers).some((header) => HEADERS_UNKNOWN.test(header)))
    throw new Refusal(501, 'NotImplemented');
  const { buckets } = world;
  if (operation === 'PUT bucket') {
    if (buckets.has(name)) throw new Refusal(409, 'BucketAlreadyExists');
    buckets.set(name, { owner: user, objects: new Map(), uploads: new Map() });
    return {};
  }
  const bucket = buckets.get(name);
  if (!bucket) throw new Refusal(404, 'NoSuchBucket');
  if (bucket.owner !== user) throw new Refusal(403, 'AccessDenied');
  const operate = OPERATIONS[operation];
  if (!operate) throw new Refusal(501, 'NotImplemented');
  return operate({ ...world, name, bucket, key, query, headers, body });
}

/** Who signed a request (AWS Signature Version 4). */
function signer({ method, url = '', headers }: IncomingMessage, { secrets }: World): string {
  const [, user = '', scope = '', names = '', signature] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/([^,]+), SignedHeaders=([^,]+), Signature=(\w+)$/.exec(
      headers.authorization ?? '',
    ) ?? [];
  const secret = secrets.get(user);
  if (secret === undefined) throw new Refusal(403, 'InvalidAccessKeyId');
  const date = String(headers['x-amz-date']);
  const [path, query = ''] = url.split('?');
  const pairs = query.split('&').map((pair) => (pair === '' || pair.includes('=') ? pair : `${pair}=`));
  const lines = names.split(';').map((name) => `${name}:${String(headers[name]).trim().replace(/ +/g, ' ')}\n`);
  const canonical = [method, path, pairs.sort().join('&'), lines.join(''), names, headers['x-amz-content-sha256']];
  const toSign = ['AWS4-HMAC-SHA256', date, scope, hex('sha256', canonical.join('\n'))].join('\n');
  const hmac = (key: string | Buffer, told: string) => createHmac('sha256', key).update(told).digest();
  const key = scope.split('/').reduce<string | Buffer>(hmac, `AWS4${secret}`);
  if (hmac(key, toSign).toString('hex') !== signature) throw new Refusal(403, 'SignatureDoesNotMatch');
  const time = Date.parse(date.replace(/^(....)(..)(..T..)(..)/, '$1-$2-$3:$4:'));
  if (!(Math.abs(Date.now() - time) < SKEW_MAX_MS)) throw new Refusal(403, 'RequestTimeTooSkewed');
  return user;
}

function requireObject({ bucket, key }: Call): Stored {
  const found = bucket.objects.get(key);
  if (!found) throw new Refusal(404, 'NoSuchKey');
  return found;
}

function requireUpload({ bucket, key, query }: Call): Upload {
  const found = bucket.uploads.get(query.get('uploadId') ?? '');
  if (found?.key !== key) throw new Refusal(404, 'NoSuchUpload');
  return found;
}

function requireCondition(objects: ReadonlyMap<string, Stored>, key: string, headers: IncomingHttpHeaders): void {
  const condition = headers['if-none-match'];
  if (condition !== undefined && condition !== '*') throw new Refusal(501, 'NotImplemented');
  if (condition === '*' && objects.has(key)) throw new Refusal(412, 'PreconditionFailed');
}

/** Those of an object's headers that come back with it. */
function kept(headers: IncomingHttpHeaders): Record<string, string> {
  const own = Object.entries(headers).filter(([name]) => name === 'content-type' || name.startsWith('x-amz-meta-'));
  return Object.fromEntries(own.map(([name, value]) => [name, String(value)]));
}

function matching<T>(entries: ReadonlyMap<string, T>, query: URLSearchParams): [string, T][] {
  const found = [...entries].filter(([key]) => key.startsWith(query.get('prefix') ?? ''));
  return found.sort(([one], [other]) => (one < other ? -1 : 1));
}

function described([key, { body, etag, modified }]: [string, Stored]): string[] {
  return [
    xml('Key', key),
    xml('LastModified', modified.toISOString()),
    xml('ETag', etag.replaceAll('"', '&quot;')),
    xml('Size', String(body.length)),
    xml('StorageClass', 'STANDARD'),
  ];
}

function xml(name: string, ...inner: string[]): string {
  return `<${name}>${inner.join('')}</${name}>`;
}

function hex(algorithm: 'md5' | 'sha256', bytes: string | Buffer): string {
  return createHash(algorithm).update(bytes).digest('hex');
}
