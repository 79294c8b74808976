import type { Kind } from './kind.ts';
export const disk: Kind = {
  title: '',
  rounds: 0,
  start: async () => ({ round: async () => {}, finish: async () => {} }),
};
