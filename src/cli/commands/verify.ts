import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { HoldfastError } from '../../errors.ts';
import { verify, type VerifyOptions, type VerifyResult } from '../../operations/verify.ts';
import { parseDuration, parseSize } from '../../units.ts';
import { requireSections } from '../config.ts';
import {
  accessOf,
  expectedRepository,
  localFolders,
  readSignerIfAny,
  readWriterKey,
  restoreSecret,
} from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { SNAPSHOT_FORMS } from '../render.ts';
import { dueFlag, ReportedCommand } from '../reported-command.ts';
import { namesRestoreSecret, restoreSecretFlags } from '../secrets.ts';
import { ownProfile } from '../state-options.ts';
import { verifiedText } from '../verify-text.ts';

export default class Verify extends ReportedCommand<typeof Verify, VerifyResult> {
  static override summary = 'Check that every backend holds what was written.';
  static override description =
    'listing: everything needed is there, indexes and snapshots are whole and signed. objects: besides, every pack is read and compared with its name. chunks: besides, every pack is opened and every chunk of every snapshot accounted for; this needs the restore secret. restore: besides the listing, a snapshot is restored from each backend into a scratch folder, compared, and removed; this needs the restore secret. With the secret, damage is also told as snapshots and paths.';
  static override examples = [
    'holdfast verify --level objects --max-age 30d --budget 10m',
    'holdfast verify --level restore --identity-file drill.key',
  ];
  static override args = {
    snapshot: Args.string({ description: `For --level restore: ${SNAPSHOT_FORMS} [default: latest]` }),
  };
  static override flags = {
    level: Flags.option({
      summary: 'How deep to look.',
      options: ['listing', 'objects', 'chunks', 'restore'] as const,
      default: 'listing' as const,
    })(),
    'max-age': Flags.string({
      summary: 'Pass over packs that were found whole so long ago or less (30d).',
      helpValue: 'DURATION',
    }),
    budget: Flags.string({
      summary:
        'Stop after this time (10m), or when so much was read (5GiB); what was looked at longest ago comes first.',
      helpValue: 'DURATION|SIZE',
    }),
    repair: Flags.boolean({ summary: 'Store again, from another backend, what is damaged or missing.' }),
    scratch: Flags.string({ summary: 'For --level restore: where to restore for a moment.', helpValue: 'DIR' }),
    ...restoreSecretFlags,
    ...dueFlag,
  };
  protected override readonly kind = 'verify';

  protected override readonly triesAgain = true;

  protected override async work(): Promise<VerifyResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const { flags } = this;
    const { level, scratch, repair } = flags;
    if (level !== 'restore' && (this.args.snapshot !== undefined || scratch !== undefined)) {
      throw new HoldfastError('usage', 'a snapshot and --scratch are for --level restore', {
        hint: 'Other levels look at all snapshots.',
      });
    }
    const withSecret = isWithSecret(flags);
    const expected = await expectedRepository(config);
    const access: VerifyOptions['access'] = withSecret
      ? { kind: 'restore', secret: await restoreSecret(flags, this.signal), expected }
      : { kind: 'writer', access: accessOf(await readWriterKey(config.agent)) };
    return verify(
      {
        ...{ backends: config.backends, access, level, repair, host: hostname() },
        maxAgeMs: flags['max-age'] === undefined ? undefined : parseDuration(flags['max-age']),
        budget: flags.budget === undefined ? undefined : budgetIn(flags.budget),
        folders: expected && localFolders(process.env, expected.repository),
        signer: await readSignerIfAny(config.agent),
        snapshot: this.args.snapshot,
        scratch: scratch === undefined ? undefined : resolve(scratch),
        profile: level === 'restore' ? await ownProfile(config) : undefined,
      },
      this.seams,
    );
  }

  protected override exitCode({ damaged, complete }: VerifyResult) {
    if (damaged.some(({ repaired }) => !repaired)) return EXIT.damage;
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: VerifyResult): string {
    return verifiedText(result, { withSecret: isWithSecret(this.flags), repairs: this.flags.repair });
  }
}

const isWithSecret = (flags: { level: string } & Parameters<typeof namesRestoreSecret>[0]): boolean =>
  flags.level === 'chunks' || flags.level === 'restore' || namesRestoreSecret(flags);

/** @throws `usage` */
function budgetIn(text: string): { ms: number } | { bytes: number } {
  return text.endsWith('B') ? { bytes: parseSize(text) } : { ms: parseDuration(text) };
}
