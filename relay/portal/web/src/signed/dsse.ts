// The one signature rule: ed25519 over the DSSE pre-authentication encoding of a type and a body.

import { concat, sha256, utf8, type Bytes } from './bytes.ts';

const of = <T extends string>(name: T): `application/vnd.qb.${T}` => `application/vnd.qb.${name}`;

export const INTENT = of('intent.v1+json');
export const CHARTER = of('charter.v1+json');
export const LOGIN = of('login.v1+json');
export const COMMAND = of('command.v1');
export const TICK = of('tick.v1');
export const RECEIPT = of('receipt.v1');
export const TOKEN_USE = of('token-use.v1');
export const TOKEN_ENTRY = of('token-entry.v1');
export const VOTERS = of('voters.v1');
export const CHECKPOINT = of('checkpoint.v1');

/** Every type that an envelope or a statement may have. */
export const TYPES: ReadonlySet<string> = new Set<string>([
  ...'charter+ intent+ login+ grant+ trust-recover+ token-use token-entry knock admit link-agent link-relay tunnel-agent command report clock voters checkpoint receipt seal-key tls-key gossip'
    .split(' ')
    .map((name) => of(name.endsWith('+') ? `${name.slice(0, -1)}.v1+json` : `${name}.v1`)),
  of('bundle.v2+json'),
]);

/** `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`. */
export function pae(type: string, body: Uint8Array): Bytes {
  const kind = utf8(type);
  return concat(utf8(`DSSEv1 ${kind.length} `), kind, utf8(` ${body.length} `), body);
}

/** SHA-256 of the PAE: the digest by which a signed thing is known. */
export const digestOf = (type: string, body: Uint8Array): Promise<Bytes> => sha256(pae(type, body));
