/** `paper create`: the recovery document of an agent, proved against its repository. */
import { ageRecipientOf, type AgeKind } from '../crypto/age.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import type { Mirror } from '../backend/mirror.ts';
import { fingerprint, formatOpenSsh } from '../identity/agent-key.ts';
import { paperOf, sampleOf, type PaperDocument, type ShareScheme } from '../identity/paper.ts';
import { renderPaper, type PaperSize } from '../identity/paper-pdf.ts';
export type { PaperSize };
import { restoreIdentity, type Root } from '../identity/root.ts';
import { writeSecretFile } from '../identity/secret-file.ts';
import { openRepository, type Access, type Repository } from '../repository/repository.ts';
import { agentKeyOf, openForRestore, type ExpectedRepository } from './access.ts';
import { openMirror, type BackendAddress } from './backends.ts';
import type { Seams } from './seams.ts';

export interface CreatePaperOptions {
  /** The new file. */
  output: string;
  size: PaperSize;
  /** Shares in place of the words. */
  shares?: ShareScheme | undefined;
  backends: readonly BackendAddress[];
  /** `holdfast/<version>`. */
  tool: string;
  /**
   * `root`: the document itself. `sample`: one with placeholders for every secret, for which a writer key (`access`) tells what the
   * repository says in public; without it, or where no backend can be reached, the config's word is taken.
   */
  from:
    | { kind: 'root'; root: Root; expected: ExpectedRepository | undefined }
    | { kind: 'sample'; handle: string; access: Access | undefined };
}

export interface PaperResult {
  file: string;
  pages: number;
  size: PaperSize;
  shares?: ShareScheme & { identifier: number };
  /** Of the agent's key. */
  fingerprint: string;
  /** How many QR codes there are. */
  codes: number;
}

/**
 * Writes the document to a new file that only its owner can read. The words are proved to belong to the repository, which tells the
 * agent's handle and key.
 * @throws `exists`, `wrong_key` when the words are of another repository, `backend_unavailable` and what else opening it throws
 */
export async function createPaper(options: CreatePaperOptions, seams: Seams): Promise<PaperResult> {
  const { from } = options;
  const document =
    from.kind === 'root'
      ? await realDocument(options, from.root, from.expected, seams)
      : await sampleDocument(options, from.handle, from.access, seams);
  return writePaper(options.output, document, options.size);
}

/**
 * Draws a document and writes it as `createPaper` does. @throws `exists`, `io`
 */
export async function writePaper(file: string, document: PaperDocument, size: PaperSize): Promise<PaperResult> {
  const { bytes, pages, codes } = await renderPaper(document, { size });
  await writeSecretFile(file, bytes);
  const { secret } = document;
  return {
    file,
    pages,
    size,
    ...(secret.kind === 'shares' ? { shares: { ...secret.scheme, identifier: secret.identifier } } : {}),
    fingerprint: document.agent.fingerprint,
    codes: codes.length,
  };
}

async function realDocument(
  { backends, shares, tool }: CreatePaperOptions,
  root: Root,
  expected: ExpectedRepository | undefined,
  seams: Seams,
): Promise<PaperDocument> {
  const secret = { kind: 'root', root } as const;
  await using mirror = await openMirror(backends, seams);
  const repository = await openForRestore(mirror, secret, expected, seams);
  const { handle, publicKey, origin } = repository.keys.agent;
  const key = await agentKeyOf(repository, secret, seams.signal);
  return await paperOf(
    root,
    {
      handle,
      agentPublicKey: publicKey,
      origin,
      repository: repository.id,
      backends,
      kind: await restoreKind(repository, root),
      tool,
      time: seams.clock.now(),
      shares,
      agentKeyFile: origin === 'imported' ? Buffer.from(formatOpenSsh(key, handle, seams.random)) : undefined,
    },
    seams.random,
  );
}

/** Which of the two identities of the root the repository is encrypted to. */
async function restoreKind(repository: Repository, root: Root): Promise<AgeKind> {
  for (const kind of ['x25519', 'hybrid'] as const) {
    const recipient = await ageRecipientOf(restoreIdentity(root, kind));
    if (repository.keys.recipients.restore.includes(recipient)) return kind;
  }
  throw new HoldfastError('wrong_key', 'the repository is no longer encrypted to the key of these words', {
    hint: 'A sheet of them would not open what is backed up. Add it again as a recipient first.',
  });
}

async function sampleDocument(
  { backends, shares, tool }: CreatePaperOptions,
  handle: string,
  access: Access | undefined,
  seams: Seams,
): Promise<PaperDocument> {
  const unknown = (bytes: number) => '0'.repeat(2 * bytes);
  const facts = {
    handle,
    agentPublicKey: access?.agent ?? unknown(32),
    origin: 'derived' as const,
    repository: access?.repository ?? unknown(16),
    backends,
    kind: 'x25519' as const,
    tool,
    time: seams.clock.now(),
    shares,
  };
  if (!access) return sampleOf(facts);
  await using mirror = await openMirror(backends, seams);
  const repository = await openIfReached(mirror, access, seams);
  if (!repository) return sampleOf(facts);
  const { agent, recipients } = repository.keys;
  return sampleOf({
    ...facts,
    handle: agent.handle,
    agentPublicKey: agent.publicKey,
    origin: agent.origin,
    recovery: fingerprint(repository.record.recovery),
    kind: recipients.restore.some((recipient) => recipient.startsWith('age1pq1')) ? 'hybrid' : 'x25519',
  });
}

/** A sample needs no repository; but one that is there and is not what it should be is told. */
async function openIfReached(mirror: Mirror, access: Access, seams: Seams): Promise<Repository | undefined> {
  try {
    return await openRepository(mirror, access, seams);
  } catch (error) {
    if (isHoldfastError(error, 'backend_unavailable')) return undefined;
    throw error;
  }
}
