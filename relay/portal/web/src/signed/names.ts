// Identifiers and their text forms.

import { groups, sha256, unbase64url, utf8, type Bytes } from './bytes.ts';
import { str, type Form } from './schema.ts';
import { WORDS } from './wordlist.ts';

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';
const CROCKFORD = '0123456789abcdefghjkmnpqrstvwxyz';

const is32 = (v: string): boolean => {
  try {
    return unbase64url(v, 32).length === 32;
  } catch {
    return false;
  }
};

export const isName = (v: string): boolean => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(v);
const isHost = (v: string): boolean => v.length <= 63 && v.split('.').every(isName);
const isVersion = (v: string): boolean => v.length <= 32 && /^\d{1,6}(\.\d{1,6}){2}(-[A-Za-z0-9.-]+)?$/.test(v);
const bytesOf = (v: string): number => utf8(v).length;

export const name: Form = str(isName, '1 to 63 of a-z, 0-9 and -, not - at either end');
export const host: Form = str(isHost, 'a host name');
export const version: Form = str(isVersion, 'a version such as 1.36.2');
export const key: Form = str(is32, '32 bytes as base64url');
export const siteId: Form = str((v) => siteBytes(v) !== null, 'qb1 and 52 characters of a-z and 2-7');
export const ulid: Form = str((v) => /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(v), 'a ULID');
export const text = (min: number, max: number): Form =>
  str((v) => bytesOf(v) >= min && bytesOf(v) <= max, `${min} to ${max} bytes of text`);
export const object: Form = str(
  (v) => v === 'trust' || /^(admin|cluster)\//.test(v) ? v === 'trust' || isName(v.slice(v.indexOf('/') + 1)) : v.startsWith('node/') && is32(v.slice(5)),
  'admin/NAME, cluster/NAME, node/NODEID or trust',
);

export const siteText = (digest: Uint8Array): string =>
  `qb1${groups(digest, 5, 52).map((i) => BASE32[i]).join('')}`;

export function siteBytes(id: string): Bytes | null {
  if (!/^qb1[a-z2-7]{52}$/.test(id)) return null;
  const out = new Uint8Array(32);
  Array.from(id.slice(3), (c) => BASE32.indexOf(c)).forEach((value, at) => {
    for (let bit = 0; bit < 5; bit++) {
      const to = at * 5 + bit;
      if (to < 256 && (value >> (4 - bit)) & 1) out[to >> 3] = (out[to >> 3] as number) | (1 << (7 - (to & 7)));
    }
  });
  return siteText(out) === id ? out : null;
}

/** Six words of SHA-256: what people compare. */
export async function words(bytes: Uint8Array): Promise<string[]> {
  return groups(await sha256(bytes), 11, 6).map((i) => WORDS[i] as string);
}

/** `dk4v-81qs-mz6n-3xtp`: 80 bits of SHA-256. */
export async function fingerprint(bytes: Uint8Array): Promise<string> {
  const all = groups(await sha256(bytes), 5, 16).map((i) => CROCKFORD[i]).join('');
  return all.replace(/(.{4})(?=.)/g, '$1-');
}

/** A new label for an intent: time, then chance. */
export function newUlid(now: number): string {
  const out: string[] = [];
  for (let i = 9, t = now; i >= 0; i--, t = Math.floor(t / 32)) out[i] = CROCKFORD[t % 32] as string;
  for (const b of crypto.getRandomValues(new Uint8Array(16))) out.push(CROCKFORD[b & 31] as string);
  return out.join('').toUpperCase();
}

/** A label, by the rules of Kubernetes. Returns the rule that it breaks. */
export function labelFault(labelKey: string, value: string): string | null {
  const part = (t: string): boolean => t.length <= 63 && /^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$/.test(t);
  const at = labelKey.indexOf('/');
  const [prefix, rest] = at < 0 ? [null, labelKey] : [labelKey.slice(0, at), labelKey.slice(at + 1)];
  if (rest === '' || !part(rest) || (prefix !== null && (prefix.length > 253 || !prefix.split('.').every(isName))))
    return 'has a key that is none: letters, digits, -, _ and ., optionally a DNS name and / before it';
  return part(value) ? null : 'has a value that is none: at most 63 letters, digits, -, _ and .';
}
