// The login: an admin opens a session at a door by signing its challenge.

import { utf8, type Bytes } from './bytes.ts';
import { int, obj } from './schema.ts';
import { key, text } from './names.ts';
import { strict } from './strict.ts';

/** Longest life of a login. */
export const LOGIN_MS = 2 * 60_000;

export interface Login {
  origin: string;
  server_key: string;
  nonce: string;
  issued_ms: number;
  expires_ms: number;
  session_key: string;
}

const FORM = obj({
  origin: text(8, 256),
  server_key: key,
  nonce: key,
  issued_ms: int(0),
  expires_ms: int(0),
  session_key: key,
});

function check(login: Login): void {
  FORM.check(login as unknown as { [m: string]: string }, 'login');
  const life = login.expires_ms - login.issued_ms;
  if (life <= 0 || life > LOGIN_MS) throw new Error('login.expires_ms is not within 2 min after issued_ms');
}

export function loginPayload(login: Login): Bytes {
  check(login);
  return utf8(FORM.write(login as unknown as { [m: string]: string }));
}

export function parseLogin(payload: Uint8Array): Login {
  const login = strict(payload, 64 * 1024, false) as unknown as Login;
  check(login);
  return login;
}
