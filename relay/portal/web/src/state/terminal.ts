// `qb portal`: this page is served by a terminal on this computer, which reads for it and signs with
// its own key after it asked there. No key lives in this origin, since anybody may own the port later.

import { signal } from '@preact/signals';
import { ApiError, ask, askBytes, setToken } from '../api/client.ts';
import type { KeyClass, Role } from '../signed/intent.ts';
import { base64, type Bytes } from '../signed/bytes.ts';

export interface Signer {
  admin: string;
  name: string;
  role: Role;
  key: string;
  fingerprint: string;
  class: KeyClass;
}

interface PortalView {
  v: number;
  mode: string;
  site: { id: string; name: string };
  signer: Signer;
}

/** How long a person has to answer at the terminal: what the door waits at most. */
const ANSWER_MS = 110_000;

/** Whose key the terminal signs with; null at any other door. */
export const terminal = signal<PortalView | null>(null);

/** Takes the token out of the address, before anything can read it there. */
export function takeToken(): void {
  const found = /^#token=([A-Za-z0-9_-]{43})$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, '', location.pathname + location.search);
  setToken(found[1] as string);
}

/** Whether this could be `qb portal`: it listens on this computer only, without TLS. */
const onLoopback = (): boolean => location.protocol === 'http:' && /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(location.hostname);

/** Asks whether a terminal serves this page. */
export async function findTerminal(): Promise<boolean> {
  if (!onLoopback()) return false;
  try {
    const view = await ask<PortalView>('GET', '/v1/portal');
    terminal.value = view.mode === 'cli' ? view : null;
  } catch (e) {
    if (!(e instanceof ApiError && e.problem.status === 404)) throw e;
  }
  return terminal.value !== null;
}

/** Asks at the terminal; answers with the envelope's bytes as they came. */
export const signAtTerminal = (site: string, payload: Bytes): Promise<Bytes> =>
  askBytes('POST', '/v1/sign', JSON.stringify({ v: 1, site, payload: base64(payload) }), ANSWER_MS);
