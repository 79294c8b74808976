/**
 * DSSE v1 envelopes (secure-systems-lab/dsse: envelope.md, protocol.md) signed with Ed25519. There is one spelling of
 * an envelope: the JSON below without white space, in this order, and a newline. Anything else is damage, so an
 * envelope's bytes can be named by their hash.
 *
 *     {"payloadType":"…","payload":"<base64>","signatures":[{"keyid":"<public key, hex>","sig":"<base64>"}, …]}
 */
import { HoldfastError } from '../errors.ts';
import { RECORD_MAX_BYTES } from '../limits.ts';
import { escapeForDisplay } from '../raw-path.ts';
import { sign, SIGNATURE_BYTES, verify } from './ed25519.ts';
import { hex } from './hash.ts';
import { isObject } from '../json.ts';

/** Signatures in one envelope. */
export const SIGNATURES_MAX = 16;

export interface EnvelopeSigner {
  /** 32 bytes, secret. */
  seed: Uint8Array;
  /** 32 bytes, the public key of the seed. */
  publicKey: Uint8Array;
}

export interface Envelope {
  payloadType: string;
  payload: Uint8Array;
  /** `keyid` is the claimed signer's public key in hexadecimal; nothing is verified before `signedBy`. */
  signatures: { keyid: string; sig: Uint8Array }[];
}

/** The bytes that are signed: DSSE's pre-authentication encoding. */
export function pae(type: string, payload: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `), payload]);
}

/** The envelope's bytes around the payload, with one signature a signer, in the order given. Deterministic. */
export function signEnvelope(payloadType: string, payload: Uint8Array, signers: readonly EnvelopeSigner[]): Uint8Array {
  const message = pae(payloadType, payload);
  const signatures = signers.map(({ seed, publicKey }) => ({ keyid: hex(publicKey), sig: sign(message, seed) }));
  return encode({ payloadType, payload, signatures });
}

/**
 * Reads an envelope without verifying it. Throws `damaged` when the bytes are not exactly what `signEnvelope` writes,
 * are more than `RECORD_MAX_BYTES`, or carry another type than the expected one.
 */
export function parseEnvelope(bytes: Uint8Array, expectedType: string): Envelope {
  if (bytes.length > RECORD_MAX_BYTES) throw malformed(`${bytes.length} bytes, more than ${RECORD_MAX_BYTES}`);
  const envelope = decode(bytes);
  if (envelope === undefined || Buffer.compare(encode(envelope), bytes) !== 0)
    throw malformed('its form is not the canonical one');
  if (envelope.payloadType !== expectedType) {
    throw malformed(
      `it holds "${escapeForDisplay(envelope.payloadType.slice(0, 100))}" where "${expectedType}" is expected`,
    );
  }
  return envelope;
}

/** True when the envelope carries a valid signature by this public key. */
export function signedBy(envelope: Envelope, publicKey: Uint8Array): boolean {
  const keyid = hex(publicKey);
  const message = pae(envelope.payloadType, envelope.payload);
  return envelope.signatures.some(
    (signature) => signature.keyid === keyid && verify(signature.sig, message, publicKey),
  );
}

function encode({ payloadType, payload, signatures }: Envelope): Uint8Array {
  return Buffer.from(
    `${JSON.stringify({
      payloadType,
      payload: base64(payload),
      signatures: signatures.map(({ keyid, sig }) => ({ keyid, sig: base64(sig) })),
    })}\n`,
  );
}

/** What the bytes say, read leniently: the caller compares the canonical spelling of the result with them. */
function decode(bytes: Uint8Array): Envelope | undefined {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
  if (!isObject(json)) return undefined;
  const { payloadType, payload, signatures } = json;
  if (typeof payloadType !== 'string' || typeof payload !== 'string' || !Array.isArray(signatures)) return undefined;
  if (signatures.length < 1 || signatures.length > SIGNATURES_MAX) return undefined;
  const envelope: Envelope = { payloadType, payload: unbase64(payload), signatures: [] };
  for (const signature of signatures as unknown[]) {
    if (!isObject(signature)) return undefined;
    const { keyid, sig } = signature;
    if (typeof keyid !== 'string' || !/^[0-9a-f]{64}$/.test(keyid) || typeof sig !== 'string') return undefined;
    const decoded = unbase64(sig);
    if (decoded.length !== SIGNATURE_BYTES) return undefined;
    envelope.signatures.push({ keyid, sig: decoded });
  }
  return envelope;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

function unbase64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'));
}

function malformed(problem: string): HoldfastError {
  return new HoldfastError('damaged', `a signed envelope is malformed: ${problem}`);
}
