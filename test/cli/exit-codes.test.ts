import { expect, it } from 'vitest';
import { EXIT, EXIT_CODE_OF } from '../../src/cli/exit-codes.ts';

it('the exit codes are those of the contract', () => {
  expect(Object.values(EXIT)).toEqual([0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 75, 130]);
});

it('every kind of failure keeps its exit code', () => {
  expect(EXIT_CODE_OF).toEqual({
    usage: 2,
    config_invalid: 2,
    exists: 1,
    not_found: 1,
    no_repository: 10,
    foreign_repository: 10,
    unsupported_format: 1,
    wrong_key: 12,
    missing_key: 12,
    bad_words: 12,
    insecure_permissions: 12,
    damaged: 13,
    forged: 13,
    contested: 1,
    revoked: 12,
    backend_unavailable: 1,
    not_enough_backends: 1,
    source_unreadable: 1,
    hook_failed: 1,
    busy: 11,
    timed_out: 1,
    breaker_open: 75,
    interrupted: 130,
    io: 1,
    bug: 1,
  });
});
