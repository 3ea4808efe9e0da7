// What this browser saw of a site before: the furthest head, so that a door that shows another past
// is caught. Kept per door, since a browser keeps storage per origin.

import { signal } from '@preact/signals';
import type { SiteView } from '../api/views.ts';
import { hashGroups } from './format.ts';
import { hex, unbase64url } from '../signed/bytes.ts';

export interface Seen {
  index: number;
  hash: string;
}

export interface Fork {
  index: number;
  before: string;
  now: string;
}

/** Whether what is shown contradicts what was seen; and what to remember. Pure. */
export function compare(before: Seen | null, shown: Seen): { keep: Seen; forked: boolean; behind: boolean } {
  if (before === null || shown.index > before.index) return { keep: shown, forked: false, behind: false };
  if (shown.index === before.index) return { keep: before, forked: shown.hash !== before.hash, behind: false };
  return { keep: before, forked: false, behind: true };
}

const eight = (hash: string): string => hashGroups(hex(unbase64url(hash, 32)));

export class Memory {
  /** Two heads for one entry. */
  readonly forked = signal<Fork | null>(null);
  /** The door shows less than was seen before: entries of which it knows nothing yet. */
  readonly behind = signal(0);

  look(site: SiteView): void {
    const key = `qb.head.${site.id}`;
    const shown = { index: site.head.index, hash: site.head.hash };
    const before = read(localStorage.getItem(key));
    const { keep, forked, behind } = compare(before, shown);
    this.forked.value = forked && before ? { index: shown.index, before: eight(before.hash), now: eight(shown.hash) } : null;
    this.behind.value = behind && before ? before.index - shown.index : 0;
    if (keep !== before) localStorage.setItem(key, JSON.stringify(keep));
  }
}

function read(text: string | null): Seen | null {
  try {
    const seen = JSON.parse(text ?? 'null') as Seen | null;
    return seen !== null && Number.isSafeInteger(seen.index) && unbase64url(seen.hash, 32).length === 32 ? seen : null;
  } catch {
    return null;
  }
}
