// A node's signed word on what became of an intent: what makes an outcome that a relay shows the site's.

import { base64url, equal, unbase64, unbase64url } from './bytes.ts';
import { RECEIPT } from './dsse.ts';
import { siteText } from './names.ts';
import { Fields, statement } from './chain.ts';
import { verify } from './verify.ts';

const BYTES = 4096 + 5 + 32 + 64;

export interface Receipt {
  /** The node that signed. */
  node: string;
  outcome: 'accepted' | 'pending' | 'rejected' | 'duplicate';
  /** Its record in the audit chain; null where the outcome's words stand before it. */
  index: number | null;
}

const OUTCOMES = ['accepted', 'pending', 'rejected', 'duplicate'] as const;

/** Reads a receipt for this intent of this site, and verifies that the node it names signed it. */
export async function readReceipt(text: string, site: string, intent: string): Promise<Receipt> {
  if (text.length > (BYTES * 4) / 3 + 4) throw new Error('it is too large');
  const { body, key, sig } = statement(unbase64(text));
  if (!(await verify('ed25519', base64url(key), RECEIPT, body, sig))) throw new Error('its signature is not valid');
  const r = new Fields(body);
  if (r.byte() !== 1) throw new Error('it is of another version');
  if (siteText(r.take(32)) !== site) throw new Error('it is of another site');
  if (!equal(r.take(32), key)) throw new Error('it is signed by another key than that of the node it names');
  if (!equal(r.take(32), unbase64url(intent, 32))) throw new Error('it is for another intent');
  const outcome = OUTCOMES[r.byte()];
  if (!outcome) throw new Error('it has no known outcome');
  let index: number | null = null;
  if (outcome === 'accepted') {
    r.varint();
    index = r.varint();
    r.take(32);
    if (r.at !== body.length) throw new Error('it has bytes after its end');
  }
  return { node: base64url(key), outcome, index };
}
