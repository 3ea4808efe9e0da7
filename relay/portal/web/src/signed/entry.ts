// A voter's word on a node that came in by a join token: what it says, and that voter and token signed it.

import { base64url, equal, type Bytes } from './bytes.ts';
import { digestOf, INTENT, TOKEN_ENTRY, TOKEN_USE } from './dsse.ts';
import { parseEnvelope } from './envelope.ts';
import { Fields } from './fields.ts';
import { siteText } from './names.ts';
import { verify } from './verify.ts';

const MINT_BYTES = 32 * 1024;

export interface TokenEntry {
  site: string;
  voter: string;
  node: string;
  token: string;
  /** The record that minted the token, and the digest of its intent. */
  mintIndex: number;
  mint: Bytes;
}

/** Reads an entry and verifies both signatures. Whether an admin minted the token is the chain's to say. */
export async function readEntry(bytes: Uint8Array): Promise<TokenEntry> {
  const envelope = parseEnvelope(bytes);
  const [line] = envelope.signatures;
  if (envelope.type !== TOKEN_ENTRY || !line || envelope.signatures.length !== 1) throw new Error('it holds no entry by a join token');
  const r = new Fields(envelope.payload);
  if (r.byte() !== 1) throw new Error('its statement is of another version');
  const site = r.take(32);
  const voter = r.take(32);
  const used = { body: r.take(r.varint()), key: r.take(32), sig: r.take(64) };
  r.take(r.varint()); // host name
  r.take(r.varint()); // address
  r.take(32); // knock
  const mintIndex = r.varint();
  r.varint(); // minted at
  const mint = r.take(r.varint());
  if (r.at !== envelope.payload.length || mint.length > MINT_BYTES) throw new Error('its statement has bytes after its end');
  const by = base64url(voter);
  if (line.keyid !== `ed25519:${by}` || !(await verify('ed25519', by, TOKEN_ENTRY, envelope.payload, line.sig))) throw new Error('it is not signed by the voter that it names');
  const u = new Fields(used.body);
  if (u.byte() !== 1 || !equal(u.take(32), site)) throw new Error('the token was used for another site');
  const node = u.take(32);
  if (!equal(u.take(32), voter)) throw new Error('the token was used at another voter');
  u.take(32); // nonce
  const token = base64url(used.key);
  if (u.at !== used.body.length || !(await verify('ed25519', token, TOKEN_USE, used.body, used.sig))) throw new Error("the token's signature is not valid");
  const minted = parseEnvelope(mint);
  if (minted.type !== INTENT) throw new Error('it cites no intent');
  return { site: siteText(site), voter: by, node: base64url(node), token, mintIndex, mint: await digestOf(INTENT, minted.payload) };
}
