// What voters signed of a site's state, verified from the pinned site alone: charter, trust log,
// founding intent, sets of voters, a majority over the checkpoint. The rules are those of
// consensus/model/src/attest, their vectors are its golden file.

import { base64url, compare, concat, unbase64, unbase64url, type Bytes } from './bytes.ts';
import { CHECKPOINT, digestOf, VOTERS } from './dsse.ts';
import { actionName } from './intent.ts';

import { key, siteBytes, siteText } from './names.ts';
import { count, int, nullable, obj, type Form } from './schema.ts';
import { Trust, type Cited } from './trust.ts';
import { verify } from './verify.ts';

/** An attestation older than this is stale; a time further ahead is not believed. */
export const STALE_MS = 90_000;
const ENVELOPE = 96 * 1024;
const LINKS = 512;
const SIGNATURES = 14;
const MOST_VOTERS = 7;
const TRUST_LINES = 2 * 4096;

interface Signed {
  body: string;
  signatures: { key: string; sig: string }[];
}

interface Document {
  v: 1;
  charter: string;
  trust: Cited[];
  founding: string | null;
  roster: Cited[];
  voters: Signed[];
  checkpoint: Signed | null;
  why: string | null;
}

/** A text of any characters: envelopes come as their signers wrote them, with line breaks. */
const long = (max: number): Form => ({
  check: (v, where) => {
    if (typeof v !== 'string' || v.length > max) throw new Error(`${where} must be at most ${max} characters`);
  },
  write: () => '',
});
const list = (of: Form, max: number): Form => ({
  check: (v, where) => {
    if (!Array.isArray(v) || v.length > max) throw new Error(`${where} must be at most ${max}`);
    v.forEach((e, i) => of.check(e, `${where}[${i}]`));
  },
  write: () => '',
});
const cited = obj({ index: int(0), log_time: int(0), envelope: long(ENVELOPE) });
const signed = obj({ body: long(688), signatures: list(obj({ key, sig: long(88) }), SIGNATURES) });
const FORM = obj({
  v: count(1),
  charter: long(ENVELOPE),
  trust: list(cited, TRUST_LINES),
  founding: nullable(long(ENVELOPE)),
  roster: list(cited, MOST_VOTERS),
  voters: list(signed, LINKS),
  checkpoint: nullable(signed),
  why: nullable(long(4096)),
});

/** Reads the fields of a signed body. Nothing may follow the last one, and numbers have one form. */
class Body {
  private at = 0;
  constructor(private readonly bytes: Bytes) {
    if (this.bytes[this.at++] !== 1) throw new Error('a signed body is of another version');
  }
  varint(): number {
    let out = 0;
    for (let shift = 0; shift < 63; shift += 7) {
      const b = this.bytes[this.at++];
      if (b === undefined) break;
      out += (b & 0x7f) * 2 ** shift;
      if (b >= 0x80) continue;
      if ((b === 0 && shift > 0) || !Number.isSafeInteger(out)) break;
      return out;
    }
    throw new Error('a signed body holds no number where one must be');
  }
  take(): Bytes {
    if (this.at + 32 > this.bytes.length) throw new Error('a signed body is cut');
    return this.bytes.slice(this.at, (this.at += 32));
  }
  end(): void {
    if (this.at !== this.bytes.length) throw new Error('a signed body has bytes after its end');
  }
}

/** What a reader keeps of an attested state. */
export interface Seen {
  epoch: number;
  index: number;
  chain_head: string;
  trust_head: string;
  state_hash: string;
  log_time: number;
}

/** A state that a majority of voters signed. Only `Verifier` makes one. */
export interface Attested extends Seen {
  site: string;
  term: number;
  seq: number;
  voters: string[];
  signed: string[];
  /** The heads of the trust log up to the attested one. */
  trust: ReadonlySet<string>;
}

interface VoterSet {
  epoch: number;
  seq: number;
  nodes: string[];
  digest: Bytes;
}

const plural = (n: number, what: string): string => `${n} ${n === 1 ? 'signature is' : 'signatures are'} ${what}`;

/** Who of a set signed; one that does not count is skipped, never fatal. */
async function ballot(type: typeof VOTERS | typeof CHECKPOINT, line: Signed, set: readonly string[]): Promise<{ signed: string[]; few: string | null }> {
  const body = unbase64(line.body);
  const held = new Set<string>();
  const odd = [0, 0, 0];
  const bump = (at: 0 | 1 | 2): void => void (odd[at] = (odd[at] as number) + 1);
  for (const { key: by, sig } of line.signatures) {
    const bytes = unbase64(sig);
    if (bytes.length !== 64) throw new Error('a signature has not 64 bytes');
    if (!set.includes(by)) bump(0);
    else if (held.has(by)) bump(1);
    else if (await verify('ed25519', by, type, body, bytes)) held.add(by);
    else bump(2);
  }
  const must = Math.floor(set.length / 2) + 1;
  const kinds = ['by no voter', 'by a voter once more', 'not valid'].flatMap((what, i) => (odd[i] ? [`; ${plural(odd[i], what)}`] : []));
  return { signed: set.filter((n) => held.has(n)), few: held.size < must ? `${held.size} of ${set.length} voters signed, ${must} must${kinds.join('')}` : null };
}

async function follow(before: VoterSet, site: string, link: Signed): Promise<VoterSet> {
  const bytes = unbase64(link.body);
  const r = new Body(bytes);
  const of = siteText(r.take());
  const [epoch, seq] = [r.varint(), r.varint()];
  const size = r.varint();
  if (size < 1 || size > MOST_VOTERS) throw new Error('set has not 1 to 7 voters');
  const nodes = Array.from({ length: size }, () => r.take());
  if (nodes.some((n, i) => i > 0 && compare(nodes[i - 1] as Bytes, n) >= 0)) throw new Error('set is not sorted and unique');
  const previous = r.take();
  r.end();
  const why =
    of !== site ? 'it is of another site'
    : epoch !== before.epoch ? 'it is of another epoch'
    : seq !== before.seq + 1 ? 'its number is not the next one'
    : compare(previous, before.digest) !== 0 ? 'it names another set before'
    : null;
  if (why) throw new Error(`link ${seq} of the voters does not follow the set before: ${why}`);
  const { few } = await ballot(VOTERS, link, before.nodes);
  if (few) throw new Error(`link ${seq} of the voters: ${few}`);
  return { epoch, seq, nodes: nodes.map(base64url), digest: await digestOf(VOTERS, bytes) };
}

const nodesOf = (list: readonly { node: string }[]): Bytes[] => list.map((n) => unbase64url(n.node, 32)).sort(compare);

/** Trust and voters of a document: everything but its checkpoint. */
async function foundation(site: string, doc: Document): Promise<{ trust: Trust; set: VoterSet }> {
  const said = <T>(what: string) => (e: unknown): T => {
    throw new Error(`${what}${e instanceof Error ? e.message : String(e)}`);
  };
  const begin = (): Promise<Trust> => Trust.begin(doc.charter).catch(said<Trust>('the charter does not verify: '));
  const early = await begin();
  if (early.site !== site) throw new Error(`it is of site ${early.site}, not of ${site}`);
  if (doc.founding === null || doc.checkpoint === null) throw new Error('the door has no checkpoint that voters signed');
  const { intent } = await early.logged({ index: 1, log_time: 0, envelope: doc.founding }).catch(said<never>('the founding intent does not stand: '));
  if (!('site.found' in intent.action)) throw new Error(`the founding intent does not stand: it orders ${actionName(intent.action)}`);
  const nodes = nodesOf(intent.action['site.found'].nodes);
  const known = new Set(nodes.map(base64url));
  const id = siteBytes(site) as Bytes;
  let set: VoterSet = {
    epoch: 0,
    seq: 0,
    nodes: nodes.map(base64url),
    digest: await digestOf(VOTERS, concat(new Uint8Array([1]), id, new Uint8Array([0, 0, nodes.length]), ...nodes, id)),
  };
  const trust = await begin();
  const roster = [...doc.roster];
  // Each authorization is judged by the admins of its own time, not by those of today.
  const admit = async (before: number): Promise<void> => {
    for (const line of roster.filter((l) => l.index < before)) {
      roster.splice(roster.indexOf(line), 1);
      const read = await trust.logged(line).catch(said<never>(''));
      if (!('node.authorize' in read.intent.action)) throw new Error(`an intent of the roster orders ${actionName(read.intent.action)}`);
      for (const n of read.intent.action['node.authorize'].nodes) known.add(n.node);
    }
  };
  for (const [at, line] of doc.trust.entries()) {
    await admit(line.index);
    await trust.step(line).catch(said<void>(`trust log: entry ${at} (audit index ${line.index}): `));
  }
  await admit(Infinity);
  for (const link of doc.voters) set = await follow(set, site, link);
  const stranger = set.nodes.find((n) => !known.has(n));
  if (stranger !== undefined) throw new Error(`voter ${stranger} was authorized by no administrator`);
  return { trust, set };
}

/** Verifies documents of one site; what did not change is not verified twice. */
export class Verifier {
  private kept: { of: string; trust: Trust; set: VoterSet } | null = null;

  constructor(readonly site: string) {}

  async verify(value: unknown): Promise<Attested> {
    FORM.check(value as never, 'attestation');
    const doc = value as Document;
    const of = JSON.stringify([doc.charter, doc.trust, doc.founding, doc.roster, doc.voters]);
    if (this.kept?.of !== of || doc.checkpoint === null) this.kept = { of, ...(await foundation(this.site, doc)) };
    const { trust, set } = this.kept;
    const line = doc.checkpoint as Signed;
    const r = new Body(unbase64(line.body));
    const site = siteText(r.take());
    const [epoch, index, term, time] = [r.varint(), r.varint(), r.varint(), r.varint()];
    const [chain, trustHead, state] = [r.take(), r.take(), r.take()].map(base64url) as [string, string, string];
    const seq = r.varint();
    r.end();
    if (site !== this.site) throw new Error(`it is of site ${site}, not of ${this.site}`);
    if (epoch !== set.epoch) throw new Error(`the checkpoint is of epoch ${epoch}, its voters are of epoch ${set.epoch}`);
    if (seq !== set.seq) throw new Error(`the checkpoint names voters ${seq}, the chain ends at ${set.seq}`);
    const { signed: by, few } = await ballot(CHECKPOINT, line, set.nodes);
    if (few) throw new Error(few);
    const at = trust.heads.indexOf(trustHead);
    if (at < 0) throw new Error('the trust log shown does not hold the head that voters signed');
    return {
      site, epoch, index, term, log_time: time, chain_head: chain, trust_head: trustHead, state_hash: state,
      seq, voters: set.nodes, signed: by, trust: new Set(trust.heads.slice(0, at + 1)),
    };
  }
}

/** What is to be thought of a view. */
export type Verdict =
  | { kind: 'verified'; at: number }
  | { kind: 'stale'; since: number }
  | { kind: 'back'; ours: number; theirs: number }
  | { kind: 'split'; index: number; what: string; ours: string; theirs: string }
  | { kind: 'unverified'; why: string };

function differ(ours: Seen, theirs: Attested): Verdict | null {
  if (ours.epoch !== theirs.epoch) return null;
  const split = (what: string, a: string, b: string): Verdict => ({ kind: 'split', index: ours.index, what, ours: a, theirs: b });
  if (ours.index === theirs.index) {
    if (ours.chain_head !== theirs.chain_head) return split('heads', ours.chain_head, theirs.chain_head);
    if (ours.trust_head !== theirs.trust_head) return split('trust heads', ours.trust_head, theirs.trust_head);
    if (ours.state_hash !== theirs.state_hash) return split('state hashes', ours.state_hash, theirs.state_hash);
    return null;
  }
  // Trust logs only grow: a later one that lacks the head of an earlier one is another history.
  return theirs.index > ours.index && !theirs.trust.has(ours.trust_head) ? split('trust heads', ours.trust_head, theirs.trust_head) : null;
}

/** How an attested time stands at `now` by the reader's own clock, whatever the server says of it. */
export function fresh(logTime: number, now: number): Verdict {
  if (logTime - now > STALE_MS) return { kind: 'unverified', why: `voters signed a time ${Math.floor((logTime - now) / 1000)} s ahead of this computer's clock: one of them is wrong` };
  return now - logTime > STALE_MS ? { kind: 'stale', since: logTime } : { kind: 'verified', at: logTime };
}

/** Judges what is shown against what is remembered. A door that lags a little is no roll-back. */
export function judge(held: Seen | null, shown: Attested, now: number): Verdict {
  if (held) {
    const split = differ(held, shown);
    if (split) return split;
    const lags = shown.epoch === held.epoch && now - shown.log_time <= STALE_MS && shown.log_time <= held.log_time;
    const less = shown.epoch < held.epoch || (shown.epoch === held.epoch && shown.index < held.index);
    if (less && !lags) return { kind: 'back', ours: held.index, theirs: shown.index };
  }
  return fresh(shown.log_time, now);
}

/** What to remember after a view: never less than before, and nothing that contradicts it. */
export function advance(held: Seen | null, { epoch, index, chain_head, trust_head, state_hash, log_time }: Attested, judged: Verdict): Seen | null {
  const next: Seen = { epoch, index, chain_head, trust_head, state_hash, log_time };
  if (held === null) return judged.kind === 'unverified' ? null : next;
  if (judged.kind !== 'verified' && judged.kind !== 'stale') return held;
  const order = epoch - held.epoch || index - held.index || log_time - held.log_time;
  return order > 0 ? next : held;
}

/** The remembered view as text is read strictly: anything else was not written here. */
export function readSeen(text: string | null): Seen | null {
  try {
    const value = JSON.parse(text ?? 'null') as Seen | null;
    if (value === null) return null;
    SEEN.check(value as never, 'seen');
    return value;
  } catch {
    return null;
  }
}
const SEEN = obj({ epoch: int(0), index: int(0), chain_head: key, trust_head: key, state_hash: key, log_time: int(0) });

