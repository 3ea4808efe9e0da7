// The charter: the founding document. Its digest is the site's id.

import { int, nullable, obj, set, byKey, byText, count, str } from './schema.ts';
import { key, name, siteText, text } from './names.ts';
import { newKey, url, type NewKey } from './intent.ts';
import { strict } from './strict.ts';
import { CHARTER } from './dsse.ts';
import { digest, parseEnvelope } from './envelope.ts';
import { kindOf, verify } from './verify.ts';

export interface Founder {
  admin: string;
  name: string;
  keys: NewKey[];
}

export interface Charter {
  v: 1;
  name: string;
  nonce: string;
  founders: Founder[];
  recovery: { threshold: number; keys: string[] } | null;
  relays: { url: string; key: string }[];
  issued_ms: number;
}

const FORM = obj({
  v: count(1),
  name,
  nonce: str((v) => /^[A-Za-z0-9_-]{21}[AQgw]$/.test(v), '16 bytes as base64url'),
  founders: set(obj({ admin: name, name: text(1, 128), keys: set(newKey, 1, 4, byKey('key')) }), 1, 8, byText('admin')),
  recovery: nullable(obj({ threshold: int(1, 8), keys: set(key, 1, 8, byKey()) })),
  relays: set(obj({ url, key }), 0, 4, byText('url')),
  issued_ms: int(0),
});

/** Reads a charter and verifies that every founder signed it with every key. */
export async function verifyCharter(bytes: Uint8Array): Promise<{ site: string; charter: Charter }> {
  const envelope = parseEnvelope(bytes);
  if (envelope.type !== CHARTER) throw new Error('the envelope holds no charter');
  const body = strict(envelope.payload, 8 * 1024, true);
  FORM.check(body, 'charter');
  const charter = body as unknown as Charter;
  for (const held of charter.founders.flatMap((f) => f.keys)) {
    const tries = envelope.signatures.map((s) => verify(kindOf(held.class), held.key, CHARTER, envelope.payload, s.sig));
    if (!(await Promise.all(tries)).includes(true)) throw new Error(`founder key ${held.key} did not sign the charter`);
  }
  return { site: siteText(await digest(envelope)), charter };
}
