// The mesh, hand-laid: a place is a function of zone and name, so today's picture is yesterday's.
// Only links with a role are drawn; those of a node show while it is pointed at.

import { signal } from '@preact/signals';
import { useMemo, useState } from 'preact/hooks';
import type { NodeView, SiteView } from '../api/views.ts';
import { go, narrow, now, sitePath } from '../state/app.ts';
import { age } from '../state/format.ts';
import { list } from '../signed/sentence.ts';
import { nodeTone } from './parts.tsx';

const HEX = 'M0-9 7.8-4.5v9L0 9-7.8 4.5v-9Z';
const CROWN = 'M-3.6 2.4v-4.6l2.2 2 1.4-3 1.4 3 2.2-2v4.6Z';
const over = signal<string | null>(null);

type Drawn = { node: NodeView; x: number; y: number; w: number };

export const MeshLegend = () => (
  <span class="legend hide-s" aria-hidden="true">
    <svg viewBox="-9 -10 18 20"><path class="m-lead" d={HEX} /></svg> leader
    <svg viewBox="-9 -10 18 20"><path class="m-vote" d={HEX} /><circle class="m-dot" r="2.6" /></svg> voter
    <svg viewBox="-9 -10 18 20"><circle class="m-node" r="6.5" /></svg> node
  </span>
);

function Mark({ node }: { node: NodeView }) {
  const tone = nodeTone(node);
  if (tone === 'bad') return <path class="m-bad" d="M-5.5-5.5 5.5 5.5M5.5-5.5-5.5 5.5" />;
  if (node.roles.includes('leader'))
    return (
      <>
        <path class="m-lead" d={HEX} />
        <path class="m-crown" d={CROWN} />
      </>
    );
  if (node.roles.includes('voter'))
    return (
      <>
        <path class="m-vote" d={HEX} />
        <circle class="m-dot" r="2.6" />
      </>
    );
  if (tone === 'act') return <path class="m-act" d="M0-8 8 0 0 8-8 0Z" />;
  return <circle class={tone === 'busy' ? 'm-busy' : 'm-node'} r="6.5" />;
}

/** What is said of a node under its name. */
function line(node: NodeView, at: number): string {
  if (node.state === 'waiting') return `waiting ${age(at - node.since)}`;
  const waits = node.waiting_on;
  const role = node.roles.includes('leader') ? 'leader' : node.roles.includes('voter') ? 'voter' : '';
  const what = waits?.code === 'node.silent' ? `silent ${age(at - waits.since)}` : (node.cluster ?? node.state);
  return [role, what].filter(Boolean).join(' · ');
}

/** A relay's address without its scheme. */
const hostOf = (url: string): string => url.replace(/^https?:\/\//, '');

const zoneOf = (node: NodeView): string => node.facts?.zone || 'no zone';

export function Mesh({ site, nodes }: { site: SiteView; nodes: readonly NodeView[] }) {
  const [table, setTable] = useState(false);
  const members = useMemo(() => nodes.filter((n) => n.state !== 'waiting' && n.state !== 'revoked'), [nodes]);
  const knocking = nodes.filter((n) => n.state === 'waiting');
  const zones = [...new Set(members.map(zoneOf))].sort();
  const big = members.length > 60;
  if (members.length === 0 && knocking.length === 0) return <p class="muted">No machine has knocked yet. Install the package on a Linux machine: it finds the site by itself and shows up here within seconds.</p>;
  const leader = members.find((n) => n.roles.includes('leader'));
  const voters = members.filter((n) => n.roles.includes('voter'));
  const linked = site.relays.map((r) => `, ${r.links.length > 0 ? `linked to ${hostOf(r.url)} by ${list(r.links.map((l) => l.host))}` : `no link to ${hostOf(r.url)}`}`).join('');
  const label = `Mesh of site ${site.name}: ${zones.length} zones, leader ${leader?.name ?? 'none'}, voters ${list(voters.map((v) => v.name)) || 'none'}, ${members.length} nodes, ${knocking.length} machines knocking${linked}.`;
  return (
    <>
      {table ? <LinkTable members={members} site={site} /> : big ? <Grid zones={zones} members={members} label={label} /> : <Boxes zones={zones} members={members} knocking={knocking} leader={leader} site={site} label={label} />}
      <p class="under">
        {big && !table ? 'Names appear on hover. ' : ''}
        <button type="button" class="a" data-key="v" onClick={() => setTable(!table)}>
          {table ? 'Show the drawing' : 'Show links and roles as a table'}
        </button>
      </p>
    </>
  );
}

/** Up to 60 nodes: boxes (or rows) in zones. */
function Boxes({ zones, members, knocking, leader, site, label }: { zones: string[]; members: NodeView[]; knocking: NodeView[]; leader: NodeView | undefined; site: SiteView; label: string }) {
  const slim = narrow.value;
  const rows = members.length > 12;
  const h = rows ? 26 : 44;
  const step = rows ? 30 : 56;
  const columns = slim ? 1 : Math.min(Math.max(zones.length, 1), 4);
  const width = slim ? 362 : 824;
  const gap = 20;
  const zw = slim ? width - 14 : (width - gap * (columns - 1)) / columns;
  const placed = new Map<string, Drawn>();
  const frames: { zone: string; x: number; y: number; h: number }[] = [];
  // The relays stand above the line between internet and site; a narrow page has the table for that.
  const out = slim ? 0 : site.relays.length > 0 ? 74 : 0;
  let top = out + (slim ? 4 : 14);
  for (let at = 0; at < zones.length; at += columns) {
    const band = zones.slice(at, at + columns);
    let tallest = 0;
    const mine = band.map((zone) => {
      const inZone = members.filter((n) => zoneOf(n) === zone).sort((a, b) => Number(b.roles.length > 0) - Number(a.roles.length > 0) || (a.name < b.name ? -1 : 1));
      tallest = Math.max(tallest, slim ? Math.ceil(inZone.length / 2) : inZone.length);
      return inZone;
    });
    const zh = 34 + tallest * step;
    band.forEach((zone, i) => {
      const x = slim ? 14 : i * (zw + gap);
      frames.push({ zone, x, y: top, h: zh });
      (mine[i] as NodeView[]).forEach((node, n) => {
        const half = (zw - 28) / 2;
        const nx = slim ? x + 10 + (n % 2) * (half + 8) : x + 12;
        const ny = top + 28 + (slim ? Math.floor(n / 2) : n) * step;
        placed.set(node.id, { node, x: nx, y: ny, w: slim ? half : zw - 24 });
      });
    });
    top += zh + 14;
  }
  const knockTop = top + 20;
  const kw = slim ? (width - 22) / 2 : (width - gap * 2) / 3;
  const perRow = slim ? 2 : 3;
  knocking.slice(0, 12).forEach((node, i) => placed.set(node.id, { node, x: slim ? 14 + (i % 2) * (kw + 4) : (i % perRow) * (kw + gap), y: knockTop + Math.floor(i / perRow) * 54, w: slim ? kw - 8 : kw }));
  const height = knocking.length > 0 ? knockTop + Math.ceil(Math.min(knocking.length, 12) / perRow) * 54 : top;
  const lead = leader ? placed.get(leader.id) : undefined;
  const links = site.voters.filter((v) => !v.leader).map((v) => ({ v, to: placed.get(v.node) }));
  const curve = (a: Drawn, b: Drawn): string => {
    if (slim) return `M${a.x} ${a.y + h / 2}H7V${b.y + h / 2}H${b.x}`;
    const [l, r] = a.x <= b.x ? [a, b] : [b, a];
    if (Math.abs(a.x - b.x) < 10) return `M${a.x} ${a.y + h / 2}C${a.x - 26} ${a.y + h / 2} ${a.x - 26} ${b.y + h / 2} ${b.x} ${b.y + h / 2}`;
    const [x1, y1, x2, y2] = [l.x + l.w, l.y + h / 2, r.x, r.y + h / 2];
    if (x2 - x1 < 60) return `M${x1} ${y1}C${x1 + 20} ${y1} ${x2 - 20} ${y2} ${x2} ${y2}`;
    // Over the zones between, in the gaps beside them.
    const high = Math.min(...frames.map((f) => f.y)) - 7;
    return `M${x1} ${y1}C${x1 + 24} ${y1} ${x1 + 10} ${high} ${x1 + 44} ${high}H${x2 - 44}C${x2 - 10} ${high} ${x2 - 24} ${y2} ${x2} ${y2}`;
  };
  const hovered = over.value;
  return (
    <svg class={hovered ? 'mesh dim' : 'mesh'} viewBox={`0 0 ${width} ${height}`} width="100%" role="group" aria-label={label} onMouseLeave={() => (over.value = null)}>
      {frames.map((f) => (
        <g key={f.zone}>
          <rect class="m-zone" x={f.x} y={f.y} width={zw} height={f.h} rx="12" />
          <text class="m" x={f.x + 14} y={f.y + 19}>{f.zone}</text>
        </g>
      ))}
      {out > 0 ? <Relays site={site} width={width} placed={placed} hovered={hovered} /> : null}
      {lead
        ? links.map(({ v, to }) => (to ? <path key={v.node} class={`${v.connected ? 'm-link' : 'm-link gone'}${hovered === v.node || hovered === leader?.id ? ' on' : ''}`} d={curve(lead, to)} /> : null))
        : null}
      {[...placed.values()].map((p) => (
        <Box key={p.node.id} drawn={p} h={h} rows={rows} on={hovered === p.node.id} />
      ))}
      {knocking.length > 0 ? (
        <>
          <text class="m" x={slim ? 14 : 0} y={knockTop - 12}>Knocking</text>
          {slim ? null : <text class="f" x={64} y={knockTop - 12}>not let in, nothing of them is read but the knock{knocking.length > 12 ? `, and ${knocking.length - 12} more` : ''}</text>}
        </>
      ) : null}
    </svg>
  );
}

/** Relays above the line, with a line to each member that holds a link: the gateway's is solid. */
function Relays({ site, width, placed, hovered }: { site: SiteView; width: number; placed: Map<string, Drawn>; hovered: string | null }) {
  const relays = site.relays.slice(0, 4);
  const w = Math.min(220, (width - 20 * (relays.length - 1)) / relays.length);
  return (
    <>
      <path class="m-edge" d={`M0 62H${width}`} />
      <text class="f" x={0} y={54}>internet</text>
      <text class="f" x={0} y={76}>site</text>
      {relays.map((relay, i) => {
        const x = (width - relays.length * w - 20 * (relays.length - 1)) / 2 + i * (w + 20);
        const name = hostOf(relay.url);
        return (
          <g key={relay.key}>
            {relay.links.map((link, n) => {
              const to = placed.get(link.node);
              const from = x + w / 2 + (n - (relay.links.length - 1) / 2) * 24;
              return to ? <path key={link.node} class={`m-link out${n > 0 ? ' standby' : ''}${hovered === link.node ? ' on' : ''}`} d={`M${from} 40C${from} 70 ${to.x + to.w - 24} 56 ${to.x + to.w - 24} ${to.y}`} /> : null;
            })}
            <rect class="m-rect" x={x} y={4} width={w} height={36} rx="8" />
            <text class="b" x={x + 12} y={19}>{name.length > 26 ? `${name.slice(0, 25)}…` : name}</text>
            <text class="f" x={x + 12} y={34}>{relay.links.length > 0 ? `relay · ${list(relay.links.map((l) => l.host))}` : 'relay · no link'}</text>
          </g>
        );
      })}
    </>
  );
}

function Box({ drawn, h, rows, on }: { drawn: Drawn; h: number; rows: boolean; on: boolean }) {
  const { node, x, y, w } = drawn;
  const waiting = node.state === 'waiting';
  const tall = waiting ? 44 : h;
  const small = rows && !waiting;
  const said = line(node, now.value);
  const room = Math.floor((w - 40) / 7.1);
  const name = node.name.length > room ? `${node.name.slice(0, room - 1)}…` : node.name;
  const to = sitePath('nodes', node.name);
  return (
    <a
      href={to}
      class={on ? 'm-box on' : 'm-box'}
      onMouseEnter={() => (over.value = waiting ? null : node.id)}
      onFocus={() => (over.value = waiting ? null : node.id)}
      onBlur={() => (over.value = null)}
      onClick={(e) => {
        e.preventDefault();
        go(to);
      }}
    >
      <rect class={waiting ? 'm-rect knock' : 'm-rect'} x={x} y={y} width={w} height={tall} rx="8" />
      <g transform={`translate(${x + 18} ${y + tall / 2})`}>
        <Mark node={node} />
      </g>
      <text class="b" x={x + 36} y={small ? y + 17 : y + 18}>{name}</text>
      {small ? <text class="f" x={x + w - 10} y={y + 17} text-anchor="end">{node.roles.includes('leader') ? 'leader' : nodeTone(node) === 'ok' ? '' : (node.waiting_on?.code ?? '').split('.')[1]}</text> : <text class="f" x={x + 36} y={y + 34}>{said}</text>}
    </a>
  );
}

interface Spot {
  node: NodeView;
  x: number;
  y: number;
}

interface Laid {
  frames: { zone: string; x: number; y: number; h: number; nodes: NodeView[] }[];
  paths: Map<string, string>;
  spots: Spot[];
  bad: NodeView[];
  height: number;
}

/** Pixels from mark to mark. */
const PITCH = 18;

/** Where each node's mark is: one path a tone, so that a thousand marks are five elements. */
export function layGrid(zones: readonly string[], members: readonly NodeView[], width: number, columns: number): Laid {
  const zw = (width - 16 * (columns - 1)) / columns;
  const across = Math.floor((zw - 24) / PITCH);
  const byZone = new Map<string, NodeView[]>(zones.map((zone) => [zone, []]));
  for (const n of members) byZone.get(zoneOf(n))?.push(n);
  const laid: Laid = { frames: [], paths: new Map(), spots: [], bad: [], height: 0 };
  for (let at = 0; at < zones.length; at += columns) {
    const band = zones.slice(at, at + columns).map((zone) => ({ zone, nodes: (byZone.get(zone) ?? []).sort((a, b) => (a.name < b.name ? -1 : 1)) }));
    const h = 40 + Math.max(...band.map((b) => Math.ceil(b.nodes.length / across))) * PITCH;
    band.forEach((b, i) => laid.frames.push({ ...b, x: i * (zw + 16), y: laid.height, h }));
    laid.height += h + 14;
  }
  for (const f of laid.frames)
    f.nodes.forEach((node, i) => {
      const [x, y] = [f.x + 20 + (i % across) * PITCH, f.y + 40 + Math.floor(i / across) * PITCH];
      const tone = nodeTone(node);
      const key = node.roles.length > 0 && tone === 'ok' ? 'vote' : tone === 'ok' ? 'node' : tone;
      laid.paths.set(key, (laid.paths.get(key) ?? '') + shapeAt(key, x, y));
      laid.spots.push({ node, x, y });
      if (tone === 'bad' || tone === 'act') laid.bad.push(node);
    });
  return laid;
}

const shapeAt = (key: string, x: number, y: number): string =>
  key === 'bad' ? `M${x - 5} ${y - 5}l10 10m0-10l-10 10` : key === 'act' ? `M${x} ${y - 6}l6 6-6 6-6-6Z` : key === 'vote' ? `M${x} ${y - 6}l5.2 3v6l-5.2 3-5.2-3v-6Z` : `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0-10 0`;

/** Names shown of problems: more are counted. */
const NAMED = 12;

/** Up to 1,000 nodes: one mark a node in grids of zones; names of problems only, others when pointed at. */
function Grid({ zones, members, label }: { zones: string[]; members: NodeView[]; label: string }) {
  const slim = narrow.value;
  const width = slim ? 362 : 824;
  const columns = slim ? 1 : Math.min(zones.length, 4);
  const zw = (width - 16 * (columns - 1)) / columns;
  // Nothing of this moves with the time: it is laid anew only when the nodes change.
  const laid = useMemo(() => layGrid(zones, members, width, columns), [members, width, columns]);
  const [at, setAt] = useState<Spot | null>(null);
  const find = (e: MouseEvent): Spot | null => {
    const box = (e.currentTarget as SVGElement).getBoundingClientRect();
    const scale = width / box.width;
    const [x, y] = [(e.clientX - box.left) * scale, (e.clientY - box.top) * scale];
    return laid.spots.find((s) => Math.abs(s.x - x) <= PITCH / 2 && Math.abs(s.y - y) <= PITCH / 2) ?? null;
  };
  return (
    <>
      <svg
        class={at ? 'mesh point' : 'mesh'}
        viewBox={`0 0 ${width} ${laid.height}`}
        width="100%"
        role="img"
        aria-label={label}
        onMouseMove={(e) => setAt(find(e))}
        onMouseLeave={() => setAt(null)}
        onClick={(e) => {
          const spot = find(e);
          if (spot) go(sitePath('nodes', spot.node.name));
        }}
      >
        {laid.frames.map((f) => (
          <g key={f.zone}>
            <rect class="m-zone" x={f.x} y={f.y} width={zw} height={f.h} rx="12" />
            <text class="m" x={f.x + 14} y={f.y + 20}>{f.zone}</text>
            <text class="f" x={f.x + zw - 12} y={f.y + 20} text-anchor="end">{`${f.nodes.filter((n) => nodeTone(n) === 'ok').length} of ${f.nodes.length}`}</text>
          </g>
        ))}
        {[...laid.paths].map(([key, d]) => (
          <path key={key} class={`m-${key}`} d={d} />
        ))}
        {at ? <circle class="m-at" cx={at.x} cy={at.y} r="9" /> : null}
      </svg>
      <p class="muted" role="status">
        {at ? `${at.node.name}: ${line(at.node, now.value)}` : laid.bad.length > 0 ? `Look at ${list(laid.bad.slice(0, NAMED).map((n) => n.name))}${laid.bad.length > NAMED ? ` and ${laid.bad.length - NAMED} more` : ''}.` : 'No node has a problem.'}
      </p>
    </>
  );
}

const LinkTable = ({ members, site }: { members: NodeView[]; site: SiteView }) => (
  <div class="tblx">
    <table>
      <thead>
        <tr>
          <th scope="col">Node</th>
          <th scope="col">Zone</th>
          <th scope="col">Roles</th>
          <th scope="col">Link to {site.door.host}</th>
          {site.relays.map((r) => (
            <th scope="col" key={r.key}>Link to {hostOf(r.url)}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {members.map((n) => {
          const voter = site.voters.find((v) => v.node === n.id);
          return (
            <tr key={n.id}>
              <td>{n.name}</td>
              <td>{zoneOf(n)}</td>
              <td>{n.roles.join(', ')}</td>
              <td>{voter ? (voter.connected ? 'connected' : 'not connected') : ''}</td>
              {site.relays.map((r) => (
                <td key={r.key}>{r.links.some((l) => l.node === n.id) ? 'linked' : ''}</td>
              ))}
            </tr>
          );
        })}
      </tbody>
    </table>
  </div>
);
