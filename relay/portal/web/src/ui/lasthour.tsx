// Charts of the last hour: of one node, and of a site's nodes beside each other.

import type { HistoryView, NodeView } from '../api/views.ts';
import { sitePath } from '../state/app.ts';
import { loadCents } from '../state/filter.ts';
import { useHistory } from '../state/history.ts';
import { plural } from '../state/format.ts';
import { Chart } from './chart.tsx';
import { Link, ProblemCard } from './parts.tsx';

/** Nodes that the site page draws: more are not compared by eye. */
const DRAWN = 12;

type Sample = HistoryView['samples'][number];
const part = (value: number | null, whole: number): number | null => (value === null || !(whole > 0) ? null : (value / whole) * 100);
/** As everywhere on these pages: with more work than cores it is full. */
const busy = (load: number | null, cores: number): number | null => {
  const cents = part(load, cores * 1000);
  return cents === null ? null : Math.min(100, cents);
};
const load = (n: NodeView) => (s: Sample) => busy(s.load_milli, n.facts?.cores ?? 0);
const memory = (n: NodeView) => (s: Sample) => part(s.memory_used_bytes, n.facts?.memory_bytes ?? 0);
const disk = (n: NodeView) => (s: Sample) => part(s.disk_used_bytes, n.facts?.disk_bytes ?? 0);

const NoHistory = () => <p class="faint pad">This door keeps no history, so there are no charts of the last hour.</p>;

export function NodeCharts({ n }: { n: NodeView }) {
  const history = useHistory(n.id);
  return (
    <section class="card gap">
      <div class="ch">
        <h2>Last hour</h2>
      </div>
      {history.state === 'none' ? <NoHistory /> : null}
      {history.state === 'asking' ? <p class="muted pad">Asking this door for the last hour.</p> : null}
      {history.state === 'failed' ? <ProblemCard problem={history.problem} /> : null}
      {history.state === 'there' ? (
        <div class="cb charts">
          <Chart title="Load" history={history.view} cents={load(n)} />
          <Chart title="Memory" history={history.view} cents={memory(n)} />
          <Chart title="Disk" history={history.view} cents={disk(n)} />
        </div>
      ) : null}
    </section>
  );
}

function Line({ n }: { n: NodeView }) {
  const history = useHistory(n.id);
  if (history.state !== 'there') return null;
  return (
    <li>
      <Link to={sitePath('nodes', n.name)} class="nm clip">{n.name}</Link>
      <Chart small title={`Load of ${n.name}`} history={history.view} cents={load(n)} />
      <Chart small title={`Memory of ${n.name}`} history={history.view} cents={memory(n)} />
    </li>
  );
}

/** All nodes together: sums over what they have. */
function Sum({ members }: { members: readonly NodeView[] }) {
  const history = useHistory(null);
  if (history.state !== 'there' || members.length < 2) return null;
  // A node whose size is not known would make the whole too small.
  const sum = (of: (n: NodeView) => number | undefined): number => members.reduce((all, n) => all + (of(n) ?? NaN), 0);
  const [cores, bytes] = [sum((n) => n.facts?.cores), sum((n) => n.facts?.memory_bytes)];
  // Sums of fewer nodes are held against what those have: a silent node is no load that went away.
  const heard = (s: Sample): number => (s.nodes ?? members.length) / members.length;
  return (
    <li>
      <b>All {members.length} nodes</b>
      <Chart small title="Load of all nodes" history={history.view} cents={(s) => busy(s.load_milli, cores * heard(s))} />
      <Chart small title="Memory of all nodes" history={history.view} cents={(s) => part(s.memory_used_bytes, bytes * heard(s))} />
    </li>
  );
}

export function SiteCharts({ nodes }: { nodes: readonly NodeView[] }) {
  const members = nodes.filter((n) => n.state !== 'waiting' && n.state !== 'revoked');
  // With too many to compare, those that work hardest.
  const order = (a: NodeView, b: NodeView): number => (members.length > DRAWN ? (loadCents(b) ?? 0) - (loadCents(a) ?? 0) : 0) || (a.name < b.name ? -1 : 1);
  const drawn = [...members].sort(order).slice(0, DRAWN);
  const first = drawn[0];
  if (!first) return null;
  return (
    <section class="card gap">
      <div class="ch">
        <h2>Last hour</h2>
        <span class="muted">{members.length > DRAWN ? `the ${DRAWN} busiest of ${plural(members.length, 'node')}` : ''}</span>
      </div>
      <Probe node={first}>
        <ul class="spark">
          <li class="faint sub2" aria-hidden="true"><span /><span>Load</span><span>Memory</span></li>
          <Sum members={members} />
          {drawn.map((n) => <Line key={n.id} n={n} />)}
        </ul>
      </Probe>
    </section>
  );
}

/** Asks for one history before all: a door that keeps none is asked once. */
function Probe({ node, children }: { node: NodeView; children: preact.ComponentChildren }) {
  const history = useHistory(node.id);
  if (history.state === 'none') return <NoHistory />;
  if (history.state === 'asking') return <p class="muted pad">Asking this door for the last hour.</p>;
  if (history.state === 'failed') return <ProblemCard problem={history.problem} />;
  return <>{children}</>;
}
