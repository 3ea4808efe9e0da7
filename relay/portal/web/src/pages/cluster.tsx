// A cluster: is it up, what is qb doing to it?

import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { ClusterView, IntentView, MemberView, NodeView } from '../api/views.ts';
import { dialog, narrow, now, route, say, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { age, duration, plural, spelled } from '../state/format.ts';
import { visible } from '../signed/strict.ts';
import { Icon } from '../ui/icons.tsx';
import { Chip, clusterTone, Cmd, Empty, Findings, Ident, Link, Loading, PageHead, Rehearsal, Remedy, roleWord, Stale, Status, Time, Why, type Tone } from '../ui/parts.tsx';
import { EventRow } from './site.tsx';
import { joinStarts, tracks, type Track } from '../state/timeline.ts';
import { Timeline } from '../ui/timeline.tsx';

const BUSY = new Set(['preflight', 'initializing', 'upgrading', 'deleting']);
const shown = signal<string | null>(null);

export const isBusy = (c: ClusterView): boolean => BUSY.has(c.state) || c.members.some((m) => m.work && m.work.state !== 'done') || c.stages.some((s) => s.began !== null && s.ended === null && s.word !== 'ready');

function Stages({ c }: { c: ClusterView }) {
  const words = ['preflight', 'prepare', 'initialize', 'join', 'ready'];
  const leave = c.stages.filter((s) => !words.includes(s.word));
  const list = (leave.length > 0 ? c.stages.map((s) => s.word) : words).map((word) => ({ word, stage: c.stages.find((s) => s.word === word) }));
  // What was not needed is not shown as waiting: a join of no further node for instance.
  const over = c.state === 'ready' || c.state === 'degraded';
  return (
    <ol class="stg">
      {list.map(({ word, stage }) => {
        const done = stage?.ended != null || (word === 'ready' && over);
        const runs = stage?.began != null && !done;
        const tone: Tone = done ? 'ok' : runs ? 'busy' : 'idle';
        const what =
          stage === undefined
            ? over && word !== 'ready' ? 'not needed' : ''
            : done
              ? stage.ended != null && stage.began != null ? `${stage.of > 0 && word !== 'preflight' && word !== 'ready' ? `${stage.done} of ${stage.of}, ` : ''}${duration(stage.ended - stage.began)}` : ''
              : runs ? `${stage.done} of ${stage.of}, ${age(now.value - (stage.began ?? 0))}` : '';
        return (
          <li key={word} class={tone} aria-current={runs ? 'step' : undefined}>
            <Status tone={tone}>
              <span class="l1">{word[0]?.toUpperCase()}{word.slice(1)}</span>
              <span class="vh">{done ? ', done' : runs ? ', running' : ', later'}</span>
            </Status>
            <div class="l2 faint">{what}</div>
          </li>
        );
      })}
    </ol>
  );
}

function MemberCard({ m }: { m: MemberView }) {
  const w = m.work;
  return (
    <section class="card">
      <div class="ch">
        <h2>{m.host}</h2>
        {w ? <Status tone={w.state === 'failed' ? 'bad' : w.state === 'done' ? 'ok' : 'busy'}>{w.stage}</Status> : <Status tone={m.done === 'none' ? 'idle' : 'ok'}>{m.done === 'none' ? 'not begun' : m.done}</Status>}
        {w ? <span class="faint end">step {w.step} of {w.steps}</span> : null}
      </div>
      {w ? (
        <ol class="steps">
          {Array.from({ length: w.steps }, (_, i) => i + 1).map((i) => {
            const tone: Tone = i < w.step || w.state === 'done' ? 'ok' : i > w.step ? 'idle' : w.state === 'failed' ? 'bad' : 'busy';
            return (
              <li key={i}>
                <Status tone={tone}>{''}</Status>
                <span class={i === w.step ? 'strong' : tone === 'idle' ? 'faint' : 'muted'}>{i === w.step ? visible(w.title) : `step ${i}`}</span>
                <span class="t">{i === w.step ? (w.state === 'done' ? 'done' : `${w.state} ${age(now.value - w.since)}`) : ''}</span>
              </li>
            );
          })}
        </ol>
      ) : (
        <p class="pad muted">{m.waiting_on ? `${m.host} ${m.waiting_on.text}.` : 'It has no order that runs.'}</p>
      )}
      {w?.error ? (
        <div class="pad">
          <p class="t-bad strong">{visible(w.error)}</p>
          {m.waiting_on?.command ? <Remedy on={m.host}>{m.waiting_on.command}</Remedy> : null}
        </div>
      ) : null}
    </section>
  );
}

function WhyCard({ intent }: { intent: IntentView | undefined }) {
  const admins = data.value?.admins.value.value ?? [];
  if (!intent) return null;
  const who = admins.find((a) => a.admin === intent.by);
  return (
    <section class="card">
      <div class="ch">
        <h2>Why this is happening</h2>
      </div>
      <dl class="kv cb">
        <dt>Ordered by</dt>
        <dd class="row">
          {who?.keys[0] ? <Ident of={who.keys[0].key} /> : null}
          <span>
            {who?.name ?? intent.by}
            <span class="sub2 block">{who?.role ?? ''}</span>
          </span>
        </dd>
        <dt>Order</dt>
        <dd>{visible(intent.sentence)}</dd>
        <dt>Intent</dt>
        <dd class="mono">{intent.id.slice(0, 10)}…{intent.id.slice(-4)}</dd>
        {intent.at !== null ? (
          <>
            <dt>Accepted</dt>
            <dd>
              <Time at={intent.at} />
              {intent.generation !== null ? ` as generation ${intent.generation}` : ''}
            </dd>
          </>
        ) : null}
        <dt>Proof</dt>
        <dd>
          <Link to={`${sitePath('audit')}?open=${intent.index ?? ''}`}>entry {intent.index} of the audit</Link>
        </dd>
      </dl>
    </section>
  );
}

function Progress({ c, nodes }: { c: ClusterView; nodes: NodeView[] }) {
  const d = data.value;
  const events = d?.events.value ?? [];
  const intents = useLive(d?.intents) ?? [];
  const intent = intents.find((i) => i.action.startsWith('cluster.') && i.action !== 'cluster.create' && i.sentence.endsWith(c.name) && i.state !== 'rejected');
  const all: Track[] = tracks(c, events, now.value, joinStarts(c, nodes, now.value));
  const errors = c.findings.filter((f) => f.severity === 'error');
  const mine = c.members.find((m) => m.node === shown.value) ?? c.members.find((m) => m.work?.state === 'failed') ?? c.members.find((m) => m.work && m.work.state !== 'done') ?? c.members[0];
  const began = Math.min(...c.stages.map((s) => s.began ?? Infinity));
  const ends = c.stages.map((s) => s.ended ?? (s.began !== null && s.word !== 'ready' ? now.value : s.began ?? 0));
  const took = Math.max(...ends) - began;
  return (
    <>
      {c.waiting_on ? <Why waits={c.waiting_on} /> : null}
      {c.findings.length > 0 ? (
        <section class="card gap bottom">
          <div class="ch">
            <h2>Preflight</h2>
            <Status tone={errors.length > 0 ? 'bad' : 'act'}>{plural(errors.length, 'error')}, {plural(c.findings.length - errors.length, 'warning')}</Status>
          </div>
          <Findings findings={c.findings} />
        </section>
      ) : null}
      <section class="card">
        <div class="ch">
          <h2>{intent ? `${intent.sentence[0]?.toUpperCase()}${intent.sentence.slice(1)}` : 'Last change'}</h2>
          <span class="muted">{Number.isFinite(took) && took > 0 ? (isBusy(c) ? `${duration(took)} so far` : `took ${duration(took)}`) : ''}</span>
          {intent ? <code class="end faint">{intent.id.slice(0, 8)}</code> : null}
        </div>
        <div class="cb">
          <Stages c={c} />
        </div>
        {all.length > 0 ? <Timeline tracks={all} now={now.value} running={isBusy(c)} pick={(id) => (shown.value = id)} picked={mine?.node ?? null} /> : null}
      </section>
      <div class="two gap">
        {mine ? <MemberCard m={mine} /> : <span />}
        <WhyCard intent={intent} />
      </div>
    </>
  );
}

function Members({ c, nodes }: { c: ClusterView; nodes: NodeView[] }) {
  return (
    <section class="card">
      <div class="tblx">
        <table>
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Role</th>
              <th scope="col">Zone</th>
              <th scope="col">State</th>
              <th scope="col">Through</th>
              <th scope="col"><span class="vh">Actions</span></th>
            </tr>
          </thead>
          <tbody>
            {c.members.map((m) => {
              const n = nodes.find((x) => x.id === m.node);
              const tone: Tone = m.unwell.length > 0 || m.waiting_on?.code === 'step.failed' || m.waiting_on?.code === 'node.silent' ? 'bad' : m.waiting_on ? 'busy' : 'ok';
              return (
                <tr key={m.node} data-row>
                  <td><Link to={sitePath('nodes', m.host)} class="nm">{m.host}</Link></td>
                  <td class="nowrap">{roleWord(m.role)}</td>
                  <td class="nowrap">{n?.facts?.zone}</td>
                  <td>
                    <Status tone={tone}>{m.unwell.length > 0 ? 'unwell' : m.waiting_on ? 'at work' : 'well'}</Status>
                    <div class="sub2">{m.unwell.join(', ') || m.waiting_on?.text || visible(m.upkeep?.trouble ?? '')}</div>
                  </td>
                  <td>{m.done === 'none' ? '' : m.done}</td>
                  <td class="num">
                    <button type="button" class="btn sm" onClick={() => (dialog.value = { kind: 'detach', cluster: c.name, nodes: [m.node] })}>Detach</button>
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Topology({ c, nodes }: { c: ClusterView; nodes: NodeView[] }) {
  const zones = new Map<string, MemberView[]>();
  for (const m of c.members) {
    const zone = nodes.find((n) => n.id === m.node)?.facts?.zone || 'no zone';
    zones.set(zone, [...(zones.get(zone) ?? []), m]);
  }
  const cp = c.members.filter((m) => m.role === 'control-plane').length;
  const may = Math.max(0, Math.ceil(cp / 2) - 1);
  const largest = Math.max(0, ...[...zones.values()].map((list) => list.filter((m) => m.role === 'control-plane').length));
  return (
    <section class="card">
      <div class="cb">
        <p class="row wrap">
          <Status tone={may > 0 ? 'ok' : 'act'}>{may > 0 ? `Survives the loss of ${spelled(may)} control plane ${may === 1 ? 'node' : 'nodes'}` : 'Survives the loss of no control plane node'}</Status>
          <span class="muted">{largest <= may && may > 0 ? 'and of any one zone' : zones.size > 0 && cp > 0 ? 'not of every zone' : ''}</span>
        </p>
        <div class="zones">
          {[...zones].sort().map(([zone, list]) => (
            <div class="zone" key={zone}>
              <h2>{zone}</h2>
              {list.map((m) => (
                <p key={m.node} class="row between">
                  <span class="nm">{m.host}</span>
                  <span class="faint">{roleWord(m.role)}</span>
                </p>
              ))}
            </div>
          ))}
        </div>
      </div>
    </section>
  );
}

function Access({ c }: { c: ClusterView }) {
  const up = c.members.filter((m) => m.role === 'control-plane' && (m.done === 'initialize' || m.done === 'join')).length;
  const ready = c.endpoint !== null;
  return (
    <section class="card">
      <div class="cb">
        <dl class="kv">
          <dt>API server</dt>
          <dd class="mono">{c.endpoint ?? 'not yet'}</dd>
          {c.settings ? (
            <>
              <dt>Endpoints of your own</dt>
              <dd class="mono">{c.settings.endpoints.map((e, at) => (at === 0 ? `${e}:${c.settings?.port}` : e)).join(', ') || <span class="faint">none</span>}</dd>
              <dt>Pods</dt>
              <dd class="mono">{c.settings.pods}</dd>
              <dt>Services</dt>
              <dd class="mono">{c.settings.services}</dd>
            </>
          ) : null}
          <dt>State</dt>
          <dd>{ready ? plural(up, 'control plane node answers', 'control plane nodes answer') : 'Ready when the API server answers.'}</dd>
        </dl>
        <p class="muted gap">A kubeconfig is never unsealed in a page: its key stays with the terminal that asked for it.</p>
        <Cmd>{`qb cluster show ${c.name}`}</Cmd>
        {c.rehearsal ? <p class="gap"><Rehearsal /> <span class="muted">Stand-in processes: kubectl has nothing to talk to.</span></p> : null}
      </div>
    </section>
  );
}

export function ClusterPage({ name }: { name: string }) {
  const d = data.value;
  const list = d?.clusters.value.value;
  const c = list?.find((x) => x.name === name);
  const busy = c !== undefined && isBusy(c);
  useLive(d?.clusters, busy);
  const nodes = useLive(d?.nodes, busy) ?? [];
  const state = c?.state;
  useEffect(() => {
    if (state === 'ready') say(`${name} is ready`);
  }, [name, state]);
  if (!d) return null;
  if (!list) return <Loading resource={d.clusters} what="this cluster" />;
  if (!c)
    return (
      <Empty title={`There is no cluster ${name}`}>
        <Link to={sitePath('clusters')} class="btn">All clusters</Link>
      </Empty>
    );
  const pool = nodes.filter((n) => n.state === 'pool').length;
  const tabs: [string, string][] = [
    ['progress', 'Progress'],
    ['nodes', `Nodes ${c.members.length}`],
    ['topology', 'Topology'],
    ['access', 'Access'],
    ['history', 'History'],
  ];
  const tab = route.value.tab ?? (c.state === 'ready' && !busy ? 'nodes' : 'progress');
  const events = d.events.value.filter((e) => e.subject === c.name || e.text.endsWith(` ${c.name}`));
  const attach = (
    <button type="button" data-key="t" class={c.members.length === 0 ? 'btn p' : 'btn'} disabled={pool === 0 || c.state === 'deleting'} onClick={() => (dialog.value = { kind: 'attach', cluster: c.name, nodes: [] })}>
      <Icon name="plug" />
      Attach nodes
    </button>
  );
  return (
    <>
      <PageHead
        title={c.name}
        status={
          <>
            <Status tone={clusterTone(c.state, c.waiting_on)}>{c.state}</Status>
            {c.rehearsal ? <Rehearsal /> : null}
          </>
        }
        sub={`${c.driver} · ${c.version} · bundle ${c.bundle.slice(0, 8)} · generation ${c.generation}`}
      >
        {c.members.length > 0 ? attach : null}
        <button type="button" class="btn dz" onClick={() => (dialog.value = { kind: 'delete', cluster: c.name })}>Delete</button>
      </PageHead>
      <Stale resource={d.clusters} />
      {c.members.length === 0 && c.stages.length === 0 ? (
        <Empty title="This cluster exists in name only">
          <p class="muted">Attach one, three or five nodes to start its control plane. {pool === 0 ? 'None is' : `${spelled(pool)[0]?.toUpperCase()}${spelled(pool).slice(1)} ${pool === 1 ? 'is' : 'are'}`} free in the pool.</p>
          {attach}
          <Cmd>{`qb cluster attach ${c.name} -n ${pool >= 3 ? 3 : 1}`}</Cmd>
        </Empty>
      ) : (
        <>
          <nav class="tabs" aria-label={`Parts of ${c.name}`}>
            {tabs.map(([id, word]) => (
              <Link key={id} to={sitePath('clusters', c.name, id)} class={tab === id ? 'on' : ''} current={tab === id}>
                {word}
              </Link>
            ))}
          </nav>
          {tab === 'nodes' ? <Members c={c} nodes={nodes} />
            : tab === 'topology' ? <Topology c={c} nodes={nodes} />
            : tab === 'access' ? <Access c={c} />
            : tab === 'history' ? (
              events.length === 0 ? <Empty title="Nothing happened to it" /> : <section class="card"><ul>{events.map((e) => <EventRow key={e.seq} event={e} />)}</ul></section>
            ) : <Progress c={c} nodes={nodes} />}
        </>
      )}
      {narrow.value ? null : <p class="sub2 gap"><Chip tone="o">g c</Chip> all clusters</p>}
    </>
  );
}
