// The trust log, walked from the charter: who may sign what, entry by entry, under the trust of that
// time. Roles, classes of keys, numbers of owners and windows are judged; bounds of sizes are not.

import { base64url, sha256, u64, utf8, type Bytes } from './bytes.ts';
import { verifyCharter } from './charter.ts';
import { digestOf, INTENT } from './dsse.ts';
import { parseEnvelope } from './envelope.ts';
import { actionName, parseIntent, PORTAL_SET, type Actions, type Intent, type KeyClass, type NewKey, type Role } from './intent.ts';
import { siteBytes } from './names.ts';
import { kindOf, verify } from './verify.ts';

const DOMAIN = utf8('qb/trust/1\0');
const HOUR = 3_600_000;
const AHEAD_MS = 5 * 60_000;
const LEVEL: Record<Role, number> = { viewer: 0, operator: 1, owner: 2 };
const OPERATORS = new Set([...PORTAL_SET, 'node.revoke', 'intent.cancel', 'token.mint', 'token.revoke']);
/** Actions that are entries of the trust log. */
const ON_TRUST = /^(admin|key|policy|publisher|relay)\./;
/** Actions that as many owners sign as the policy asks for. */
const MANY = /^(admin|key|policy|publisher|relay)\.|^cluster\.delete$|^intent\.release$|^agent\.upgrade$/;

/** A line of an attestation: an intent with its place. */
export interface Cited {
  index: number;
  log_time: number;
  envelope: string;
}

interface Admin {
  role: Role;
  keys: Map<string, NewKey>;
}

interface Signer {
  admin: string;
  role: Role;
  class: KeyClass;
}

const isLasting = (k: NewKey): boolean => k.expires_ms === null && k.class !== 'browser';
const rank = (c: KeyClass): number => Number(c !== 'browser');

/** Admins, their keys and the policy, and every head of the log until now. */
export class Trust {
  readonly admins = new Map<string, Admin>();
  /** Heads in their order, and when each ceased to be the newest. */
  readonly heads: string[];
  private readonly until: number[] = [];
  private readonly gone = new Set<string>();
  private policy = { owners_needed: 1, anchor_max_age_ms: 24 * HOUR, browser_actions: [...PORTAL_SET] as string[] };
  private head: Bytes;
  private index = 0;
  private time = 0;

  private constructor(readonly site: string, head: Bytes) {
    this.head = head;
    this.heads = [base64url(head)];
  }

  static async begin(charter: string): Promise<Trust> {
    const read = await verifyCharter(utf8(charter));
    const trust = new Trust(read.site, siteBytes(read.site) as Bytes);
    for (const f of read.charter.founders) trust.admins.set(f.admin, { role: 'owner', keys: new Map(f.keys.map((k) => [k.key, k])) });
    return trust;
  }

  /** An intent that a log says was accepted there, if those who had to had signed it. */
  async logged({ log_time: at, envelope: text }: Cited): Promise<{ intent: Intent; digest: Bytes }> {
    const envelope = parseEnvelope(utf8(text));
    if (envelope.type !== INTENT) throw new Error('it holds no intent');
    const intent = parseIntent(envelope.payload);
    const signers: Signer[] = [];
    for (const { keyid, sig } of envelope.signatures)
      for (const [admin, { role, keys }] of this.admins) {
        const held = keys.get(keyid.slice(keyid.indexOf(':') + 1));
        if (!held || (held.expires_ms !== null && at >= held.expires_ms)) continue;
        if (await verify(kindOf(held.class), held.key, INTENT, envelope.payload, sig)) signers.push({ admin, role, class: held.class });
      }
    if (!signers.some((s) => s.admin === intent.by)) throw new Error(`no valid signature is by a key of its author ${intent.by}`);
    if (intent.site !== this.site) throw new Error('it is for another site');
    this.window(intent, at);
    this.authority(intent, signers);
    for (const e of intent.expect) if (e.object === 'trust' && 'hash' in e) this.recent(e.hash, intent.issued_ms);
    return { intent, digest: await digestOf(INTENT, envelope.payload) };
  }

  private window(intent: Intent, at: number): void {
    const name = actionName(intent.action);
    const life = intent.expires_ms - intent.issued_ms;
    const most = MANY.test(name) && this.policy.owners_needed > 1 ? 7 * 24 * HOUR : 24 * HOUR;
    if (life < 1_000 || life > most) throw new Error('its lifetime is out of its bounds');
    if (at === 0 && name === 'site.found') return;
    if (at > intent.expires_ms) throw new Error('it had expired');
    if (intent.issued_ms > at + AHEAD_MS) throw new Error('it was issued later than it was accepted');
  }

  private authority(intent: Intent, signers: readonly Signer[]): void {
    const name = actionName(intent.action);
    const body = Object.values(intent.action)[0] as Actions['key.add'] & Actions['admin.add'] & Actions['policy.set'];
    const own = (name === 'key.add' || name === 'key.revoke') && body.admin === intent.by;
    const need = OPERATORS.has(name) ? LEVEL.operator : LEVEL.owner;
    const role = signers.find((s) => s.admin === intent.by)?.role ?? 'viewer';
    if (!own && LEVEL[role] < need) throw new Error(`${intent.by} is ${role}, ${name} needs more`);
    const able = signers.filter((s) => (LEVEL[s.role] >= need || (own && s.admin === intent.by)) && (s.class !== 'browser' || this.policy.browser_actions.includes(name)));
    const adds = name === 'key.add' ? [body.key as NewKey] : name === 'admin.add' ? body.keys : [];
    if (Math.max(-1, ...able.map((s) => rank(s.class))) < Math.max(0, ...adds.map((k) => rank(k.class)))) throw new Error(`keys of that class do not sign ${name}`);
    let many = own || !MANY.test(name) ? 1 : this.policy.owners_needed;
    if (name === 'policy.set') many = Math.max(many, body.policy.owners_needed);
    const have = new Set(able.map((s) => s.admin)).size;
    if (have < many) throw new Error(`${have} admins signed, ${many} had to`);
  }

  private recent(hash: string, issued: number): void {
    const at = this.heads.lastIndexOf(hash);
    const last = this.heads.length - 1;
    if (at < 0 || (at < last && (this.until[at] as number) < issued - this.policy.anchor_max_age_ms)) throw new Error('it names another trust log');
  }

  /** Takes the next entry of the log, or says why it does not follow. */
  async step(line: Cited): Promise<void> {
    if (this.heads.length > 1 && (line.index <= this.index || line.log_time < this.time)) throw new Error('its index or its time is not after the entry before it');
    const { intent, digest } = await this.logged(line);
    this.apply(intent);
    this.head = await sha256(DOMAIN, this.head, digest, u64(line.index), u64(line.log_time));
    this.heads.push(base64url(this.head));
    this.until.push(line.log_time);
    this.index = line.index;
    this.time = line.log_time;
  }

  private apply(intent: Intent): void {
    const name = actionName(intent.action);
    if (!ON_TRUST.test(name)) throw new Error(`${name} is no action on trust`);
    const action = intent.action as unknown as Actions;
    const admin = (id: string): Admin => {
      const found = this.admins.get(id);
      if (!found) throw new Error(`${id} is no admin`);
      return found;
    };
    const fresh = (k: NewKey): NewKey => {
      if (this.gone.has(k.key) || [...this.admins.values()].some((a) => a.keys.has(k.key))) throw new Error(`key ${k.key} may not be added`);
      return k;
    };
    const drop = (key: string, reason: string): void => {
      if (reason === 'compromised') this.gone.add(key);
    };
    if (name === 'admin.add') {
      const a = action[name];
      if (this.admins.has(a.admin)) throw new Error(`${a.admin} is an admin already`);
      this.admins.set(a.admin, { role: a.role, keys: new Map(a.keys.map((k) => [k.key, fresh(k)])) });
    } else if (name === 'admin.remove') {
      const { admin: id, reason } = action[name];
      for (const key of admin(id).keys.keys()) drop(key, reason);
      this.admins.delete(id);
    } else if (name === 'admin.role') admin(action[name].admin).role = action[name].role;
    else if (name === 'key.add') admin(action[name].admin).keys.set(action[name].key.key, fresh(action[name].key));
    else if (name === 'key.revoke') {
      const { admin: id, key, reason } = action[name];
      if (!admin(id).keys.delete(key)) throw new Error(`key ${key} is not there`);
      drop(key, reason);
    } else if (name === 'policy.set') this.policy = action[name].policy;
    const owners = [...this.admins.values()].filter((a) => a.role === 'owner' && [...a.keys.values()].some(isLasting)).length;
    if (owners < this.policy.owners_needed) throw new Error('too few owners with a lasting key would be left');
  }
}
