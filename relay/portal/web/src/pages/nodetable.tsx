// The table of nodes: rows in sight only where there are many, cards on a narrow page.

import { signal } from '@preact/signals';
import type { RefObject } from 'preact';
import { useRef, useState } from 'preact/hooks';
import type { NodeView } from '../api/views.ts';
import { narrow, now, route, setQuery, sitePath } from '../state/app.ts';
import { data } from '../state/data.ts';
import { cameByRelay, diskCents, loadCents, memoryCents, orderOf, type Order } from '../state/filter.ts';
import { age, size } from '../state/format.ts';
import { holdOrder } from '../state/hold.ts';
import { visible } from '../signed/strict.ts';
import { Check, Ident, Link, Meter, nodeTone, Rehearsal, ReportAge, roleWord, Status } from '../ui/parts.tsx';
import { Gap, useRows } from '../ui/window.tsx';

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

function pickAll(list: readonly NodeView[], on: boolean): void {
  const next = new Set(selected.value);
  for (const n of list)
    if (on) next.add(n.id);
    else next.delete(n.id);
  selected.value = next;
}

export function nodeWord(n: NodeView): string {
  return n.waiting_on?.code === 'node.silent' ? 'silent' : n.state;
}

/** The second line of a row: its role, or why. */
export function why(n: NodeView): string {
  const w = n.waiting_on;
  if (w) return `${visible(w.text)} · ${age(now.value - w.since)}`;
  if (n.state === 'pool') return n.roles.length > 0 ? `${n.roles.join(', ')} · ready to attach` : 'ready to attach';
  return [roleWord(n.role), ...n.roles].filter(Boolean).join(' · ');
}

const address = (n: NodeView): string => n.facts?.addresses[0] ?? '';

const meter = (value: number | null, label: string) => (value === null ? <span class="faint">not known</span> : <Meter part={value} whole={100} label={label} />);

interface RowProps {
  n: NodeView;
  list: readonly NodeView[];
  /** Its place in the whole list, from 1. */
  at: number;
}

function Row({ n, list, at }: RowProps) {
  const d = data.value;
  return (
    <tr data-row aria-rowindex={at + 1} class={selected.value.has(n.id) ? 'sel' : ''}>
      <td class="w36">
        <Check on={selected.value.has(n.id)} set={(on, range) => pick(list, n.id, on, range)} label={`Select ${n.name}`} />
      </td>
      <td>
        <Link to={sitePath('nodes', n.name)} class="nm">
          {n.name}
        </Link>
        <div class="sub2 mono">{visible(address(n))}</div>
      </td>
      <td>
        <Status tone={nodeTone(n)}>{nodeWord(n)}</Status> {n.rehearsal ? <Rehearsal /> : null}
        <div class="sub2 clip" title={why(n)}>{why(n)}</div>
      </td>
      <td class="nowrap">{visible(n.facts?.zone ?? '')}</td>
      <td class="num">{meter(loadCents(n), `Load of ${n.name}`)}</td>
      <td class="num">{meter(memoryCents(n), `Memory of ${n.name}`)}</td>
      <td class="num">{meter(diskCents(n), `Disk of ${n.name}`)}</td>
      <td class="nowrap">{visible(n.facts?.agent ?? '')}</td>
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

function WaitingRow({ n, list, at }: RowProps) {
  return (
    <tr data-row aria-rowindex={at + 1} class={selected.value.has(n.id) ? 'sel' : ''}>
      <td class="w36">
        <Check on={selected.value.has(n.id)} set={(on, range) => pick(list, n.id, on, range)} label={`Select ${n.name}`} />
      </td>
      <td>
        <Link to={sitePath('nodes', n.name)} class="nm">
          {n.name}
        </Link>
        <div class="sub2">{cameByRelay(n) ? <b class="t-act">came through the relay</b> : `knocked ${age(now.value - n.since)} ago`}</div>
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
      <td>{visible(n.facts?.os ?? '')}</td>
      <td class="mono nowrap">{visible(address(n))}</td>
    </tr>
  );
}

const COLUMNS: readonly (readonly [Order | null, string, string])[] = [
  ['name', 'Name', 'c15'],
  ['state', 'State', 'c26'],
  ['zone', 'Zone', ''],
  ['load', 'Load', 'num'],
  ['memory', 'Memory', 'num'],
  ['disk', 'Disk', 'num'],
  [null, 'Agent', ''],
  ['report', 'Last report', 'num'],
];
const WAITING = [['Name', ''], ['Fingerprint', ''], ['Cores', 'num'], ['Memory', 'num'], ['Disk', 'num'], ['System', ''], ['Address', '']] as const;

/** The head of a column that can be sorted by: the order is in the address. */
function SortHead({ order, word, cls }: { order: Order | null; word: string; cls: string }) {
  const [by, down] = orderOf(route.value.query);
  const on = order !== null && by === order;
  return (
    <th scope="col" class={cls} aria-sort={on ? (down ? 'descending' : 'ascending') : undefined}>
      {order === null ? word : (
        <button type="button" class="sort" onClick={() => setQuery('sort', on ? (down ? null : `-${order}`) : order === 'name' ? '-name' : order, false)}>
          {word}{on && (by !== 'name' || down) ? <span aria-hidden="true">{down ? ' ↓' : ' ↑'}</span> : null}
        </button>
      )}
    </th>
  );
}

/** Pixels of a row, and of a card on a narrow page: fixed where rows are left out. */
const ROW = 52;
const CARD = 112;

/** A list whose order holds still while it is pointed at, or a row of it is selected. */
function useHeld(list: readonly NodeView[]): { rows: readonly NodeView[]; moved: boolean; apply: () => void; over: (on: boolean) => void } {
  const [pointed, over] = useState(false);
  const [, again] = useState(0);
  const seen = useRef<{ order: string; ids: string[] }>({ order: '', ids: [] });
  const order = route.value.query.get('sort') ?? '';
  const held = (pointed || list.some((n) => selected.value.has(n.id))) && seen.current.order === order;
  const { rows, moved } = held ? holdOrder(seen.current.ids, list) : { rows: list, moved: false };
  seen.current = { order, ids: rows.map((n) => n.id) };
  const apply = (): void => {
    seen.current = { order, ids: list.map((n) => n.id) };
    again((n) => n + 1);
  };
  return { rows, moved, apply, over };
}

export function NodeTable({ list: given, waiting }: { list: readonly NodeView[]; waiting?: boolean }) {
  const el = useRef<HTMLElement>(null);
  const { rows: list, moved, apply, over } = useHeld(given);
  const note = moved ? (
    <p class="row sub2 pad">
      Order has changed.
      <button type="button" class="btn sm" onClick={apply}>Apply</button>
    </p>
  ) : null;
  const slim = narrow.value;
  const px = slim ? CARD : ROW;
  const { from, to, windowed } = useRows(el, list.length, px);
  const drawn = list.slice(from, to);
  if (slim)
    return (
      <>
      {note}
      <ul class={windowed ? 'cards win' : 'cards'} ref={el as RefObject<HTMLUListElement>}>
        <Gap rows={from} row={px} />
        {drawn.map((n) => (
          <Card key={n.id} n={n} list={list} />
        ))}
        <Gap rows={list.length - to} row={px} />
      </ul>
      </>
    );
  const columns = waiting ? WAITING.length + 1 : COLUMNS.length + 1;
  const One = waiting ? WaitingRow : Row;
  return (
    <div class="tblx" onPointerEnter={() => over(true)} onPointerLeave={() => over(false)}>
      {note}
      <table class={windowed ? 'win' : ''} aria-rowcount={list.length + 1}>
        <thead>
          <tr aria-rowindex={1}>
            <th class="w36" scope="col">
              <Check on={list.every((n) => selected.value.has(n.id))} set={(on) => pickAll(list, on)} label={`Select all ${list.length} of this group`} />
            </th>
            {waiting ? WAITING.map(([word, cls]) => <th key={word} scope="col" class={cls}>{word}</th>) : COLUMNS.map(([order, word, cls]) => <SortHead key={word} order={order} word={word} cls={cls} />)}
          </tr>
        </thead>
        <tbody ref={el as RefObject<HTMLTableSectionElement>}>
          <Gap rows={from} row={px} columns={columns} />
          {drawn.map((n, i) => (
            <One key={n.id} n={n} list={list} at={from + i + 1} />
          ))}
          <Gap rows={list.length - to} row={px} columns={columns} />
        </tbody>
      </table>
    </div>
  );
}
