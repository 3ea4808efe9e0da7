// Intents and events.

import { useMemo } from 'preact/hooks';
import type { IntentState, IntentView } from '../api/views.ts';
import { now, route, setQuery, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { age, plural } from '../state/format.ts';
import { through } from '../state/session.ts';
import { visible } from '../signed/strict.ts';
import { Icon } from '../ui/icons.tsx';
import { Chip, Cmd, Empty, Link, Loading, PageHead, Remedy, Stale, Status, Time, type Tone } from '../ui/parts.tsx';
import { EventRow } from './site.tsx';

const INTENT: Record<IntentState, [Tone, string]> = {
  held: ['busy', 'waits'],
  pending: ['act', 'waits for signatures'],
  doing: ['busy', 'running'],
  done: ['ok', 'done'],
  rejected: ['bad', 'refused'],
  unknown: ['idle', 'not known'],
};

const objectOf = (i: IntentView): string | null => (i.action.startsWith('cluster.') ? /(?:to|from|cluster) ([a-z0-9-]+)(?: \(.*\))?$/.exec(i.sentence)?.[1] ?? null : null);

function IntentRow({ i }: { i: IntentView }) {
  const relay = through.value === 'relay';
  const [tone, said] = INTENT[i.state];
  // What no node of the site signed is the relay's word.
  const word = relay && i.state === 'held' ? 'waits at the relay' : relay && i.state === 'unknown' ? 'the relay says' : said;
  const cluster = objectOf(i);
  const admins = data.value?.admins.value.value;
  return (
    <li class="fd" data-row tabIndex={-1}>
      <h3>
        <span class="grow">
          {cluster ? <Link to={sitePath('clusters', cluster, 'progress')}>{visible(i.sentence)}</Link> : visible(i.sentence)}
          <span class="sub2 block">
            {admins?.find((a) => a.admin === i.by)?.name ?? i.by} · <span class="mono" title={i.id}>{i.id.slice(0, 8)}</span>
            {i.at !== null ? <> · <Time at={i.at} /></> : null}
            {i.generation ? ` · generation ${i.generation}` : ''}
            {i.index !== null ? <> · <Link to={`${sitePath('audit')}?open=${i.index}`}>entry {i.index}</Link></> : null}
          </span>
        </span>
        <Status tone={tone}>{word}</Status>
      </h3>
      {i.detail ? <p>{visible(i.detail)}</p> : null}
      {(i.state === 'rejected' || i.state === 'held') && i.remedy ? <div class="ind"><Remedy>{i.remedy}</Remedy></div> : null}
      {i.waiting_on ? <p>{i.waiting_on.subject} {visible(i.waiting_on.text)}. Since {age(now.value - i.waiting_on.since)}.</p> : null}
      {i.state === 'pending' ? <div class="ind"><Cmd>{`qb intent show ${i.id}`}</Cmd></div> : null}
    </li>
  );
}

export function IntentsPage() {
  const d = data.value;
  const list = useLive(d?.intents);
  useLive(d?.admins);
  if (!d) return null;
  if (!list) return <Loading resource={d.intents} what="its intents" />;
  const groups: [string, IntentView[]][] = [
    ['Needs a signature', list.filter((i) => i.state === 'pending')],
    ['On its way', list.filter((i) => i.state === 'held' || i.state === 'unknown')],
    ['Running', list.filter((i) => i.state === 'doing')],
    ['Done', list.filter((i) => i.state === 'done')],
    ['Refused', list.filter((i) => i.state === 'rejected')],
  ];
  const open = groups.slice(0, 3).some(([, l]) => l.length > 0);
  return (
    <>
      <PageHead title="Intents" sub="What was ordered, and where it is now" />
      <Stale resource={d.intents} />
      {open ? null : <Empty title="Nothing is on its way"><p class="muted">Finished intents are proved in Audit.</p></Empty>}
      {groups.filter(([, l]) => l.length > 0).map(([title, l]) => (
        <>
          <div class="sec"><h2>{title}</h2><span class="c">{l.length}</span></div>
          <section class="card"><ul>{l.map((i) => <IntentRow key={i.digest} i={i} />)}</ul></section>
        </>
      ))}
    </>
  );
}

export function EventsPage() {
  const d = data.value;
  const all = d?.events.value ?? [];
  const filter = route.value.query.get('object') ?? '';
  const kind = route.value.query.get('kind') ?? '';
  const kinds = useMemo(() => [...new Set(all.map((e) => e.kind))].sort(), [all]);
  const list = all.filter((e) => (!kind || e.kind === kind) && (!filter || e.subject.includes(filter) || e.text.includes(filter)));
  return (
    <>
      <PageHead title="Events" sub="What happened, newest first, as the node that answers here saw it" />
      <div class="row wrap filters">
        <label class="inp">
          <Icon name="filter" small />
          <span class="vh">Filter by object</span>
          <input type="search" placeholder="a node, a cluster, a word" value={filter} onInput={(e) => setQuery('object', e.currentTarget.value)} />
        </label>
        <span class="seg" role="group" aria-label="Kind">
          {['', ...kinds].map((k) => <button key={k} type="button" class={k === kind ? 'on' : ''} aria-pressed={k === kind} onClick={() => setQuery('kind', k)}>{k || 'All'}</button>)}
        </span>
      </div>
      {list.length === 0 ? (
        <Empty title="No event matches">
          <p class="muted">{plural(all.length, 'event')} without the filter.</p>
          {filter || kind ? <button type="button" class="btn" onClick={() => { setQuery('object', null); setQuery('kind', null); }}>Clear filter</button> : null}
        </Empty>
      ) : <section class="card"><ul>{list.slice(0, 300).map((e) => <EventRow key={e.seq} event={e} />)}</ul>{list.length > 300 ? <p class="pad faint">and {list.length - 300} more: <code>qb events</code></p> : null}</section>}
      <p class="gap"><Chip tone="o">qb events --watch</Chip></p>
    </>
  );
}
