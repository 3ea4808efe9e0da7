// Who reads, and with which rights. A network door asks for a login, the local one for none.

import { computed, signal } from '@preact/signals';
import { ApiError, asProblem, ask, get, loginWanted, setToken, token } from '../api/client.ts';
import type { AdminView, LoginChallenge, LoginView, Problem } from '../api/views.ts';
import { base64url, type Bytes } from '../signed/bytes.ts';
import { LOGIN } from '../signed/dsse.ts';
import { LOGIN_MS, loginPayload } from '../signed/login.ts';
import { PORTAL_SET, type ActionName } from '../signed/intent.ts';
import { browserKey, signPayload } from './keys.ts';
import { data } from './data.ts';
import { findTerminal, terminal } from './terminal.ts';

/** `local`: no login here. `in`: a session. `out`: one is needed. */
export const door = signal<'unknown' | 'local' | 'in' | 'out'>('unknown');
/** The key that this door signs for: a node's own at a site's door, the relay's at a relay. */
const serverKey = signal<string | null>(null);
export const loginProblem = signal<Problem | null>(null);

async function challenge(): Promise<LoginChallenge | null> {
  try {
    const asked = await get<LoginChallenge>('/v1/login');
    serverKey.value = asked.server_key;
    return asked;
  } catch (e) {
    if (e instanceof ApiError && e.problem.type === 'no_login') return null;
    throw e;
  }
}

/** Looks what kind of door this is. */
export async function enter(): Promise<void> {
  loginProblem.value = null;
  try {
    if (await findTerminal()) {
      door.value = 'local';
      return;
    }
    const asked = await challenge();
    if (asked === null) door.value = 'local';
    else if (token.value !== null) door.value = 'in';
    else if (browserKey.value) await login(asked);
    else door.value = 'out';
  } catch (e) {
    loginProblem.value = asProblem(e);
    door.value = 'out';
  }
}

async function login(asked: LoginChallenge): Promise<void> {
  const session = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  const sessionKey = new Uint8Array(await crypto.subtle.exportKey('raw', session.publicKey));
  const issued = Date.now();
  const payload = loginPayload({
    origin: location.origin,
    server_key: asked.server_key,
    nonce: asked.nonce,
    issued_ms: issued,
    expires_ms: issued + LOGIN_MS,
    session_key: base64url(sessionKey),
  });
  const envelope: Bytes = await signPayload(LOGIN, payload);
  const view = await ask<LoginView>('POST', '/v1/login', envelope);
  setToken(view.token);
  loginWanted.value = null;
  door.value = 'in';
}

export async function logout(): Promise<void> {
  await ask('DELETE', '/v1/login').catch(() => undefined);
  setToken(null);
  door.value = 'out';
}

/** The admin whose key signs here, by the site's own list. */
export const author = computed<{ admin: AdminView; expires: number | null } | null>(() => {
  const held = terminal.value ? { public: terminal.value.signer.key } : browserKey.value;
  const admins = data.value?.admins.value.value;
  if (!held || !admins) return null;
  for (const admin of admins) {
    const found = admin.keys.find((k) => k.key === held.public);
    if (found) return { admin, expires: found.expires };
  }
  return null;
});

/** Who shows this page. A relay says so itself by its key, which is no node's of the site. */
export const through = computed<'site' | 'relay' | 'portal'>(() => {
  if (terminal.value) return 'portal';
  const node = data.value?.site.value.value?.door.node;
  return serverKey.value !== null && node !== undefined && serverKey.value !== node ? 'relay' : 'site';
});

/** Why this browser cannot sign an action; null if it can. */
export function cannotSign(action: ActionName): string | null {
  if (data.value?.memory.forked.value || data.value?.proof.forbids.value) return 'This door shows another past than this browser saw. Sign at a node of the site.';
  if (!terminal.value && !PORTAL_SET.includes(action)) return 'A key in a browser does not sign this. Sign it in a terminal.';
  if (!terminal.value && !browserKey.value) return 'This browser has no key yet.';
  const who = author.value;
  if (!who) return terminal.value ? 'The site does not know the key of this terminal.' : 'The site does not know the key of this browser yet.';
  if (who.admin.role === 'viewer') return `${who.admin.name} is viewer. This needs an operator.`;
  return null;
}
