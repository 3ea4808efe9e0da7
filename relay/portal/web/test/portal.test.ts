// Formatting, filters, the stream's lines, the encoder's own rules, the timeline.

import assert from 'node:assert/strict';
import test from 'node:test';
import type { ClusterView, Event, NodeView, PackagesView, PackageView } from '../src/api/views.ts';
import { base64url, text, unbase64, unbase64url, utf8 } from '../src/signed/bytes.ts';
import { actionName, parseIntent, PORTAL_SET, toPayload, type Action, type Intent, url } from '../src/signed/intent.ts';
import { isName, labelFault, newUlid, siteText } from '../src/signed/names.ts';
import { byKey, sorted } from '../src/signed/schema.ts';
import { list, sentence, verb } from '../src/signed/sentence.ts';
import { chosen, readEndpoints, settingsFault, settingsFlags, settingsText, type Settings } from '../src/signed/settings.ts';
import { isPlain, visible } from '../src/signed/strict.ts';
import { age, clock, duration, hashGroups, plural, rfc3339, size, thousands } from '../src/state/format.ts';
import { nodeFilter } from '../src/state/filter.ts';
import { address, causes, installs, pick } from '../src/state/install.ts';
import { tracks } from '../src/state/timeline.ts';
import { lines } from '../src/ui/text.ts';
import { EventLines } from '../src/state/lines.ts';

const NB = '\u00a0';
const key = (n: number): string => base64url(new Uint8Array(32).fill(n));
const names = { host: (id: string): string | null => (id === key(1) ? 'lyon-r1-01' : null) };

const intent = (action: Action, expect: Intent['expect'] = []): Intent => ({
  v: 1,
  site: siteText(new Uint8Array(32).fill(7)),
  id: newUlid(1_800_000_000_000),
  by: 'mira',
  issued_ms: 1_800_000_000_000,
  expires_ms: 1_800_000_900_000,
  anchor: { index: 4, hash: key(9) },
  expect,
  action,
});

test('numbers and times as people read them', () => {
  assert.equal(duration(21), `21${NB}ms`);
  assert.equal(duration(400), `0.4${NB}s`);
  assert.equal(duration(41_000), `41${NB}s`);
  assert.equal(duration(59_600), `1${NB}min`);
  assert.equal(duration(130_000), `2${NB}min 10${NB}s`);
  assert.equal(duration(120_000), `2${NB}min`);
  assert.equal(duration(900_000), `15${NB}min`);
  assert.equal(duration(6 * 86_400_000), `6${NB}d`);
  assert.equal(age(14_900), `14${NB}s`);
  assert.equal(age(3 * 60_000), `3${NB}min`);
  assert.equal(size(128 * 2 ** 30), `128${NB}GiB`);
  assert.equal(size(1.8 * 2 ** 40), `1.8${NB}TiB`);
  assert.equal(size(2 ** 40), `1${NB}TiB`);
  assert.equal(size(512), `512${NB}B`);
  assert.equal(thousands(1284), '1,284');
  assert.equal(thousands(1_234_567), '1,234,567');
  assert.equal(plural(1, 'node'), '1 node');
  assert.equal(plural(3, 'entry', 'entries'), '3 entries');
  assert.equal(hashGroups('9f3c21ab7d40c5e8'), '9f3c 21ab');
  assert.equal(hashGroups('9f3c21ab7d40c5e8', 16), '9f3c 21ab 7d40 c5e8');
  const at = new Date(2026, 10, 22, 10, 41, 7).getTime();
  assert.equal(clock(at, at + 60_000), '10:41:07');
  assert.equal(clock(at, at + 86_400_000), 'yesterday 10:41');
  assert.equal(clock(at, at + 5 * 86_400_000), '22 Nov 2026 10:41');
  assert.equal(Date.parse(rfc3339(at)), at);
});

test('payloads: compact, in order, and read back the same', () => {
  const nodes = sorted([{ node: key(3), host: 'b', knock: key(5) }, { node: key(2), host: 'a', knock: key(5) }], byKey('node'));
  const all: Action[] = [
    { 'node.authorize': { nodes } },
    { 'node.label': { node: key(1), labels: [{ key: 'example.com/rack', value: 'r7' }] } },
    { 'cluster.create': { cluster: 'clus100', driver: 'rehearsal', version: '1.36.2', bundle: key(4) } },
    { 'cluster.create': { cluster: 'clus100', driver: 'kubeadm', version: '1.36.2', bundle: key(4), settings: { pods: '10.8.0.0/20', endpoints: ['k8s.example.com'], port: 8443 } } },
    { 'cluster.attach': { cluster: 'clus100', placement: { explicit: { nodes: [{ node: key(1), role: 'control-plane' }] } } } },
    { 'cluster.attach': { cluster: 'clus100', placement: { auto: { count: 3, control_plane: 0 } } } },
    { 'cluster.detach': { cluster: 'clus100', nodes: [key(1)] } },
  ];
  for (const action of all) {
    const made = intent(action, [{ object: 'cluster/clus100', generation: 3 }]);
    const bytes = toPayload(made);
    assert.equal(text(bytes), JSON.stringify(made), actionName(action));
    assert.deepEqual(toPayload(parseIntent(bytes)), bytes);
    assert.ok(PORTAL_SET.includes(actionName(action)));
  }
});

test('payloads that nobody would accept are not made', () => {
  const bad: Intent[] = [
    intent({ 'cluster.detach': { cluster: 'clus100', nodes: [key(2), key(1)] } }),
    intent({ 'cluster.detach': { cluster: 'clus100', nodes: [key(1), key(1)] } }),
    intent({ 'cluster.detach': { cluster: 'clus100', nodes: [] } }),
    intent({ 'cluster.attach': { cluster: 'Clus', placement: { auto: { count: 1, control_plane: 0 } } } }),
    intent({ 'cluster.attach': { cluster: 'c', placement: { auto: { count: 1, control_plane: 2 } } } }),
    intent({ 'cluster.attach': { cluster: 'c', placement: { auto: { count: 401, control_plane: 0 } } } }),
    intent({ 'cluster.delete': { cluster: 'c' } }),
    intent({ 'node.revoke': { node: key(1), then: 'wipe' } }, [{ object: `node/${key(1)}`, generation: 1 }]),
    { ...intent({ 'cluster.detach': { cluster: 'c', nodes: [key(1)] } }), expires_ms: 1 },
    { ...intent({ 'cluster.detach': { cluster: 'c', nodes: [key(1)] } }), note: 'a\u202eb' },
    { ...intent({ 'cluster.detach': { cluster: 'c', nodes: [key(1)] } }), by: 'Mira' },
    { ...intent({ 'cluster.detach': { cluster: 'c', nodes: [key(1)] } }), extra: 1 } as never,
  ];
  for (const one of bad) assert.throws(() => toPayload(one), JSON.stringify(one));
});

test('sentences are made from the action, and buttons name verb and count', () => {
  const attach: Action = { 'cluster.attach': { cluster: 'clus100', placement: { explicit: { nodes: [{ node: key(1), role: 'control-plane' }] } } } };
  assert.equal(sentence(attach, names), 'attach lyon-r1-01 (1 as control plane) to clus100');
  assert.equal(verb(attach), 'attach 1 node');
  assert.equal(verb({ 'cluster.detach': { cluster: 'c', nodes: [key(1), key(2)] } }), 'detach 2 nodes');
  assert.equal(list(['a', 'b', 'c', 'd', 'e']), 'a, b, c and 2 more');
});

test('settings of a cluster: what differs is written, what cannot be is named', () => {
  assert.equal(chosen({ pods: '10.244.0.0/16', services: '10.96.0.0/16', endpoints: [], port: 6443 }), undefined);
  const all: Settings = { pods: '10.8.0.0/20', services: '172.16.0.0/12', endpoints: ['k8s.example.com', '203.0.113.9'], port: 8443 };
  assert.deepEqual(chosen(all), all);
  assert.equal(settingsText(all), 'pods 10.8.0.0/20, services 172.16.0.0/12, API at k8s.example.com:8443 and 203.0.113.9');
  assert.equal(settingsFlags(all), ' --pods 10.8.0.0/20 --services 172.16.0.0/12 --endpoint k8s.example.com:8443 --endpoint 203.0.113.9');
  const create: Action = { 'cluster.create': { cluster: 'c', driver: 'kubeadm', version: '1.36.2', bundle: key(4), settings: { endpoints: ['a'] } } };
  assert.equal(sentence(create, names), 'create cluster c (kubeadm 1.36.2), API at a');
  assert.deepEqual(readEndpoints(' k8s.example.com:8443, 203.0.113.9 '), { endpoints: ['k8s.example.com', '203.0.113.9'], port: 8443 });
  assert.deepEqual(readEndpoints(''), { endpoints: [], port: 6443 });
  for (const bad of ['a:0', 'a:70000', 'a:', 'a, b:1']) assert.equal(typeof readEndpoints(bad), 'string', bad);
  const faults: [Settings, string][] = [
    [{ pods: '10.8.1.0/16' }, 'pods 10.8.1.0/16 has bits set behind its prefix: write 10.8.0.0/16'],
    [{ pods: 'x' }, 'pods x is no IPv4 network: write address and prefix length, as in 10.244.0.0/16'],
    [{ pods: '10.8.0.0/21' }, 'pods 10.8.0.0/21 has a prefix of 21 bits: choose a network of /8 to /20'],
    [{ services: '224.0.0.0/12' }, 'services 224.0.0.0/12 overlaps 224.0.0.0/4, multicast addresses: choose a private one, such as one in 10.0.0.0/8'],
    [{ pods: '10.0.0.0/8' }, "services 10.96.0.0/16 overlaps the pods' 10.0.0.0/8: choose another of the two"],
    [{ endpoints: ['A'] }, 'A is no endpoint: a host name in lower case or an IPv4 address, without port'],
    [{ pods: '10.245.0.0/16', endpoints: ['100.127.0.9'] }, 'endpoints has 100.127.0.9, which is of the network between hosts 100.127.0.0/16: name one that your computers reach'],
  ];
  for (const [s, said] of faults) assert.equal(settingsFault(s), said);
  assert.equal(settingsFault(all), null);
});

test('text that hides or reorders is shown escaped', () => {
  assert.ok(isPlain('für 東京 🦀'));
  assert.ok(!isPlain('a\u202eb'));
  assert.equal(visible('a\u202eb\u0007'), 'a\\u{202e}b\\u{7}');
});

test('bytes have one text form', () => {
  assert.throws(() => unbase64('AA='));
  assert.throws(() => unbase64('AB=='));
  assert.throws(() => unbase64('A-__'));
  assert.throws(() => unbase64url(`${'A'.repeat(42)}B`, 32));
  assert.equal(unbase64url(key(1), 32)[31], 1);
});

test('names and labels', () => {
  for (const good of ['a', 'clus100', 'a-b', 'a'.repeat(63)]) assert.ok(isName(good), good);
  for (const bad of ['', '-a', 'a-', 'A', 'a_b', 'a.b', 'a'.repeat(64), '$(x)']) assert.ok(!isName(bad), bad);
  assert.equal(labelFault('example.com/rack', 'r7'), null);
  assert.equal(labelFault('rack', ''), null);
  for (const [k, v] of [['', 'x'], ['a b', 'x'], ['rack', 'a b'], ['Example.com/rack', 'x'], ['rack', '-x']] as const) assert.ok(labelFault(k, v), `${k}=${v}`);
  assert.match(newUlid(Date.now()), /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/);
});

const node = (part: Partial<NodeView>): NodeView => ({ name: 'lyon-r1-01', id: key(1), fingerprint: 'abcd', state: 'pool', labels: [], roles: [], cluster: null, role: null, report_age_ms: 100, load_milli: 0, memory_used_bytes: 0, facts: { zone: 'rack-1', disk_bytes: 100, disk_free_bytes: 10, addresses: ['10.0.0.1'], os: 'Debian 13', cores: 4, memory_bytes: 100 }, ...part }) as NodeView;

test('the filter line', () => {
  const has = (line: string, n: NodeView): boolean | null => nodeFilter(line)?.(n) ?? null;
  assert.equal(has('', node({})), true);
  assert.equal(has('state:pool zone:rack-1 disk>80', node({})), true);
  assert.equal(has('disk<80', node({})), false);
  assert.equal(has('os:debian lyon', node({})), true);
  assert.equal(has('silent>1m', node({ report_age_ms: 61_000 })), true);
  assert.equal(has('silent>1m', node({})), false);
  assert.equal(has('10.0.0', node({})), true);
  assert.equal(nodeFilter('colour:red'), null);
});

test('the lines of the event stream, however they are cut', () => {
  const whole = utf8(': open\n\nid: 1\nevent: node\ndata: {"text":"für"}\n\r\n: beat\n\ndata:a\ndata:b\n\n');
  for (let size = 1; size < whole.length; size++) {
    const got: string[] = [];
    const read = new EventLines((data) => got.push(data));
    for (let at = 0; at < whole.length; at += size) read.push(whole.subarray(at, at + size));
    assert.deepEqual(got, ['{"text":"für"}', 'a\nb'], `pieces of ${size}`);
  }
});

test('signed bytes are set out without a change but white space', () => {
  const json = '{"a":{"b":[1,2,{}],"c":"x,{}:\\"y"},"d":[]}';
  assert.deepEqual(JSON.parse(lines(json)), JSON.parse(json));
  assert.equal(lines(json).split('\n').map((l) => l.trim()).join('').replace(/": /g, '":'), json);
});

test('the timeline: ran, waited, runs', () => {
  const cluster = {
    name: 'c',
    state: 'initializing',
    stages: [
      { word: 'prepare', began: 1_000, ended: 2_000, done: 2, of: 2 },
      { word: 'initialize', began: 2_000, ended: 5_000, done: 1, of: 1 },
      { word: 'join', began: 5_000, ended: null, done: 0, of: 2 },
    ],
    members: [
      { node: key(1), host: 'a', role: 'control-plane', done: 'initialize', work: null, unwell: [], waiting_on: null },
      { node: key(2), host: 'b', role: 'control-plane', done: 'prepare', work: { stage: 'join', step: 2, steps: 4, title: 't', state: 'applying', since: 6_000, error: null }, unwell: [], waiting_on: null },
    ],
  } as unknown as ClusterView;
  const told = (at: number, host: string, word: string): Event => ({ seq: at, at, kind: 'node', subject: host, text: `${host} is through ${word} of c` });
  const events = [told(1_800, 'a', 'prepare'), told(1_900, 'b', 'prepare'), told(5_000, 'a', 'initialize')];
  const [a, b] = tracks(cluster, events, 7_000, new Map());
  assert.deepEqual(a?.bars.map((x) => [x.kind, x.from, x.to]), [['ok', 1_000, 1_800], ['ok', 2_000, 5_000]]);
  assert.deepEqual(b?.bars.map((x) => [x.kind, x.from, x.to]), [['ok', 1_000, 1_900], ['hold', 1_900, 5_000], ['busy', 5_000, 7_000]]);
});

test('addresses of relays, as Rust takes them', () => {
  for (const good of ['https://relay.example', 'https://[::1]:8443/x', 'http://localhost', 'http://localhost:18554', 'http://127.0.0.1:1/a']) url.check(good, good);
  for (const bad of ['https://', 'https:///x', 'https://:1', 'http://relay.example', 'http://localhost.example', 'https://a@b', 'https://a?b'])
    assert.throws(() => url.check(bad, bad), bad);
});

test('packages: the one for the machine, where it lies, and why nobody knocks', () => {
  const one = (format: string, arch: string): PackageView => ({ format, arch, version: '0.1.0-1', path: `/packages/qb1x/qb-agent.${format}`, file: `x.${format}`, size: 1, sha256: 'aa' });
  const view: PackagesView = { url: 'https://relay.example', packages: [one('deb', 'arm64'), one('deb', 'amd64'), one('rpm', 'x86_64')], line: 'sh' };
  assert.equal(pick(view, 'deb')?.arch, 'amd64');
  assert.equal(pick(view, 'rpm')?.arch, 'x86_64');
  assert.equal(pick({ ...view, packages: [] }, 'deb'), null);
  assert.equal(pick(undefined, 'rpm'), null);
  assert.equal(address(view, one('deb', 'amd64')), 'https://relay.example/packages/qb1x/qb-agent.deb');
  for (const url of [null, '', 'javascript:alert(1)//', 'data:x', '//other.example']) assert.equal(address({ ...view, url }, one('deb', 'amd64')), null);
  assert.equal(address(view, { ...one('deb', 'amd64'), path: '@other.example/x' }), null);
  assert.equal(installs('deb', 'x.deb'), 'sudo apt-get install ./x.deb');
  assert.equal(installs('rpm', 'x.rpm'), 'sudo dnf install ./x.rpm');
  for (const relay of [null, 'https://relay.example', 'http://localhost:8480']) assert.equal(causes(relay, 'lyon').length, 3);
  assert.match(causes('https://relay.example', 'lyon')[0]?.what ?? '', /relay\.example on port 443$/);
  assert.match(causes('https://relay.example:8443', 'lyon')[0]?.what ?? '', /to relay\.example on port 8443$/);
  assert.match(causes(null, 'lyon')[0]?.what ?? '', /port 7444$/);
});
