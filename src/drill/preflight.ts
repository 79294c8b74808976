/** Before a drill: do the secrets that were given belong to the repository at all? Mistyped words say nothing about the agent. */
import { HoldfastError, isHoldfastError, isSurvivable } from '../errors.ts';
import { openForRestore } from '../operations/access.ts';
import { openMirror } from '../operations/backends.ts';
import type { Seams } from '../operations/seams.ts';
import type { DrillOptions } from './scene.ts';
import { World, type Sources } from './world.ts';

/**
 * Whatever else is wrong is for the scenarios to tell, and so is a secret that opens nothing beside one that does.
 * @throws `wrong_key` when the repository is there, and none of the secrets opens it
 */
export async function checkSecrets(options: DrillOptions, sources: Sources, seams: Seams): Promise<void> {
  const given = Object.entries(options.secrets);
  if (given.length === 0) return;
  await using world = await World.create({ folder: options.folder }, sources, seams);
  const { repository } = options.record;
  let refusal: HoldfastError | undefined;
  const { addresses, seams: inside } = world.view;
  for (const [, secret] of given) {
    // A backend that holds another repository must not speak for all.
    for (const some of [addresses, ...addresses.map((one) => [one])]) {
      try {
        await using mirror = await openMirror(some, inside);
        await openForRestore(mirror, secret, repository === undefined ? undefined : { repository }, inside);
        return;
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        if (isHoldfastError(error, 'wrong_key')) refusal ??= error;
        else if (some === addresses) return;
      }
    }
  }
  const kinds = given.map(([kind]) => (kind === 'identity' ? 'age key' : kind)).join(', ');
  throw new HoldfastError('wrong_key', `nothing was drilled: ${refusal?.message} (given: ${kinds})`, {
    hint: 'Give the secret that belongs to this repository. Was it copied from your paper? Then the paper is of no use: `holdfast paper verify`.',
    cause: refusal,
  });
}
