/** What an S3 service's answers mean: which are permanent, and what the user can do about them. */
import { HoldfastError, isHoldfastError, messageOf } from '../errors.ts';

/** What the service answered, or the network's code, of an error of the SDK or of ours around one. */
export function codeOf(error: unknown): string | undefined {
  const inner = isHoldfastError(error) ? error.cause : error;
  if (!(inner instanceof Error)) return undefined;
  const code = 'Code' in inner ? inner.Code : inner.name === 'Error' && 'code' in inner ? inner.code : inner.name;
  return typeof code === 'string' ? code : undefined;
}

/** The HTTP status of the answer, where there was one. */
export function statusOf(error: unknown): number | undefined {
  const inner = isHoldfastError(error) ? error.cause : error;
  const metadata = inner instanceof Error && '$metadata' in inner ? inner.$metadata : undefined;
  const status =
    typeof metadata === 'object' && metadata && 'httpStatusCode' in metadata ? metadata.httpStatusCode : undefined;
  return typeof status === 'number' ? status : undefined;
}

/** True when a conditional write found the key taken. A 409 says only that another is at it, who may still fail: that is to be tried again. */
export function isPreconditionFailed(error: unknown): boolean {
  return statusOf(error) === 412;
}

const NETWORK_CODES = /^(ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|TimeoutError)$/;
const ADVICE: readonly [RegExp, string][] = [
  [
    /^(InvalidAccessKeyId|SignatureDoesNotMatch|CredentialsProviderError|ExpiredToken|InvalidToken|TokenRefreshRequired)$/,
    'Check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or what else the AWS SDK looks for.',
  ],
  [
    /^(AccessDenied|Forbidden|AllAccessDisabled)$/,
    'The credentials are valid and not allowed to do this: docs/backends.md has the policy that is needed.',
  ],
  [/^NoSuchBucket$/, 'Make the bucket first, or correct its name in the URL.'],
  [
    /^(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException)$/,
    'The bucket is in another region: set `region`.',
  ],
  [
    /^(InvalidArgument|InvalidRequest|InvalidStorageClass|KMS\..*|NotImplemented)$/,
    'The service does not do what is asked of it: look at `storageClass`, `sse`, `kmsKey` and `lock` in the URL.',
  ],
  [/^RequestTimeTooSkewed$/, "This machine's clock is wrong: set it."],
  [/^(ENOTFOUND|EAI_AGAIN)$/, 'The name of the endpoint is not known: check it, and the network.'],
  [/^(EPROTO|ERR_SSL_.*)$/, 'What answers there does not speak TLS: is it http:// instead of https://?'],
  [/^NotFound$|^404$/, 'Check the endpoint and the bucket: what answers there does not know it.'],
  [NETWORK_CODES, 'Check that the service is up and can be reached from here.'],
  [
    /(CERT|SELF_SIGNED|UNABLE_TO_VERIFY)/,
    "The service's certificate is not one this machine trusts: set NODE_EXTRA_CA_CERTS, or correct the endpoint.",
  ],
];
/** Answers that a repetition does not change. */
const PERMANENT_CODES =
  /^(NoSuchBucket|InvalidBucketName|PermanentRedirect|AuthorizationHeaderMalformed|CredentialsProviderError|ENOTFOUND|InvalidArgument|MalformedXML|NotImplemented|EPROTO|ERR_SSL_WRONG_VERSION_NUMBER)$|CERT|SELF_SIGNED/;

/** Refusals (4xx) of what was harmed on its way or came too slowly; and the SDK corrects its clock by the answer. */
const TRANSIENT_CODES = /^(BadDigest|XAmzContentSHA256Mismatch|IncompleteBody|RequestTimeout|RequestTimeTooSkewed)$/;

/** The error of ours for one that the SDK threw while `doing` something. */
export function translated(error: unknown, doing: string, where: string): HoldfastError {
  const code = codeOf(error) ?? 'Unknown';
  const status = statusOf(error);
  const isPermanent =
    PERMANENT_CODES.test(code) ||
    (status !== undefined &&
      status >= 400 &&
      status < 500 &&
      !NETWORK_CODES.test(code) && // the answer broke off: who knows what it would have been
      ![408, 409, 425, 429].includes(status) &&
      !TRANSIENT_CODES.test(code));
  const hint =
    ADVICE.find(([pattern]) => pattern.test(code))?.[1] ??
    (messageOf(error).startsWith('Region is missing')
      ? 'Set `region`, and `endpoint` for a provider other than AWS.'
      : isPermanent
        ? 'Look at the settings of this backend, and at the service: a repetition changes nothing.'
        : 'Try again; if it stays so, look at the service.');
  const told =
    /^[A-Z_]+$/.test(code) || status === undefined
      ? messageOf(error)
          .replace(/:?[\w:./]*\.c:\d+:$/, '')
          .slice(0, 200)
      : `${code} (HTTP ${status})`;
  return new HoldfastError('backend_unavailable', `${where} cannot ${doing}: ${told}`, {
    hint,
    retryable: !isPermanent,
    cause: error,
  });
}
