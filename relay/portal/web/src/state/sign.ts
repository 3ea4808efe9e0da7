// From what was chosen to what is signed: draft, plan, sign, send, outcome.

import { get, post, ask, asProblem } from '../api/client.ts';
import type { Head, IntentView, NodeView, PlanView, Problem } from '../api/views.ts';
import { base64url, text, type Bytes } from '../signed/bytes.ts';
import { digestOf, INTENT } from '../signed/dsse.ts';
import { parseIntent, toPayload, type Action, type Expect, type Intent, type PlacedNode } from '../signed/intent.ts';
import { visibleIn } from '../signed/strict.ts';
import { newUlid } from '../signed/names.ts';
import { byKey, byText, sorted } from '../signed/schema.ts';
import type { SiteData } from './data.ts';
import { signPayload } from './keys.ts';
import { author } from './session.ts';
import { signAtTerminal, terminal } from './terminal.ts';

/** An intent that is signed here lives this long. */
export const LIFE_MS = 15 * 60_000;

export interface Change {
  action: Action;
  expect: Expect[];
}

/** A change as it would be signed, and what it would do. */
export interface Draft {
  payload: Bytes;
  /** Read back from the payload: what the dialog shows. */
  intent: Intent;
  digest: string;
  plan: PlanView;
  at: number;
}

async function payloadOf(d: SiteData, change: Change, head: Head): Promise<Bytes> {
  const site = d.site.value.peek();
  if (!site) throw new Error('the site is not known yet');
  // Without a key here the plan is still shown; it is then never signed.
  const by = author.peek()?.admin.admin ?? d.admins.value.peek()?.[0]?.admin ?? 'nobody';
  const issued = Date.now();
  return toPayload({
    v: 1,
    site: site.id,
    id: newUlid(issued),
    by,
    issued_ms: issued,
    expires_ms: issued + LIFE_MS,
    anchor: { index: head.index, hash: head.hash },
    expect: sorted(change.expect as never[], byText('object')) as Expect[],
    action: change.action,
  });
}

const planOf = (d: SiteData, payload: Bytes): Promise<PlanView> => post<PlanView>(`${d.base}/plan`, { payload: text(payload) }).then(visibleIn);

/** The explicit placement that a plan shows for an open one; null if it is refused. */
export function resolved(plan: PlanView, pool: readonly NodeView[]): PlacedNode[] | null {
  if (plan.rejected) return null;
  const placed: PlacedNode[] = plan.nodes.map((n) => {
    if (n.role === null) throw new Error(`the plan gives ${n.host} no role`);
    if (!pool.some((p) => p.id === n.node && p.state === 'pool')) throw new Error(`the plan takes ${n.host}, which is not in the pool`);
    return { node: n.node, role: n.role };
  });
  return sorted(placed as never[], byKey('node')) as PlacedNode[];
}

/** Drafts a change and asks what it would do. An open placement is resolved to names first. */
export async function draft(d: SiteData, change: Change): Promise<Draft> {
  const head = await get<Head>(`${d.base}/head`);
  let payload = await payloadOf(d, change, head);
  let plan = await planOf(d, payload);
  const attach = 'cluster.attach' in change.action ? change.action['cluster.attach'] : null;
  if (attach && !('explicit' in attach.placement)) {
    const nodes = await get<NodeView[]>(`${d.base}/nodes`);
    const placed = resolved(plan, nodes);
    if (placed) {
      const wanted = 'auto' in attach.placement ? attach.placement.auto.count : attach.placement.named.nodes.length;
      if (placed.length !== wanted) throw new Error(`the plan takes ${placed.length} nodes, asked were ${wanted}`);
      payload = await payloadOf(d, { ...change, action: { 'cluster.attach': { cluster: attach.cluster, placement: { explicit: { nodes: placed } } } } }, head);
      plan = await planOf(d, payload);
    }
  }
  return { payload, intent: parseIntent(payload), digest: base64url(await digestOf(INTENT, payload)), plan, at: Date.now() };
}

export type Progress =
  | { step: 'signing' }
  | { step: 'sent'; at: number }
  | { step: 'answered'; at: number; sent: number; view: IntentView }
  | { step: 'failed'; problem: Problem };

const settled = (view: IntentView): boolean => view.state === 'doing' || view.state === 'done' || view.state === 'rejected';

/** Signs and sends a draft, and tells what became of it. The same bytes sent twice are one intent. */
export async function send(d: SiteData, made: Draft, tell: (progress: Progress) => void): Promise<void> {
  tell({ step: 'signing' });
  try {
    const envelope = terminal.value ? await signAtTerminal(made.intent.site, made.payload) : await signPayload(INTENT, made.payload);
    const sent = Date.now();
    tell({ step: 'sent', at: sent });
    let view = await ask<IntentView>('POST', `${d.base}/intents?wait=10s`, envelope, 30_000);
    if (view.digest !== made.digest) throw new Error('the door answered for another intent');
    tell({ step: 'answered', at: Date.now(), sent, view });
    for (let tries = 0; !settled(view) && tries < 6; tries++) {
      // A door keeps no intent that is held: the same bytes are sent again, and are one intent.
      const held = view.state === 'held';
      if (held) await new Promise((resolve) => setTimeout(resolve, 3_000));
      view = held
        ? await ask<IntentView>('POST', `${d.base}/intents?wait=10s`, envelope, 30_000)
        : await ask<IntentView>('GET', `${d.base}/intents/${made.digest}?wait=10s`, undefined, 30_000);
      tell({ step: 'answered', at: Date.now(), sent, view });
    }
  } catch (e) {
    tell({ step: 'failed', problem: asProblem(e) });
  }
  for (const r of d.all()) if (r.users > 0) void r.load();
}
