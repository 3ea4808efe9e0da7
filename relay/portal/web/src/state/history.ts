// The last hour of a node, as the door that answers kept it.

import { signal, type Signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ApiError, asProblem, get } from '../api/client.ts';
import type { HistoryView, Problem } from '../api/views.ts';
import { data } from './data.ts';

/** `none`: this door keeps no history. */
export type History = { state: 'asking' } | { state: 'none' } | { state: 'failed'; problem: Problem } | { state: 'there'; view: HistoryView };

const known = new Map<string, Signal<History>>();

/** The history of a node by its key, or of the whole site for null; asked for as often as it has a new sample. */
export function useHistory(node: string | null): History {
  const base = data.value?.base ?? '';
  const path = node === null ? `${base}/history` : `${base}/nodes/${encodeURIComponent(node)}/history`;
  let kept = known.get(path);
  if (!kept) known.set(path, (kept = signal<History>({ state: 'asking' })));
  const held = kept;
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    const look = async (): Promise<void> => {
      let every = 15_000;
      try {
        const view = await get<HistoryView>(path);
        held.value = { state: 'there', view };
        every = Math.max(5_000, view.step_ms);
      } catch (e) {
        held.value = e instanceof ApiError && e.problem.status === 404 ? { state: 'none' } : { state: 'failed', problem: asProblem(e) };
      }
      // A door without the route will not grow one while the page is open.
      if (!over && held.value.state !== 'none') timer = setTimeout(() => void look(), every);
    };
    if (held.peek().state !== 'none') void look();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [path]);
  return held.value;
}
