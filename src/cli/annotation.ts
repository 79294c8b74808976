/** What the commands that annotate a snapshot share. */
import * as Args from '@oclif/core/args';
import { hostname } from 'node:os';
import type { AnnotateOptions, AnnotateResult } from '../operations/annotate.ts';
import type { Config } from './config.ts';
import { localFolders, readHostKeys } from './context.ts';
import { facts, warningLines } from './render.ts';

export const snapshotArg = Args.string({
  description: '`latest`, or the id of a snapshot or its beginning.',
  required: true,
});

/** Who annotates, and where. */
export async function annotator({
  agent,
  backends,
}: Required<Pick<Config, 'agent' | 'backends'>>): Promise<
  Pick<AnnotateOptions, 'backends' | 'access' | 'signer' | 'folders' | 'host'>
> {
  const { writerKey, signer, access } = await readHostKeys(agent);
  return { backends, access, signer, folders: localFolders(process.env, writerKey.repositoryId), host: hostname() };
}

export function annotationText({ snapshot, tags, note, acknowledged, warnings }: AnnotateResult): string {
  return (
    warningLines(warnings) +
    facts({
      snapshot: snapshot.slice(0, 8),
      tags: tags.length > 0 ? tags.join(', ') : undefined,
      note: note ?? undefined,
      acknowledged: acknowledged.length > 0 ? acknowledged.map((id) => id.slice(0, 8)).join(', ') : undefined,
    })
  );
}
