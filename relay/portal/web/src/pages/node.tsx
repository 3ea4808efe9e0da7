// A node: what is this machine, why is it in this state?

import type { NodeView } from '../api/views.ts';
import { dialog, now, route, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { diskCents, diskOf, loadCents, memoryCents } from '../state/filter.ts';
import { age, duration, plural, size } from '../state/format.ts';
import { visible } from '../signed/strict.ts';
import { Icon } from '../ui/icons.tsx';
import { Chip, Cmd, Copy, Empty, Ident, Link, Loading, Meter, nodeTone, PageHead, Rehearsal, ReportAge, roleWord, Stale, Status, Why } from '../ui/parts.tsx';
import { NodeCharts } from '../ui/lasthour.tsx';
import { EventRow } from './site.tsx';
import { nodeWord } from './nodetable.tsx';

const TABS = [
  ['now', 'Now'],
  ['facts', 'Facts'],
  ['history', 'History'],
] as const;

function Now({ n }: { n: NodeView }) {
  const d = data.value;
  const disk = diskOf(n);
  const value = (v: number | null, what: string) => (v === null ? <span class="faint">not known</span> : <Meter part={v} whole={100} label={what} />);
  return (
    <div class="two">
      <section class="card">
        <div class="ch">
          <h2>Now</h2>
          <span class="faint end">
            last report <ReportAge node={n} fetched={d?.nodes.at.value ?? 0} />
          </span>
        </div>
        <dl class="kv cb">
          <dt>Load</dt>
          <dd class="row">
            {value(loadCents(n), 'Load')}
            <span class="faint">{n.load_milli !== null ? `${(n.load_milli / 1000).toFixed(2)} over one minute` : ''}</span>
          </dd>
          <dt>Memory</dt>
          <dd class="row">
            {value(memoryCents(n), 'Memory')}
            <span class="faint">{n.facts && n.memory_used_bytes !== null ? `${size(n.memory_used_bytes)} of ${size(n.facts.memory_bytes)}` : ''}</span>
          </dd>
          <dt>Disk</dt>
          <dd class="row">
            {value(diskCents(n), 'Disk')}
            <span class="faint">{disk ? `${size(disk.free)} free of ${size(disk.whole)}` : ''}</span>
          </dd>
          <dt>Up</dt>
          <dd>{n.uptime_s != null ? duration(n.uptime_s * 1000) : <span class="faint">not known</span>}</dd>
          <dt>Zone</dt>
          <dd>{n.facts?.zone || <span class="faint">not known</span>}</dd>
          <dt>Cluster</dt>
          <dd>
            {n.cluster ? (
              <>
                <Link to={sitePath('clusters', n.cluster)}>{n.cluster}</Link>, {roleWord(n.role)}
              </>
            ) : (
              <span class="faint">in none</span>
            )}
          </dd>
          <dt>Labels</dt>
          <dd class="row wrap">{n.probation ? <Chip tone="o">on probation: qb node authorize {visible(n.name)}</Chip> : null}{n.labels.length === 0 ? <span class="faint">none</span> : n.labels.map((l) => <Chip key={l} tone="o">{visible(l)}</Chip>)}</dd>
        </dl>
      </section>
      <section class="card">
        <div class="ch">
          <h2>Identity</h2>
        </div>
        <div class="cb">
          <p class="row">
            <Ident of={n.id} big />
            <code>{n.fingerprint}</code>
          </p>
          <p class="words6">{n.words}</p>
          <p class="sub2">The same as <code>qb-agent id</code> prints on the machine.</p>
          <p class="row clip">
            <code class="clip">{n.id}</code>
            <Copy text={n.id} label="Copy the node's key" />
          </p>
        </div>
      </section>
    </div>
  );
}

function FactsTab({ n }: { n: NodeView }) {
  const f = n.facts;
  if (!f) return <Empty title="No facts yet"><p class="muted">This node has not reported to the node that answers here.</p></Empty>;
  const rows: [string, string][] = [
    ['Host name', f.host],
    ['Addresses', f.addresses.join(', ')],
    ['Cores', String(f.cores)],
    ['Memory', size(f.memory_bytes)],
    ['Disk', `${size(f.disk_bytes)}, ${size(f.disk_free_bytes)} free`],
    ['System', f.os],
    ['Kernel', f.kernel],
    ['Architecture', f.arch],
    ['Agent', f.agent],
    ['Zone', f.zone || 'not known'],
  ];
  return (
    <section class="card">
      <dl class="kv cb">
        {rows.map(([k, v]) => (
          <>
            <dt>{k}</dt>
            <dd>{visible(v)}</dd>
          </>
        ))}
      </dl>
    </section>
  );
}

export function NodePage({ name }: { name: string }) {
  const d = data.value;
  const all = useLive(d?.nodes);
  const site = useLive(d?.site);
  if (!d) return null;
  if (!all) return <Loading resource={d.nodes} what="this node" />;
  const n = all.find((x) => x.name === name || x.id === name || x.fingerprint === name);
  if (!n)
    return (
      <Empty title={`There is no node ${name}`}>
        <Link to={sitePath('nodes')} class="btn">All nodes</Link>
      </Empty>
    );
  const tab = route.value.tab ?? 'now';
  const events = d.events.value.filter((e) => e.subject === n.name);
  return (
    <>
      <PageHead
        title={n.name}
        status={
          <>
            <Status tone={nodeTone(n)}>{nodeWord(n)}</Status>
            {n.rehearsal ? <Rehearsal /> : null}
          </>
        }
        sub={
          <>
            {n.roles.length > 0 ? `${n.roles.join(', ')} · ` : ''}since {age(now.value - n.since)} · <code>{n.fingerprint}</code>
          </>
        }
      >
        {n.state === 'waiting' && site?.founded ? (
          <button type="button" class="btn p" data-key="a" onClick={() => (dialog.value = { kind: 'authorize', nodes: [n.id] })}>
            <Icon name="pen-line" />
            Authorize 1 node
          </button>
        ) : null}
        {n.state === 'pool' && d.clusters.value.value?.[0] ? (
          <button type="button" class="btn p" data-key="t" onClick={() => (dialog.value = { kind: 'attach', cluster: d.clusters.value.value?.[0]?.name ?? '', nodes: [n.id] })}>
            <Icon name="plug" />
            Attach
          </button>
        ) : null}
        {n.state === 'attached' && n.cluster ? (
          <button type="button" class="btn" onClick={() => (dialog.value = { kind: 'detach', cluster: n.cluster ?? '', nodes: [n.id] })}>
            Detach
          </button>
        ) : null}
        {n.state === 'pool' || n.state === 'attached' ? (
          <>
            <button type="button" class="btn" onClick={() => (dialog.value = { kind: 'label', node: n.id })}>
              Label
            </button>
            <button type="button" class="btn dz" onClick={() => (dialog.value = { kind: 'revoke', node: n.id })}>
              Revoke
            </button>
          </>
        ) : null}
      </PageHead>
      <Stale resource={d.nodes} />
      {n.waiting_on ? <Why waits={n.waiting_on} /> : null}
      {n.work ? (
        <section class="card gap bottom">
          <div class="cb row wrap">
            <Status tone={n.work.state === 'failed' ? 'bad' : n.work.state === 'done' ? 'ok' : 'busy'}>{n.work.stage}</Status>
            <span class="grow">
              step {n.work.step} of {n.work.steps}: {visible(n.work.title)}
            </span>
            <span class="faint">{n.work.state}, {age(now.value - n.work.since)}</span>
          </div>
        </section>
      ) : null}
      <nav class="tabs" aria-label={`Parts of ${n.name}`}>
        {TABS.map(([id, word]) => (
          <Link key={id} to={id === 'now' ? sitePath('nodes', n.name) : sitePath('nodes', n.name, id)} class={tab === id ? 'on' : ''} current={tab === id}>
            {word}
          </Link>
        ))}
      </nav>
      {tab === 'facts' ? (
        <FactsTab n={n} />
      ) : tab === 'history' ? (
        events.length === 0 ? (
          <Empty title="Nothing happened to it">
            <p class="muted">Since this door was started, no event names {n.name}.</p>
          </Empty>
        ) : (
          <section class="card">
            <ul>{events.map((e) => <EventRow key={e.seq} event={e} />)}</ul>
          </section>
        )
      ) : (
        <>
          <Now n={n} />
          {n.state === 'waiting' || n.state === 'revoked' ? null : <NodeCharts n={n} />}
        </>
      )}
      {n.state === 'revoked' ? <p class="muted">Revoked {age(now.value - n.since)} ago. Its key never comes back; who ordered it stands in the audit.</p> : null}
      <div class="gap">
        <div class="lbl">Same thing in a terminal</div>
        <Cmd>{`qb node show ${n.name}`}</Cmd>
        <p class="sub2">{plural(n.labels.length, 'label')} · generation {n.generation}</p>
      </div>
    </>
  );
}
