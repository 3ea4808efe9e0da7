// The way back of what was just signed: offered for ten seconds, and only as another plan.

import { signal } from '@preact/signals';
import type { Action } from '../signed/intent.ts';
import type { Dialog } from './app.ts';

export const UNDO_MS = 10_000;

export interface Undo {
  said: string;
  word: string;
  dialog: Dialog;
}

export const undo = signal<Undo | null>(null);

/** What undoes an action that is in force; null for what has no way back. */
export function undoOf(action: Action): Undo | null {
  if ('cluster.attach' in action) {
    const { cluster, placement } = action['cluster.attach'];
    if (!('explicit' in placement)) return null;
    return { said: 'Attached.', word: 'Detach again', dialog: { kind: 'detach', cluster, nodes: placement.explicit.nodes.map((n) => n.node) } };
  }
  if ('cluster.detach' in action) {
    const { cluster, nodes } = action['cluster.detach'];
    return { said: 'Detached.', word: 'Attach again', dialog: { kind: 'attach', cluster, nodes } };
  }
  return null;
}
