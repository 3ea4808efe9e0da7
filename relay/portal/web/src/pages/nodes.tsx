// Nodes: which machines do I have, which knock?

import { signal } from '@preact/signals';
import { useMemo } from 'preact/hooks';
import type { NodeView } from '../api/views.ts';
import { dialog, narrow, now, route, setQuery, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { diskCents, loadCents, memoryCents, nodeFilter } from '../state/filter.ts';
import { age, plural, size } from '../state/format.ts';
import { Icon } from '../ui/icons.tsx';
import { Check, Cmd, Empty, Ident, isOld, Link, Loading, Meter, nodeTone, PageHead, Rehearsal, ReportAge, roleWord, Stale, Status } from '../ui/parts.tsx';

/** Selected nodes by id. */
export const selected = signal<ReadonlySet<string>>(new Set());
let lastPicked: string | null = null;

function pick(list: readonly NodeView[], id: string, on: boolean, range: boolean): void {
  const next = new Set(selected.value);
  const ids = list.map((n) => n.id);
  const [a, b] = [ids.indexOf(lastPicked ?? ''), ids.indexOf(id)];
  const these = range && a >= 0 ? ids.slice(Math.min(a, b), Math.max(a, b) + 1) : [id];
  for (const one of these) if (on) next.add(one);
    else next.delete(one);
  lastPicked = id;
  selected.value = next;
}

export function nodeWord(n: NodeView): string {
  return n.waiting_on?.code === 'node.silent' ? 'silent' : n.state;
}

/** The second line of a row: its role, or why. */
export function why(n: NodeView): string {
  const w = n.waiting_on;
  if (w) return `${w.text} · ${age(now.value - w.since)}`;
  if (n.state === 'pool') return n.roles.length > 0 ? `${n.roles.join(', ')} · ready to attach` : 'ready to attach';
  return [roleWord(n.role), ...n.roles].filter(Boolean).join(' · ');
}

const address = (n: NodeView): string => n.facts?.addresses[0] ?? '';

const meter = (value: number | null, label: string) => (value === null ? <span class="faint">not known</span> : <Meter part={value} whole={100} label={label} />);

function Row({ n, list }: { n: NodeView; list: readonly NodeView[] }) {
  const d = data.value;
  return (
    <tr data-row class={selected.value.has(n.id) ? 'sel' : ''}>
      <td class="w36">
        <Check on={selected.value.has(n.id)} set={(on, range) => pick(list, n.id, on, range)} label={`Select ${n.name}`} />
      </td>
      <td>
        <Link to={sitePath('nodes', n.name)} class="nm">
          {n.name}
        </Link>
        <div class="sub2 mono">{address(n)}</div>
      </td>
      <td>
        <Status tone={nodeTone(n)}>{nodeWord(n)}</Status> {n.rehearsal ? <Rehearsal /> : null}
        <div class="sub2 clip" title={why(n)}>{why(n)}</div>
      </td>
      <td class="nowrap">{n.facts?.zone}</td>
      <td class="num">{meter(loadCents(n), `Load of ${n.name}`)}</td>
      <td class="num">{meter(memoryCents(n), `Memory of ${n.name}`)}</td>
      <td class="num">{meter(diskCents(n), `Disk of ${n.name}`)}</td>
      <td class="nowrap">{n.facts?.agent}</td>
      <td class="num nowrap">
        <ReportAge node={n} fetched={d?.nodes.at.value ?? 0} />
      </td>
    </tr>
  );
}

function Card({ n, list }: { n: NodeView; list: readonly NodeView[] }) {
  const waiting = n.state === 'waiting';
  return (
    <li data-row>
      <div class="row between">
        <span class="row">
          <Check on={selected.value.has(n.id)} set={(on, range) => pick(list, n.id, on, range)} label={`Select ${n.name}`} />
          <Link to={sitePath('nodes', n.name)} class="nm">
            {n.name}
          </Link>
        </span>
        <Status tone={nodeTone(n)}>{nodeWord(n)}</Status>
      </div>
      <div class="sub2">
        {waiting
          ? [`knocked ${age(now.value - n.since)} ago`, n.facts ? `${n.facts.cores} cores` : '', n.facts ? size(n.facts.memory_bytes) : '', n.facts?.os].filter(Boolean).join(' · ')
          : [address(n), n.facts?.zone, diskCents(n) !== null ? `disk ${diskCents(n)} %` : ''].filter(Boolean).join(' · ')}
      </div>
      {waiting ? (
        <div class="row">
          <Ident of={n.id} />
          <code>{n.fingerprint}</code>
        </div>
      ) : (
        <div class="sub2">{why(n)}</div>
      )}
    </li>
  );
}

function Table({ list, waiting }: { list: readonly NodeView[]; waiting?: boolean }) {
  if (narrow.value)
    return (
      <ul class="cards">
        {list.map((n) => (
          <Card key={n.id} n={n} list={list} />
        ))}
      </ul>
    );
  const all = list.every((n) => selected.value.has(n.id));
  const head = (
    <th class="w36" scope="col">
      <Check
        on={all}
        set={(on) => {
          const next = new Set(selected.value);
          for (const n of list) if (on) next.add(n.id);
            else next.delete(n.id);
          selected.value = next;
        }}
        label="Select all of this group"
      />
    </th>
  );
  return (
    <div class="tblx">
      <table>
        <thead>
          {waiting ? (
            <tr>
              {head}
              <th scope="col">Name</th>
              <th scope="col">Fingerprint</th>
              <th scope="col" class="num">Cores</th>
              <th scope="col" class="num">Memory</th>
              <th scope="col" class="num">Disk</th>
              <th scope="col">System</th>
              <th scope="col">Address</th>
            </tr>
          ) : (
            <tr>
              {head}
              <th scope="col" class="c15">Name</th>
              <th scope="col" class="c26">State</th>
              <th scope="col">Zone</th>
              <th scope="col" class="num">Load</th>
              <th scope="col" class="num">Memory</th>
              <th scope="col" class="num">Disk</th>
              <th scope="col">Agent</th>
              <th scope="col" class="num">Last report</th>
            </tr>
          )}
        </thead>
        <tbody>
          {list.map((n) =>
            waiting ? (
              <tr key={n.id} data-row class={selected.value.has(n.id) ? 'sel' : ''}>
                <td class="w36">
                  <Check on={selected.value.has(n.id)} set={(on, range) => pick(list, n.id, on, range)} label={`Select ${n.name}`} />
                </td>
                <td>
                  <Link to={sitePath('nodes', n.name)} class="nm">
                    {n.name}
                  </Link>
                  <div class="sub2">knocked {age(now.value - n.since)} ago</div>
                </td>
                <td>
                  <span class="row">
                    <Ident of={n.id} />
                    <code class="nowrap">{n.fingerprint}</code>
                  </span>
                </td>
                <td class="num">{n.facts?.cores}</td>
                <td class="num nowrap">{n.facts ? size(n.facts.memory_bytes) : ''}</td>
                <td class="num nowrap">{n.facts ? size(n.facts.disk_bytes) : ''}</td>
                <td>{n.facts?.os}</td>
                <td class="mono nowrap">{address(n)}</td>
              </tr>
            ) : (
              <Row key={n.id} n={n} list={list} />
            ),
          )}
        </tbody>
      </table>
    </div>
  );
}

function Section({ title, status, note, list, children, waiting }: { title: string; status?: preact.ComponentChildren; note?: string; list: NodeView[]; children?: preact.ComponentChildren; waiting?: boolean }) {
  const folded = list.length > 50 && !route.value.query.has('open');
  return (
    <>
      <div class="sec">
        <h2>{title}</h2>
        {status}
        <span class="c">{note}</span>
        <span class="end row">{children}</span>
      </div>
      <section class="card">
        {folded ? (
          <p class="pad row">
            <span class="grow muted">{plural(list.length, 'node')}, {list.filter((n) => nodeTone(n) === 'ok').length} well</span>
            <button type="button" class="btn sm" onClick={() => setQuery('open', '1', false)}>Show all {list.length}</button>
          </p>
        ) : (
          <Table list={list} {...(waiting ? { waiting } : {})} />
        )}
      </section>
    </>
  );
}

export function NodesPage() {
  const d = data.value;
  const all = useLive(d?.nodes);
  const site = useLive(d?.site);
  const line = route.value.query.get('where') ?? '';
  const test = useMemo(() => nodeFilter(line), [line]);
  if (!d) return null;
  if (!all) return <Loading resource={d.nodes} what="its nodes" />;
  const list = test ? all.filter(test) : all;
  const waiting = list.filter((n) => n.state === 'waiting');
  const pool = list.filter((n) => n.state === 'pool');
  const revoked = list.filter((n) => n.state === 'revoked');
  const inClusters = new Map<string, NodeView[]>();
  for (const n of list)
    if (n.state === 'attached' || n.state === 'detaching') {
      const name = n.cluster ?? 'leaving';
      inClusters.set(name, [...(inClusters.get(name) ?? []), n]);
    }
  const chosen = all.filter((n) => selected.value.has(n.id));
  const chosenWaiting = chosen.filter((n) => n.state === 'waiting');
  const chosenPool = chosen.filter((n) => n.state === 'pool');
  const toAuthorize = chosenWaiting.length > 0 ? chosenWaiting : waiting;
  const clusters = d.clusters.value.value ?? [];
  const target = clusters[0];
  const cores = pool.reduce((s, n) => s + (n.facts?.cores ?? 0), 0);
  const memory = pool.reduce((s, n) => s + (n.facts?.memory_bytes ?? 0), 0);
  const members = all.filter((n) => n.state !== 'waiting' && n.state !== 'revoked').length;
  const knocking = all.filter((n) => n.state === 'waiting').length;
  return (
    <div class={isOld(d.nodes as never) ? 'oldpage' : ''}>
      <PageHead
        title="Nodes"
        status={knocking > 0 ? <Status tone="act">{plural(knocking, 'machine waits', 'machines wait')}</Status> : null}
        sub={`${plural(members, 'node')}, ${knocking} knocking`}
      >
        <Link to={sitePath('add')} class="btn">
          <Icon name="package-plus" />
          Add machines
        </Link>
        {toAuthorize.length > 0 && site?.founded ? (
          <button type="button" class="btn p" onClick={() => (dialog.value = { kind: 'authorize', nodes: toAuthorize.map((n) => n.id) })}>
            <Icon name="pen-line" />
            Authorize {plural(toAuthorize.length, 'node')}
          </button>
        ) : null}
      </PageHead>
      <Stale resource={d.nodes} />
      <div class="row wrap filters">
        <label class="inp">
          <Icon name="filter" small />
          <span class="vh">Filter</span>
          <input
            type="search"
            placeholder="state:waiting zone:rack-1 disk>80"
            value={line}
            spellcheck={false}
            autocomplete="off"
            onInput={(e) => setQuery('where', e.currentTarget.value)}
          />
        </label>
        {test === null ? <span class="t-act">A term is not known. Terms: state zone cluster role label os disk mem cpu silent.</span> : null}
        {line && test ? <span class="faint">{list.length} of {all.length}</span> : null}
        {line ? (
          <button type="button" class="btn sm q" onClick={() => setQuery('where', null)}>
            Clear filter
          </button>
        ) : null}
      </div>
      {chosen.length > 0 ? (
        <div class="bulk" role="region" aria-label="Selected nodes">
          <b>{chosen.length} selected</b>
          {chosenPool.length > 0 && target ? (
            <button type="button" class="btn sm" onClick={() => (dialog.value = { kind: 'attach', cluster: target.name, nodes: chosenPool.map((n) => n.id) })}>
              <Icon name="plug" small />
              Attach {plural(chosenPool.length, 'node')}
            </button>
          ) : null}
          <button type="button" class="btn sm q" onClick={() => (selected.value = new Set())}>
            Select none
          </button>
        </div>
      ) : null}
      {all.length === 0 ? (
        <Empty title="No machine has knocked yet">
          <p class="muted">Install the package on a Linux machine. It finds the site by itself and shows up here within seconds.</p>
        </Empty>
      ) : list.length === 0 ? (
        <Empty title="No node matches">
          <p class="muted">{plural(all.length, 'node')} without the filter.</p>
          <button type="button" class="btn" onClick={() => setQuery('where', null)}>Clear filter</button>
        </Empty>
      ) : null}
      {waiting.length > 0 ? (
        <Section title="Waiting" note="Compare each fingerprint with the machine: qb-agent id" list={waiting} waiting>
          {site && !site.founded ? <span class="faint">The first authorize founds the site, in a terminal</span> : null}
        </Section>
      ) : null}
      {waiting.length > 0 && site && !site.founded ? <Cmd>qb node authorize --waiting</Cmd> : null}
      {pool.length > 0 ? (
        <Section title="Pool" note={`${plural(pool.length, 'node')} · ${plural(cores, 'core')} · ${size(memory)}`} list={pool}>
          {target ? (
            <button type="button" class="btn sm" onClick={() => (dialog.value = { kind: 'attach', cluster: target.name, nodes: chosenPool.map((n) => n.id) })}>
              Attach to a cluster
            </button>
          ) : null}
        </Section>
      ) : null}
      {[...inClusters].sort().map(([name, nodes]) => (
        <Section key={name} title={name} note={plural(nodes.length, 'node')} list={nodes}>
          <Link to={sitePath('clusters', name)} class="btn sm">
            Open {name}
          </Link>
        </Section>
      ))}
      {revoked.length > 0 ? <Section title="Revoked" note="out for good" list={revoked} /> : null}
    </div>
  );
}
