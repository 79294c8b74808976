/** The shape of holdfast.yaml. Apart from config.ts, because loading zod takes as long as starting Node. */
import { z } from 'zod';
import { BACKENDS_MAX } from '../limits.ts';
import { BUILT_IN_PROFILES, mayBeProfile, SECRET_HANDLING } from '../state/profile-names.ts';
import { fleetSection } from './fleet/schema.ts';
import { drillSection } from './drill/schema.ts';
import { hookKeys, operatingSections } from './operating-schema.ts';
import { retentionSection } from './retention-schema.ts';

const path = z.string().min(1).max(4096);
const text = z.string().min(1).max(1024);
/** A name for people and logs: no white space, no control characters. */
const handle = z.string().regex(/^[^\s\p{C}]{1,64}$/u, 'must be 1 to 64 characters without white space');
const percent = z.string().regex(/^(?:[1-9]\d?|100)%$/, 'must be a percentage from 1% to 100%');
const backendName = z.string().regex(/^[a-z0-9-]{1,32}$/, 'a backend name is 1 to 32 characters of a-z, 0-9 and -');

export const configSchema = z
  .strictObject({
    agent: z
      .strictObject({
        handle: handle.describe("The agent's name."),
        identity: path
          .optional()
          .describe("File of the agent's ed25519 key; default beside the config: NAME.identity.key"),
        writerKey: path
          .optional()
          .describe('File of the key that adds snapshots; default beside the config: NAME.writer.key'),
      })
      .describe('Who is backed up.'),
    state: z
      .strictObject({
        profile: path
          .refine(
            mayBeProfile,
            `no profile of that name comes with holdfast (${BUILT_IN_PROFILES.join(', ')}), and a path has a / or a .`,
          )
          .optional()
          .describe(
            `What is state, secret and cache: ${BUILT_IN_PROFILES.join(', ')}, or the path of a profile file; default files: every file below root as it is.`,
          ),
        secrets: z
          .enum(SECRET_HANDLING)
          .optional()
          .describe(
            'What the profile calls secret: apart (default) saves it so that it is restored on request only, include takes it like the rest, leave does not save it.',
          ),
        root: path.describe("The folder of the agent's state."),
        exclude: z.array(z.string().min(1).max(4096)).max(1000).optional().describe('Patterns as in .gitignore.'),
        special: z
          .enum(['skip', 'keep'])
          .optional()
          .describe('Whether FIFOs and devices are kept; default skip. Sockets never are.'),
        oneFileSystem: z.boolean().optional().describe('Leave out what lies on other file systems than root.'),
        ...hookKeys,
      })
      .describe('What is backed up.'),
    backends: z
      .record(
        backendName,
        z.strictObject({
          url: z
            .string()
            .min(1)
            .max(4096)
            .describe('Where: file:///absolute/path, s3://bucket/prefix or sftp://user@host:port/path.'),
          endpoint: text.optional().describe('S3: the address of a provider other than AWS, https://…'),
          region: text.optional().describe('S3: the region of the bucket.'),
          pathStyle: z.boolean().optional().describe('S3: the bucket in the path; default where there is an endpoint.'),
          storageClass: text.optional().describe('S3: of every object, for example STANDARD_IA.'),
          sse: z.enum(['AES256', 'aws:kms']).optional().describe('S3: encryption by the provider, beside ours.'),
          kmsKey: text.optional().describe('S3: the key of aws:kms.'),
          objectLock: z
            .strictObject({ mode: z.enum(['governance', 'compliance']), days: z.int().min(1).max(36500) })
            .optional()
            .describe('S3: how long no object can be deleted or replaced; the bucket must have Object Lock.'),
          key: path.optional().describe('SFTP: the private key file; default the SSH agent and the usual files.'),
          upload: text.optional().describe('S3, SFTP: at most so much a second, for example 2MiB.'),
          download: text.optional().describe('The same for what is read.'),
          knownHosts: path
            .optional()
            .describe('SFTP: the known_hosts file; default ~/.ssh/known_hosts and the system one.'),
        }),
      )
      .refine((backends) => Object.keys(backends).length >= 1, 'name at least one backend')
      .refine((backends) => Object.keys(backends).length <= BACKENDS_MAX, `at most ${BACKENDS_MAX} backends`)
      .describe('Where snapshots are kept; every snapshot goes to all of them.'),
    commit: z
      .strictObject({
        require: z
          .int()
          .min(1)
          .max(BACKENDS_MAX)
          .describe('How many backends must hold a snapshot for exit code 0; default all.'),
      })
      .describe('When a backup counts as done.'),
    suspicion: z
      .strictObject({
        shrink: percent.optional().describe('Of the files or bytes that may be gone at once; default 50%.'),
        change: percent.optional().describe('Of the files that may have new contents at once; default 50%.'),
        incompressible: percent
          .optional()
          .describe('Of what could be compressed that may be incompressible at once; default 25%.'),
        history: z.int().min(7).max(1000).optional().describe('How many snapshots tell what is usual; default 30.'),
        off: z.boolean().optional().describe('True: no snapshot is suspicious.'),
      })
      .describe('When what the state has become is suspicious; see docs/loss.md.'),
    retention: retentionSection,
    drill: drillSection,
    ...operatingSections,
    ...fleetSection,
  })
  .partial();

/** The JSON Schema that ships with the package as holdfast.schema.json. */
export function configJsonSchema(): Record<string, unknown> {
  return { title: 'holdfast.yaml', ...z.toJSONSchema(configSchema) };
}
