// Attaching nodes to a cluster, and detaching them.

import { useState } from 'preact/hooks';
import type { ClusterView, NodeView } from '../api/views.ts';
import { sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { diskCents } from '../state/filter.ts';
import { plural, size } from '../state/format.ts';
import type { Expect, NodeRole, Placement, PlacedNode } from '../signed/intent.ts';
import { byKey, sorted } from '../signed/schema.ts';
import { Icon } from '../ui/icons.tsx';
import { Check, roleWord } from '../ui/parts.tsx';
import { SignDialog } from './sign.tsx';
import type { Change } from '../state/sign.ts';

const expectation = (c: ClusterView | undefined): Expect[] => (c ? [{ object: `cluster/${c.name}`, generation: c.generation }] : []);

export function Attach({ cluster, ids }: { cluster: string; ids: string[] }) {
  const d = data.value;
  const nodes = useLive(d?.nodes) ?? [];
  const clusters = useLive(d?.clusters) ?? [];
  const [name, setName] = useState(cluster);
  const pool = nodes.filter((n) => n.state === 'pool').sort((a, b) => (a.name < b.name ? -1 : 1));
  const [hand, setHand] = useState(ids.length > 0);
  const [count, setCount] = useState(0);
  const [roles, setRoles] = useState<ReadonlyMap<string, NodeRole>>(new Map());
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(ids));
  const [planned, setPlanned] = useState<ReadonlySet<string>>(new Set());
  const c = clusters.find((x) => x.name === name);
  const wanted = count === 0 ? Math.min(3, pool.length - ((pool.length === 2 && (c?.members.length ?? 0) === 0) ? 1 : 0)) : Math.min(count, pool.length);
  const picked = pool.filter((n) => chosen.has(n.id));
  const planes = (c?.members ?? []).filter((m) => m.role === 'control-plane').length;
  const roleOf = (n: NodeView): NodeRole => roles.get(n.id) ?? (planes === 0 && (picked.length >= 3 ? picked.indexOf(n) < (picked.length >= 5 ? 5 : 3) : picked.indexOf(n) === 0) ? 'control-plane' : 'worker');
  let placement: Placement | null = null;
  if (hand) {
    if (picked.length > 0) placement = { explicit: { nodes: sorted(picked.map((n) => ({ node: n.id, role: roleOf(n) })) as never[], byKey('node')) as PlacedNode[] } };
  } else if (wanted > 0) placement = { auto: { count: wanted, control_plane: 0 } };
  const change: Change | null = placement && c ? { action: { 'cluster.attach': { cluster: name, placement } }, expect: expectation(c) } : null;
  const control = hand ? planes + picked.filter((n) => roleOf(n) === 'control-plane').length : 0;
  const cps = picked.filter((n) => roleOf(n) === 'control-plane').map((n) => n.name);
  const workers = picked.filter((n) => roleOf(n) === 'worker').map((n) => n.name);
  const command = hand ? `qb cluster attach ${name}${workers.map((w) => ` ${w}`).join('')}${cps.length > 0 ? ` --control-plane ${cps.join(',')}` : ''}` : `qb cluster attach ${name} -n ${wanted}`;
  return (
    <SignDialog
      title={`Attach nodes to ${name}`}
      icon="plug"
      change={change}
      blocked={pool.length === 0 ? 'The pool is empty. Authorize machines first.' : !change ? 'Choose the nodes to attach.' : null}
      command={command}
      planned={(plan) => setPlanned(new Set(plan.nodes.map((n) => n.node)))}
      follow={[sitePath('clusters', name, 'progress'), 'Follow the attach']}
      warn={control > 0 && control % 2 === 0 ? <div class="why act note"><span class="t-act"><Icon name="dia" /></span><div>{control === 2 ? 'Two control plane nodes survive no more than one does.' : 'An even control plane survives no more than one node fewer does.'} Take {control - 1} or {control + 1}.</div></div> : null}
      left={
        <>
          {clusters.length > 1 ? (
            <label class="fld block">
              <span class="lbl">Cluster</span>
              <span class="inp"><select value={name} onChange={(e) => setName(e.currentTarget.value)}>{clusters.map((x) => <option key={x.name}>{x.name}</option>)}</select></span>
            </label>
          ) : null}
          {hand ? null : (
            <div class="fld">
              <div class="lbl" id="howmany">How many</div>
              <div class="row">
                <span class="step" role="group" aria-labelledby="howmany">
                  <button type="button" aria-label="One fewer" disabled={wanted <= 1} onClick={() => setCount(wanted - 1)}><Icon name="minus" small /></button>
                  <b aria-live="polite">{wanted}</b>
                  <button type="button" aria-label="One more" disabled={wanted >= pool.length} onClick={() => setCount(wanted + 1)}><Icon name="plus" small /></button>
                </span>
                <span class="muted">of {pool.length} in the pool</span>
              </div>
            </div>
          )}
          <div class="fld">
            <div class="lbl" id="placement">Placement</div>
            <div class="seg wide" role="group" aria-labelledby="placement">
              <button type="button" class={hand ? '' : 'on'} aria-pressed={!hand} onClick={() => setHand(false)}>Automatic</button>
              <button type="button" class={hand ? 'on' : ''} aria-pressed={hand} onClick={() => setHand(true)}>By hand</button>
            </div>
            <p class="faint">{hand ? 'You choose the nodes and their roles.' : 'Spread over zones. The plan names the nodes, and you sign those names.'}</p>
          </div>
          <div class="fld">
            <div class="lbl">{hand ? 'Nodes' : 'Nodes, chosen by the plan'}</div>
            <ul class="pick">
              {pool.map((n) => {
                const on = (hand ? chosen : planned).has(n.id);
                const disk = diskCents(n) ?? 0;
                return (
                  <li key={n.id} class={on ? 'on' : ''}>
                    <Check
                      on={on}
                      set={(yes) => {
                        const next = new Set(hand ? chosen : planned);
                        if (yes) next.add(n.id);
                        else next.delete(n.id);
                        setHand(true);
                        setChosen(next);
                      }}
                      label={`Attach ${n.name}`}
                    />
                    <span class="nm">{n.name}</span>
                    <span class={disk >= 90 ? 'sub2 grow clip t-act' : 'sub2 grow clip'}>{disk >= 90 ? `disk ${disk} % full` : n.facts ? `${n.facts.cores} cores, ${size(n.facts.memory_bytes)}` : ''}</span>
                    {hand && on ? (
                      <select aria-label={`Role of ${n.name}`} value={roleOf(n)} onChange={(e) => setRoles(new Map(roles).set(n.id, e.currentTarget.value as NodeRole))}>
                        <option value="control-plane">control plane</option>
                        <option value="worker">worker</option>
                      </select>
                    ) : <span class="faint nowrap">{n.facts?.zone}</span>}
                  </li>
                );
              })}
            </ul>
          </div>
        </>
      }
    />
  );
}

export function Detach({ cluster, ids }: { cluster: string; ids: string[] }) {
  const d = data.value;
  const nodes = useLive(d?.nodes) ?? [];
  const clusters = useLive(d?.clusters) ?? [];
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(ids));
  const [typed, setTyped] = useState('');
  const c = clusters.find((x) => x.name === cluster);
  const members = c?.members ?? [];
  const these = members.filter((m) => chosen.has(m.node));
  const silent = these.filter((m) => nodes.find((n) => n.id === m.node)?.waiting_on?.code === 'node.silent');
  const change: Change | null = these.length > 0 && c ? { action: { 'cluster.detach': { cluster, nodes: sorted(these.map((m) => m.node) as never[], byKey()) } }, expect: expectation(c) } : null;
  const blocked = these.length === 0 ? 'Choose the nodes to detach.' : typed !== cluster ? `Type ${cluster} to go on.` : null;
  return (
    <SignDialog
      title={`Detach nodes from ${cluster}`}
      icon="plug"
      change={change}
      blocked={blocked}
      command={`qb cluster detach ${cluster} ${these.map((m) => m.host).join(' ')}`.trim()}
      follow={[sitePath('clusters', cluster, 'progress'), 'Follow the detach']}
      danger
      warn={
        <div class="why bad note">
          <span class="t-bad"><Icon name="octagon-x" /></span>
          <div class="grow">
            <b>What runs on {these.length === 1 ? these[0]?.host : plural(these.length, 'node')} ends there.</b> <span class="muted">Detaching puts {these.length === 1 ? 'the host' : 'the hosts'} back as {these.length === 1 ? 'it was' : 'they were'} before the attach.{silent.length > 0 ? ` ${silent.map((m) => m.host).join(', ')} does not answer, so it cannot be cleaned now. It is cleaned if it returns.` : ''}</span>
          </div>
        </div>
      }
      left={
        <>
          <div class="fld">
            <div class="lbl">Members</div>
            <ul class="pick">
              {members.map((m) => (
                <li key={m.node} class={chosen.has(m.node) ? 'on' : ''}>
                  <Check on={chosen.has(m.node)} set={(on) => { const next = new Set(chosen); if (on) next.add(m.node); else next.delete(m.node); setChosen(next); }} label={`Detach ${m.host}`} />
                  <span class="nm grow">{m.host}</span>
                  <span class="faint">{roleWord(m.role)}</span>
                </li>
              ))}
            </ul>
          </div>
          <label class="fld block">
            <span class="lbl">Type the cluster's name, {cluster}</span>
            <span class="inp"><input value={typed} autocomplete="off" spellcheck={false} onInput={(e) => setTyped(e.currentTarget.value.trim())} /></span>
          </label>
        </>
      }
    />
  );
}
