// The intent: one action that an admin wants, bound to a site, a time, a chain head that the signer
// saw, and the generations that the signer looked at. The member order is that of qb-model.

import { byKey, byText, count, int, nullable, obj, oneOf, set, str, word, type Form, type Order } from './schema.ts';
import { host, key, labelFault, name, object, siteId, text, ulid, version } from './names.ts';
import { ofKubeadm, settings, type Settings } from './settings.ts';
import { utf8, type Bytes } from './bytes.ts';
import { strict, type Json } from './strict.ts';

export const PAYLOAD_BYTES = 64 * 1024;
export const ACTION_NODES = 400;

export type Role = 'viewer' | 'operator' | 'owner';
export type KeyClass = 'browser' | 'agent-origin' | 'cli' | 'hardware';
export type NodeRole = 'control-plane' | 'worker';
export type AuthorizedNode = { node: string; host: string; knock: string };
export type PlacedNode = { node: string; role: NodeRole };
export type NewKey = { key: string; class: KeyClass; expires_ms: number | null };
export type Label = { key: string; value: string };
export type Taint = { key: string; effect: 'NoExecute' | 'NoSchedule' | 'PreferNoSchedule'; value: string };
export type Placement =
  | { auto: { count: number; control_plane: number } }
  | { explicit: { nodes: PlacedNode[] } }
  | { named: { nodes: string[]; control_plane: number } };
export type Policy = {
  owners_needed: number;
  anchor_max_age_ms: number;
  voters: 'all' | { nodes: { nodes: string[] } };
  browser_actions: string[];
};

export interface Actions {
  'site.found': { nodes: AuthorizedNode[] };
  'node.authorize': { nodes: AuthorizedNode[] };
  'node.revoke': { node: string; then: 'isolate' | 'wipe' };
  'node.label': { node: string; labels: Label[] };
  'cluster.create': { cluster: string; driver: string; version: string; bundle: string; settings?: Settings };
  'cluster.attach': { cluster: string; placement: Placement };
  'cluster.detach': { cluster: string; nodes: string[] };
  'cluster.delete': { cluster: string };
  'admin.add': { admin: string; name: string; role: Role; keys: NewKey[] };
  'admin.remove': { admin: string; reason: 'retired' | 'compromised' };
  'admin.role': { admin: string; role: Role };
  'key.add': { admin: string; key: NewKey };
  'key.revoke': { admin: string; key: string; reason: 'retired' | 'compromised' };
  'policy.set': { policy: Policy };
  'publisher.add': { publisher: string; key: string };
  'publisher.remove': { key: string };
  'relay.add': { url: string; key: string };
  'relay.remove': { key: string };
  'relay.register': { org: string; key: string };
  'intent.release': { intent: string };
  'intent.cancel': { intent: string };
  'agent.upgrade': { bundle: string; version: string; first: string[]; batch: number };
  'agent.upgrade.stop': { upgrade: string };
  'token.mint': { token: string; uses: number; expires_ms: number; host: string | null; addresses: string[]; labels: Label[] };
  'token.revoke': { token: string };
  'cluster.upgrade': { cluster: string; driver: string; version: string; bundle: string; batch: number; settings?: Settings };
  'cluster.upgrade.stop': { cluster: string; upgrade: string };
  'cluster.backup': { cluster: string };
  'cluster.restore': { cluster: string; node: string; backup: string; others: string[] };
  'cluster.label': { cluster: string; node: string; host: string; labels: Label[]; taints: Taint[] };
  'cluster.addon.set': { cluster: string; addon: string; manifest: string[] };
  'cluster.addon.remove': { cluster: string; addon: string };
}

export type ActionName = keyof Actions;
/** An object with one member, its name the action. */
export type Action = { [N in ActionName]: { [K in N]: Actions[N] } }[ActionName];

/** What a key of class `browser` may sign by default. */
export const PORTAL_SET: readonly ActionName[] = [
  'cluster.attach',
  'cluster.create',
  'cluster.detach',
  'node.authorize',
  'node.label',
];

export type Expect = { object: string; generation: number } | { object: 'trust'; hash: string };

export interface Intent {
  v: 1;
  site: string;
  id: string;
  by: string;
  issued_ms: number;
  expires_ms: number;
  anchor: { index: number; hash: string };
  after?: string[];
  expect: Expect[];
  action: Action;
  note?: string;
}

const authorized = obj({ node: key, host, knock: key });
const nodesBy = (of: Form, max: number): Form => set(of, 1, max, byKey('node'));
const keys = set(key, 1, ACTION_NODES, byKey());
const planes = count(0, 1, 3, 5);
const role = word('viewer', 'operator', 'owner');
const reason = word('retired', 'compromised');
export const newKey: Form = obj({ key, class: word('browser', 'agent-origin', 'cli', 'hardware'), expires_ms: nullable(int(0)) });
const label: Form = (() => {
  const form = obj({ key: text(1, 317), value: text(0, 63) });
  return {
    ...form,
    check: (v, where) => {
      form.check(v, where);
      const { key: k, value } = v as unknown as Label;
      const fault = labelFault(k, value);
      if (fault) throw new Error(`${where} ${fault}`);
    },
  };
})();
/** Keys that qb may keep on a node of Kubernetes: none of Kubernetes' own, but for where it stands. */
const own = (form: Form, places: boolean): Form => ({
  ...form,
  check: (v, where) => {
    form.check(v, where);
    const { key: k } = v as unknown as Label;
    const place = places && (k === 'topology.kubernetes.io/region' || k === 'topology.kubernetes.io/zone');
    if (!place && /^([^/]*\.)?(kubernetes|k8s)\.io\//.test(k)) throw new Error(`${where} has a key that Kubernetes keeps`);
  },
});
const taint: Form = (() => {
  const form = obj({ key: text(1, 317), effect: word('NoExecute', 'NoSchedule', 'PreferNoSchedule'), value: text(0, 63) });
  return own(
    {
      ...form,
      check: (v, where) => {
        form.check(v, where);
        const { key: k, value } = v as unknown as Taint;
        const fault = labelFault(k, value);
        if (fault) throw new Error(`${where} ${fault}`);
      },
    },
    false,
  );
})();
const byTaint: Order = (e) => utf8(`${(e as Taint).key}\0${(e as Taint).effect}`);

export const ADDON_BYTES = 28 * 1024;
export const ADDON_LINES = 2_000;

/** The lines of a manifest. */
const manifest: Form = {
  check: (v, where) => {
    if (!Array.isArray(v)) throw new Error(`${where} must be a list`);
    v.forEach((line, i) => text(0, ADDON_BYTES).check(line, `${where}[${i}]`));
    const lines = v as string[];
    const bytes = lines.reduce((sum, line) => sum + utf8(line).length + 1, 0);
    if (bytes > ADDON_BYTES || lines.length > ADDON_LINES)
      throw new Error(`${where} has ${bytes} bytes in ${lines.length} lines, allowed are ${ADDON_BYTES} in ${ADDON_LINES}`);
    if (lines.every((line) => line.trim() === '')) throw new Error(`${where} is empty`);
  },
  write: (v) => JSON.stringify(v),
};

export const url: Form = str(
  (v) => v.length <= 256 && /^(https:\/\/(?![/:]|$)|http:\/\/(localhost|127\.0\.0\.1)(?=[:/]|$))[A-Za-z0-9\-._~:/[\]%]*$/.test(v),
  'an https:// address',
);

/** A block of addresses; that no bit is set behind the prefix is judged by the site. */
const block: Form = str((v) => /^(\d{1,3}(\.\d{1,3}){3}|[0-9a-f:.]*:[0-9a-f:.]*)\/(0|[1-9]\d{0,2})$/.test(v), 'a block of addresses');

const ACTIONS: Record<ActionName, Form> = {
  'site.found': obj({ nodes: nodesBy(authorized, 5) }),
  'node.authorize': obj({ nodes: nodesBy(authorized, ACTION_NODES) }),
  'node.revoke': obj({ node: key, then: word('isolate', 'wipe') }),
  'node.label': obj({ node: key, labels: set(label, 0, 32, byText('key')) }),
  'cluster.create': ofKubeadm(obj({ cluster: name, driver: name, version, bundle: key, 'settings?': settings })),
  'cluster.attach': obj({
    cluster: name,
    placement: oneOf({
      auto: obj({ count: int(1, ACTION_NODES), control_plane: planes }),
      explicit: obj({ nodes: nodesBy(obj({ node: key, role: word('control-plane', 'worker') }), ACTION_NODES) }),
      named: obj({ nodes: keys, control_plane: planes }),
    }),
  }),
  'cluster.detach': obj({ cluster: name, nodes: keys }),
  'cluster.delete': obj({ cluster: name }),
  'admin.add': obj({ admin: name, name: text(1, 128), role, keys: set(newKey, 1, 16, byKey('key')) }),
  'admin.remove': obj({ admin: name, reason }),
  'admin.role': obj({ admin: name, role }),
  'key.add': obj({ admin: name, key: newKey }),
  'key.revoke': obj({ admin: name, key, reason }),
  'policy.set': obj({
    policy: obj({
      owners_needed: int(1, 8),
      anchor_max_age_ms: int(3_600_000, 7 * 86_400_000),
      voters: oneOf({ nodes: obj({ nodes: set(key, 1, 64, byKey()) }) }, 'all'),
      browser_actions: set(text(1, 64), 0, 64, byText()),
    }),
  }),
  'publisher.add': obj({ publisher: name, key }),
  'publisher.remove': obj({ key }),
  'relay.add': obj({ url, key }),
  'relay.remove': obj({ key }),
  'relay.register': obj({ org: name, key }),
  'intent.release': obj({ intent: key }),
  'intent.cancel': obj({ intent: key }),
  'agent.upgrade': obj({ bundle: key, version, first: keys, batch: int(1, 64) }),
  'agent.upgrade.stop': obj({ upgrade: key }),
  'token.mint': obj({
    token: key,
    uses: int(1, 1_000),
    expires_ms: int(0),
    host: nullable(str((v) => /^[a-z0-9.*?-]{1,63}$/.test(v), 'a pattern of host names')),
    addresses: set(block, 0, 16, byText()),
    labels: set(label, 0, 32, byText('key')),
  }),
  'token.revoke': obj({ token: key }),
  'cluster.upgrade': ofKubeadm(obj({ cluster: name, driver: name, version, bundle: key, batch: int(1, 64), 'settings?': settings })),
  'cluster.upgrade.stop': obj({ cluster: name, upgrade: key }),
  'cluster.backup': obj({ cluster: name }),
  'cluster.restore': obj({ cluster: name, node: key, backup: key, others: set(key, 0, 4, byKey()) }),
  'cluster.label': obj({
    cluster: name,
    node: key,
    host,
    labels: set(own(label, true), 0, 32, byText('key')),
    taints: set(taint, 0, 16, byTaint),
  }),
  'cluster.addon.set': obj({ cluster: name, addon: name, manifest }),
  'cluster.addon.remove': obj({ cluster: name, addon: name }),
};

/** Every action on trust, the deletion of a cluster, a release and an upgrade of agents name a head of the trust log. */
const NAMES_TRUST = /^(admin|key|policy|publisher|relay)\.|^cluster\.(delete|restore)$|^intent\.release$|^agent\.upgrade$/;
const REMOVAL = /^(node|key)\.revoke$|\.remove$|^agent\.upgrade\.stop$|^token\.revoke$/;

const generationOf = obj({ object, generation: int(0) });
const trustOf = obj({ object: word('trust'), hash: key });
const expect: Form = {
  check: (v, where) => {
    const isTrust = v !== null && typeof v === 'object' && !Array.isArray(v) && v?.['object'] === 'trust';
    (isTrust ? trustOf : generationOf).check(v, where);
  },
  write: (v) => ((v as { object: string }).object === 'trust' ? trustOf : generationOf).write(v),
};

const INTENT_FORM = obj({
  v: count(1),
  site: siteId,
  id: ulid,
  by: name,
  issued_ms: int(0),
  expires_ms: int(0),
  anchor: obj({ index: int(0), hash: key }),
  'after?': set(key, 0, 8, byKey()),
  expect: set(expect, 0, 64, byText('object')),
  action: oneOf(ACTIONS),
  'note?': text(0, 256),
});

const asJson = (intent: Intent): Json => intent as unknown as Json;

export const actionName = (action: Action): ActionName => Object.keys(action)[0] as ActionName;

function check(intent: Intent): Intent {
  INTENT_FORM.check(asJson(intent), 'intent');
  if (intent.expires_ms <= intent.issued_ms) throw new Error('intent.expires_ms is not after issued_ms');
  const action = actionName(intent.action);
  const trust = intent.expect.some((e) => e.object === 'trust');
  if (NAMES_TRUST.test(action) && !trust) throw new Error('intent.expect lacks the trust head');
  if (REMOVAL.test(action) && intent.expect.some((e) => e.object !== 'trust'))
    throw new Error('intent.expect holds a generation, which a removal must not name');
  return intent;
}

/** The payload: compact JSON, members in order. Refuses what no reader would accept. */
export function toPayload(intent: Intent): Bytes {
  const bytes = utf8(INTENT_FORM.write(asJson(check(intent))));
  parseIntent(bytes);
  return bytes;
}

/** Reads a payload and checks every bound that needs no state. */
export function parseIntent(payload: Uint8Array): Intent {
  return check(strict(payload, PAYLOAD_BYTES, true) as unknown as Intent);
}
