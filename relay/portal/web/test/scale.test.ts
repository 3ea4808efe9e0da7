// A thousand nodes: what is drawn of them, and what is not.

import './window.ts';
import assert from 'node:assert/strict';
import test from 'node:test';
import { holdOrder } from '../src/state/hold.ts';
import { undoOf } from '../src/state/undo.ts';
import { createElement } from 'preact';
import { render } from 'preact-render-to-string';
import type { NodeView, SiteView } from '../src/api/views.ts';
import { base64url } from '../src/signed/bytes.ts';
import { visibleIn } from '../src/signed/strict.ts';
import { route } from '../src/state/app.ts';
import { data, SiteData } from '../src/state/data.ts';
import { csvField, nodesCsv } from '../src/state/export.ts';
import { nodeFilter, orderOf, sortNodes } from '../src/state/filter.ts';
import { compare } from '../src/state/memory.ts';
import { visibleRows } from '../src/state/window.ts';
import { chartPath } from '../src/ui/chart.tsx';
import { layGrid, Mesh } from '../src/ui/mesh.tsx';
import { NodesPage } from '../src/pages/nodes.tsx';
import { NodeTable } from '../src/pages/nodetable.tsx';

const MANY = 1_000;

function node(i: number): NodeView {
  const id = new Uint8Array(32);
  new DataView(id.buffer).setUint32(0, i);
  const name = `dc-${String(i).padStart(4, '0')}`;
  const facts = { host: name, addresses: [`10.0.${i >> 8}.${i & 255}`], cores: 32, memory_bytes: 2 ** 37, disk_bytes: 1000, disk_free_bytes: 1000 - (i % 100) * 10, os: 'Debian 13', kernel: '6.12', arch: 'x86_64', agent: '1.0.0', zone: `rack-${i % 20}` };
  const silent = i % 250 === 7;
  const waits = silent ? { code: 'node.silent', subject: name, text: 'does not report', since: 0, clears: 'itself' as const, role: null, command: null, host: null, more: 0 } : null;
  return { id: base64url(id), name, words: '', fingerprint: `k7mq-2v9d-xh4t-${String(i).padStart(4, '0')}`, state: 'pool', since: 0, generation: 1, knock: null, cluster: null, role: null, rehearsal: false, roles: i < 5 ? ['voter'] : [], labels: [], facts, report_age_ms: silent ? null : 400, load_milli: (i % 64) * 500, memory_used_bytes: 2 ** 30, work: null, waiting_on: waits };
}

const nodes = Array.from({ length: MANY }, (_, i) => node(i));
const site: SiteView = { id: 'qb1x', words: '', name: 'lyon', founded: true, trust: 'settled', door: { node: '', host: 'dc-0000', agent: '1.0.0' }, head: { index: 0, hash: base64url(new Uint8Array(32)), trust: '', log_time: 0 }, voters: [], leader: null, term: 1, may_fail: 1, relays: [], counts: { waiting: 0, pool: MANY, attached: 0, detaching: 0 }, clusters: 0, waiting_on: [] };

const count = (html: string, what: RegExp): number => html.match(what)?.length ?? 0;

test('the rows in sight and a few around, never more', () => {
  assert.deepEqual(visibleRows(200, 5_000, 900, 52), [0, 200], 'a short list is whole');
  assert.deepEqual(visibleRows(1_000, 0, 900, 52), [0, 28]);
  assert.deepEqual(visibleRows(1_000, -300, 900, 52), [0, 28], 'above the list');
  assert.deepEqual(visibleRows(1_000, 5_200, 900, 52), [90, 128]);
  assert.deepEqual(visibleRows(1_000, 52_000 - 900, 900, 52), [972, 1_000]);
  const [from, to] = visibleRows(1_000, 1e9, 900, 52);
  assert.ok(from < to && to === 1_000, 'far below the list');
  for (let top = 0; top < 52_000; top += 517) {
    const [a, b] = visibleRows(1_000, top, 900, 52);
    assert.ok(a * 52 <= top && b - a <= 40, `${top}`);
    assert.ok(b === 1_000 || b * 52 >= top + 900, `${top}`);
  }
});

test('a table of a thousand nodes draws the rows in sight, and says how many there are', () => {
  const html = render(createElement(NodeTable, { list: nodes }));
  assert.ok(count(html, /<tr data-row/g) <= 40, `${count(html, /<tr data-row/g)} rows`);
  assert.ok(count(html, /<tr data-row/g) >= 17);
  assert.match(html, /aria-rowcount="1001"/);
  assert.match(html, /aria-rowindex="2"/);
  assert.match(html, /class="hole"/);
  const short = render(createElement(NodeTable, { list: nodes.slice(0, 200) }));
  assert.equal(count(short, /<tr data-row/g), 200, 'the browser finds every one of 200 rows');
  assert.doesNotMatch(short, /class="hole"/);
});

test('the page of a thousand nodes: folded, opened, filtered', () => {
  const d = new SiteData('lyon');
  d.nodes.value.value = nodes;
  d.nodes.at.value = Date.now();
  d.site.value.value = site;
  data.value = d;
  const at = (query: string): string => {
    route.value = { ...route.value, site: 'lyon', page: 'nodes', query: new URLSearchParams(query) };
    return render(createElement(NodesPage, {}));
  };
  assert.match(at(''), /Show all 1000/);
  assert.equal(count(at(''), /<tr data-row/g), 0);
  const rows = count(at('open=1'), /<tr data-row/g);
  assert.ok(rows > 0 && rows <= 40, `${rows} rows`);
  assert.equal(count(at('where=zone:rack-3&open=1'), /<tr data-row/g), 50);
  assert.match(at('where=nothing-has-this-name'), /No node matches/);
  data.value = null;
});

test('the mesh of a thousand nodes is a handful of elements, and its places do not move', () => {
  const html = render(createElement(Mesh, { site, nodes }));
  assert.ok(count(html, /<path/g) <= 8, `${count(html, /<path/g)} paths`);
  assert.ok(count(html, /<(path|rect|text|circle|a|g)\b/g) < 120);
  assert.match(html, /dc-0007/, 'what has a problem has its name');
  assert.match(html, /Names appear on hover/);
  const zones = [...new Set(nodes.map((n) => n.facts?.zone ?? ''))].sort();
  const places = (list: NodeView[]) => layGrid(zones, list, 824, 4).spots.map((s) => `${s.node.name} ${s.x} ${s.y}`).sort();
  assert.deepEqual(places(nodes), places([...nodes].reverse()));
  assert.equal(new Set(layGrid(zones, nodes, 824, 4).spots.map((s) => `${s.x} ${s.y}`)).size, MANY);
});

test('order: by the address, unknown last, equals by name', () => {
  assert.deepEqual(orderOf(new URLSearchParams('sort=-disk')), ['disk', true]);
  assert.deepEqual(orderOf(new URLSearchParams('sort=constructor')), ['name', false]);
  const by = (sort: string) => sortNodes(nodes, orderOf(new URLSearchParams({ sort }))).map((n) => n.name);
  assert.equal(by('name')[0], 'dc-0000');
  assert.equal(by('-name')[0], 'dc-0999');
  assert.deepEqual(by('-disk').slice(0, 2), ['dc-0099', 'dc-0199']);
  assert.deepEqual(by('report').slice(-4), ['dc-0007', 'dc-0257', 'dc-0507', 'dc-0757']);
  assert.deepEqual(by('-report').slice(-4), ['dc-0007', 'dc-0257', 'dc-0507', 'dc-0757']);
  assert.equal(nodes.filter(nodeFilter('zone:rack-3 disk>80') ?? (() => false)).length, 10);
});

test('texts of machines: marks that turn the writing are seen, nothing else changes', () => {
  const view = { n: 1, none: null, list: ['plain', 'a\u202eb'], facts: { zone: '<b>\u2066', ok: true } };
  assert.deepEqual(visibleIn(view), { n: 1, none: null, list: ['plain', 'a\\u{202e}b'], facts: { zone: '<b>\\u{2066}', ok: true } });
  assert.deepEqual(visibleIn(nodes[3]), nodes[3]);
});

test('CSV: quoted, and no formula', () => {
  assert.equal(csvField('a"b,c'), '"a""b,c"');
  assert.equal(csvField('=1+1'), "'=1+1");
  assert.equal(csvField('two\nlines'), '"two\nlines"');
  assert.equal(csvField(-4), '-4');
  assert.equal(csvField(null), '');
  const lines = nodesCsv(nodes).trimEnd().split('\r\n');
  assert.equal(lines.length, MANY + 1);
  assert.ok(lines.every((l) => l.split(',').length === 16));
});

test('what was seen before: further, the same, behind, another past', () => {
  const seen = (index: number, hash: string) => ({ index, hash });
  assert.deepEqual(compare(null, seen(4, 'a')), { keep: seen(4, 'a'), forked: false, behind: false });
  assert.deepEqual(compare(seen(4, 'a'), seen(5, 'b')), { keep: seen(5, 'b'), forked: false, behind: false });
  assert.deepEqual(compare(seen(4, 'a'), seen(4, 'a')), { keep: seen(4, 'a'), forked: false, behind: false });
  assert.deepEqual(compare(seen(4, 'a'), seen(3, 'x')), { keep: seen(4, 'a'), forked: false, behind: true });
  assert.deepEqual(compare(seen(4, 'a'), seen(4, 'x')), { keep: seen(4, 'a'), forked: true, behind: false });
});

test('a chart breaks its line where samples are missing', () => {
  assert.equal(chartPath([[0, 0], [15, 50], [30, 100]], 0, 30, 100, 40), 'M0.0 64.0h0L150.0 32.0L300.0 0.0');
  assert.equal(chartPath([[0, 0], [10, null], [20, 50], [30, 500]], 0, 30, 100, 40), 'M0.0 64.0h0M200.0 32.0h0L300.0 0.0');
  assert.equal(chartPath([[0, 0], [30, 100]], 0, 30, 100, 20), 'M0.0 64.0h0M300.0 0.0h0');
  assert.equal(chartPath([], 0, 30, 100, 20), '');
});


test('order holds still: gone rows leave, new ones come last, and it is said', () => {
  const rows = (text: string): { id: string }[] => Array.from(text, (id) => ({ id }));
  const text = (seen: string, next: string): string => {
    const { rows: out, moved } = holdOrder(Array.from(seen), rows(next));
    return `${out.map((r) => r.id).join('')}${moved ? '!' : ''}`;
  };
  assert.equal(text('abc', 'abc'), 'abc');
  assert.equal(text('abc', 'cab'), 'abc!');
  assert.equal(text('abc', 'ca'), 'ac!');
  assert.equal(text('abc', 'abcd'), 'abcd');
  assert.equal(text('abc', 'dabc'), 'abcd!');
  assert.equal(text('', 'ba'), 'ba');
});

test('the way back of what was signed is another plan', () => {
  const node = 'A'.repeat(43);
  assert.deepEqual(undoOf({ 'cluster.attach': { cluster: 'c', placement: { explicit: { nodes: [{ node, role: 'worker' }] } } } })?.dialog, { kind: 'detach', cluster: 'c', nodes: [node] });
  assert.deepEqual(undoOf({ 'cluster.detach': { cluster: 'c', nodes: [node] } })?.dialog, { kind: 'attach', cluster: 'c', nodes: [node] });
  assert.equal(undoOf({ 'node.authorize': { nodes: [{ node, host: 'a', knock: node }] } }), null);
});
