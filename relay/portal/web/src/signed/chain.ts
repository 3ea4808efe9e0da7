// The audit chain, checked record by record: number, head, digest, and the author's signature under
// the keys of that time. It proves who signed what, in which order, without a gap; completeness only
// up to a head that is remembered elsewhere. Thresholds and preconditions are not judged again: that
// is what `qb audit verify` does.

import { base64url, equal, sha256, text, u64, unbase64, unbase64url, utf8, type Bytes } from './bytes.ts';
import { COMMAND, digestOf, INTENT, TICK } from './dsse.ts';
import { digest as digestOfEnvelope, parseEnvelope, type Envelope } from './envelope.ts';
import { actionName, parseIntent, type Actions, type Intent, type NewKey } from './intent.ts';
import { readEntry } from './entry.ts';
import { Fields } from './fields.ts';
import { siteBytes, siteText } from './names.ts';
import { verifyCharter } from './charter.ts';
import { kindOf, verify } from './verify.ts';

export { Fields } from './fields.ts';

const DOMAIN = utf8('qb/chain/1\0');

export const nextHead = (head: Uint8Array, index: number, logTime: number, digest: Uint8Array, outcome: number, generation: number): Promise<Bytes> =>
  sha256(DOMAIN, head, u64(index), u64(logTime), digest, new Uint8Array([outcome]), u64(generation));

export type Kind = 'intent' | 'approval' | 'command' | 'tick' | 'entry';
const KINDS: readonly Kind[] = ['intent', 'approval', 'command', 'tick', 'entry'];

export interface ChainRecord {
  index: number;
  logTime: number;
  digest: Bytes;
  /** 0 none, 1 accepted, 2 pending, 3 rejected. */
  outcome: number;
  generation: number;
  kind: Kind;
  body: Bytes;
  head: Bytes;
}

const bodyDigest = async (kind: Kind, body: Bytes): Promise<Bytes> => {
  if (kind === 'tick') return digestOf(TICK, body);
  if (kind === 'command') return digestOf(COMMAND, statement(body).body);
  return digestOfEnvelope(parseEnvelope(body));
};

/**
 * Reads a record. What a refusal says in words is not chained and stands between the outcome and the
 * body without a length: the body is found as the one whose digest is the record's.
 */
export async function readRecord(bytes: Bytes): Promise<ChainRecord> {
  const r = new Fields(bytes);
  const index = r.varint();
  const logTime = r.varint();
  const digest = r.take(32);
  let outcome = 0;
  let generation = 0;
  if (r.byte() === 1) {
    const tag = r.byte();
    if (tag > 2) throw new Error('a record cannot have this outcome');
    outcome = tag + 1;
    if (tag === 0) generation = r.varint();
    else if (tag === 1) r.take(2);
  }
  const head = bytes.slice(bytes.length - 32);
  const last = outcome === 3 ? bytes.length - 34 : r.at;
  for (let from = r.at; from <= last; from++) {
    const tail = new Fields(bytes);
    tail.at = from;
    const kind = KINDS[tail.byte()];
    if (!kind) continue;
    try {
      const body = tail.take(tail.varint());
      if (tail.at !== bytes.length - 32 || !equal(await bodyDigest(kind, body), digest)) continue;
      return { index, logTime, digest, outcome, generation, kind, body, head };
    } catch {
      continue;
    }
  }
  throw new Error('its digest is not that of its body');
}

interface Statement {
  body: Bytes;
  key: Bytes;
  sig: Bytes;
}

/** A body with the key and signature that travel behind it. */
export function statement(bytes: Bytes): Statement {
  const r = new Fields(bytes);
  const out = { body: r.take(r.varint()), key: r.take(32), sig: r.take(64) };
  if (r.at !== bytes.length) throw new Error('statement has bytes after its end');
  return out;
}

/** What a checked record says. */
export interface Entry {
  record: ChainRecord;
  previous: Bytes;
  /** The intent, for those of admins. */
  intent: Intent | null;
  envelope: Envelope | null;
  /** Keys that signed validly, with their admins. */
  signers: { admin: string; key: string }[];
  /** The node, for those of nodes. */
  node: string | null;
}

type Keys = Map<string, NewKey>;

/** Walks a chain from its beginning. Goes on where it stopped when more records come. */
export class Chain {
  index = 0;
  head: Bytes;
  logTime = 0;
  readonly entries: Entry[] = [];
  readonly names = new Map<string, string>();
  private readonly admins = new Map<string, Keys>();
  private readonly members = new Set<string>();
  private readonly gone = new Set<string>();
  /** Join tokens that were minted and not ended early, and what is left of each. */
  private readonly tokens = new Map<string, { index: number; digest: Bytes; left: number; ends: number }>();

  private constructor(readonly site: string, head: Bytes) {
    this.head = head;
  }

  static async begin(site: string, charter: string): Promise<Chain> {
    const read = await verifyCharter(utf8(charter));
    const head = siteBytes(site);
    if (head === null || read.site !== site) throw new Error(`the charter is that of site ${read.site}`);
    const chain = new Chain(site, head);
    for (const founder of read.charter.founders) {
      chain.admins.set(founder.admin, new Map(founder.keys.map((k) => [k.key, k])));
      chain.names.set(founder.admin, founder.name);
    }
    return chain;
  }

  /** Checks the next record, or says why it does not follow. */
  async step(bytes: Bytes): Promise<Entry> {
    const record = await readRecord(bytes);
    if (record.index !== this.index + 1) throw new Error(`it has number ${record.index}: a record is missing or out of order`);
    if (record.logTime < this.logTime) throw new Error('its time is before that of the record before');
    const head = await nextHead(this.head, record.index, record.logTime, record.digest, record.outcome, record.generation);
    if (!equal(head, record.head)) throw new Error('its head does not follow from the record');
    const entry: Entry = { record, previous: this.head, intent: null, envelope: null, signers: [], node: null };
    if (record.kind === 'intent' || record.kind === 'approval') await this.intent(entry);
    else if (record.outcome !== 0) throw new Error('a record of its kind cannot have an outcome');
    else if (record.kind === 'command') await this.command(entry);
    else if (record.kind === 'entry') await this.byToken(entry);
    this.index = record.index;
    this.head = head;
    this.logTime = record.logTime;
    this.entries.push(entry);
    return entry;
  }

  private async intent(entry: Entry): Promise<void> {
    const envelope = parseEnvelope(entry.record.body);
    if (envelope.type !== INTENT) throw new Error('it holds no intent');
    const intent = parseIntent(envelope.payload);
    for (const [admin, keys] of this.admins)
      for (const held of keys.values()) {
        if (held.expires_ms !== null && held.expires_ms <= entry.record.logTime) continue;
        const tries = envelope.signatures
          .filter((s) => s.keyid.endsWith(held.key))
          .map((s) => verify(kindOf(held.class), held.key, INTENT, envelope.payload, s.sig));
        if ((await Promise.all(tries)).includes(true)) entry.signers.push({ admin, key: held.key });
      }
    if (!entry.signers.some((s) => s.admin === intent.by)) throw new Error(`no valid signature is by a key of its author ${intent.by}`);
    entry.intent = intent;
    entry.envelope = envelope;
    if (entry.record.outcome === 1 && intent.site !== this.site) throw new Error('it was accepted and is for another site');
    if (entry.record.outcome === 1) this.apply(intent, entry.record);
  }

  private apply(intent: Intent, { index, digest }: ChainRecord): void {
    const action = intent.action as unknown as { [name: string]: unknown };
    const all = <T>(name: string): T => action[name] as T;
    switch (actionName(intent.action)) {
      case 'site.found':
      case 'node.authorize':
        for (const n of all<{ nodes: { node: string }[] }>(actionName(intent.action)).nodes) this.members.add(n.node);
        break;
      case 'node.revoke':
        this.members.delete(all<{ node: string }>('node.revoke').node);
        this.gone.add(all<{ node: string }>('node.revoke').node);
        break;
      case 'token.mint': {
        const { token, uses, expires_ms: ends } = all<Actions['token.mint']>('token.mint');
        this.tokens.set(token, { index, digest, left: uses, ends });
        break;
      }
      case 'token.revoke':
        this.tokens.delete(all<{ token: string }>('token.revoke').token);
        break;
      case 'admin.add': {
        const { admin, name, keys } = all<{ admin: string; name: string; keys: NewKey[] }>('admin.add');
        this.admins.set(admin, new Map(keys.map((k) => [k.key, k])));
        this.names.set(admin, name);
        break;
      }
      case 'admin.remove':
        this.admins.delete(all<{ admin: string }>('admin.remove').admin);
        break;
      case 'key.add': {
        const { admin, key } = all<{ admin: string; key: NewKey }>('key.add');
        this.admins.get(admin)?.set(key.key, key);
        break;
      }
      case 'key.revoke': {
        const { admin, key } = all<{ admin: string; key: string }>('key.revoke');
        this.admins.get(admin)?.delete(key);
        break;
      }
    }
  }

  private async command(entry: Entry): Promise<void> {
    const signed = statement(entry.record.body);
    const body = new Fields(signed.body);
    if (body.byte() !== 1) throw new Error('its statement is of another version');
    const site = body.take(32);
    body.varint();
    const node = base64url(body.take(32));
    const key = base64url(signed.key);
    if (siteText(site) !== this.site || node !== key || !this.members.has(node)) throw new Error(`node ${node} was not authorized at that time`);
    if (!(await verify('ed25519', key, COMMAND, signed.body, signed.sig))) throw new Error('its signature is not valid');
    entry.node = node;
  }

  /** A node that came in by a join token: a voter's word, the token's signature, and the mint that both rest on. */
  private async byToken(entry: Entry): Promise<void> {
    const read = await readEntry(entry.record.body);
    const token = this.tokens.get(read.token);
    if (read.site !== this.site || !this.members.has(read.voter)) throw new Error(`voter ${read.voter} was not authorized at that time`);
    if (!token || token.index !== read.mintIndex || !equal(token.digest, read.mint) || token.left < 1 || entry.record.logTime > token.ends) throw new Error('no join token that had uses left then lets it in');
    if (this.members.has(read.node) || this.gone.has(read.node)) throw new Error(`node ${read.node} was in already, or was revoked`);
    token.left -= 1;
    this.members.add(read.node);
    entry.node = read.node;
  }
}

export const readBase64Record = (record: string): Promise<ChainRecord> => readRecord(unbase64(record));
export const payloadText = (entry: Entry): string => (entry.envelope ? text(entry.envelope.payload) : '');
export const digestBytes = (digest: string): Bytes => unbase64url(digest, 32);
