// Attestations: the golden vectors that Rust checks too, and what a browser makes of them over time.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { advance, fresh, judge, readSeen, Verifier, type Attested, type Seen } from '../src/signed/attest.ts';

type Vector = {
  name: string;
  site: string;
  now_ms: number;
  document: { why: string | null; checkpoint: { body: string } | null; trust: { index: number }[] };
  verdict: { unverified: string } | { attested: Seen; term: number; voters_seq: number; voters: string[]; signed: string[]; judged: { verified_age_ms: number } | { stale_since_ms: number } };
};

const path = (process.env['QB_VECTORS'] ?? '').replace(/vectors\.json$/, 'attest.json');
const { vectors } = JSON.parse(readFileSync(path, 'utf8')) as { vectors: Vector[] };
const named = (name: string): Vector => vectors.find((v) => v.name === name) ?? assert.fail(name);
const attested = async (name: string): Promise<Attested> => new Verifier(named(name).site).verify(named(name).document);

test('vectors: what stands, and why the others do not', async () => {
  assert.ok(vectors.length > 8);
  for (const v of vectors) {
    const work = new Verifier(v.site).verify(v.document);
    if ('unverified' in v.verdict) {
      await assert.rejects(work, { message: v.verdict.unverified }, v.name);
      continue;
    }
    const seen = await work;
    const { attested: want, judged } = v.verdict;
    assert.deepEqual(advance(null, seen, fresh(seen.log_time, v.now_ms)), want, v.name);
    assert.deepEqual([seen.term, seen.seq, seen.voters, seen.signed], [v.verdict.term, v.verdict.voters_seq, v.verdict.voters, v.verdict.signed], v.name);
    const verdict = judge(null, seen, v.now_ms);
    if ('stale_since_ms' in judged) assert.deepEqual(verdict, { kind: 'stale', since: judged.stale_since_ms }, v.name);
    else assert.ok(verdict.kind === 'verified' && v.now_ms - verdict.at === judged.verified_age_ms, v.name);
  }
});

test('envelopes come as they were written, with line breaks too', async () => {
  const { site, document } = named('three_voters') as Vector & { document: { charter: string } };
  const charter = JSON.stringify(JSON.parse(document.charter), null, 2) + '\n';
  const seen = await new Verifier(site).verify({ ...document, charter: charter.trimEnd() });
  assert.equal(seen.index, 812);
});

test('a document of another form is refused before anything is verified', async () => {
  const { site, document } = named('three_voters');
  const odd: [string, object][] = [
    ['a member too many', { ...document, extra: 1 }],
    ['another version', { ...document, v: 2 }],
    ['no checkpoint', { ...document, checkpoint: null }],
    ['a trust log that is cut', { ...document, trust: [] }],
    ['a trust log at another place', { ...document, trust: document.trust.map((l) => ({ ...l, index: l.index + 1 })) }],
    ['nobody let the voters in', { ...document, roster: [] }],
  ];
  for (const [name, value] of odd) await assert.rejects(new Verifier(site).verify(value), Error, name);
});

test('each byte of the checkpoint counts', async () => {
  const { site, document } = named('three_voters');
  const body = Buffer.from(document.checkpoint?.body ?? '', 'base64');
  const verifier = new Verifier(site);
  await verifier.verify(document);
  for (let at = 0; at < body.length; at += 7) {
    const bad = Buffer.from(body);
    bad[at] = (bad[at] as number) ^ 1;
    await assert.rejects(verifier.verify({ ...document, checkpoint: { ...document.checkpoint, body: bad.toString('base64') } }), Error, `byte ${at}`);
  }
});

test('S28: a frozen view is stale by this clock after 90 s, whatever the server says of its age', async () => {
  const seen = await attested('three_voters');
  const at = seen.log_time;
  assert.deepEqual(judge(null, seen, at + 90_000), { kind: 'verified', at });
  assert.deepEqual(judge(null, seen, at + 90_001), { kind: 'stale', since: at });
  // The same frozen document, seen again and again.
  const held = advance(null, seen, judge(null, seen, at));
  assert.deepEqual(judge(held, seen, at + 120_000), { kind: 'stale', since: at });
  assert.match(JSON.stringify(judge(null, seen, at - 90_001)), /ahead of this computer's clock/);
});

test('S27: two heads for one entry, two pasts, and the way back are all seen', async () => {
  const seen = await attested('three_voters');
  const now = seen.log_time + 1_000;
  const other = 'A'.repeat(43);
  const held = advance(null, seen, judge(null, seen, now)) as Seen;
  assert.deepEqual(judge({ ...held, chain_head: other }, seen, now), { kind: 'split', index: 812, what: 'heads', ours: other, theirs: seen.chain_head });
  assert.equal(judge({ ...held, state_hash: other }, seen, now).kind, 'split');
  assert.equal(judge({ ...held, index: 800, trust_head: other }, seen, now).kind, 'split');
  // A door that lags for a moment does not roll back; one that stays behind does.
  const ahead = { ...held, index: 900, log_time: held.log_time + 500 };
  assert.equal(judge(ahead, seen, now).kind, 'verified');
  assert.deepEqual(judge(ahead, seen, now + 90_000), { kind: 'back', ours: 900, theirs: 812 });
  // Nothing of that moves the memory.
  for (const memory of [ahead, { ...held, chain_head: other }]) assert.deepEqual(advance(memory, seen, judge(memory, seen, now + 90_000)), memory);
});

test('the memory is read strictly', async () => {
  const held = advance(null, await attested('three_voters'), { kind: 'verified', at: 0 }) as Seen;
  assert.deepEqual(readSeen(JSON.stringify(held)), held);
  for (const bad of ['', '{', '[]', '{"index":1}', JSON.stringify({ ...held, index: -1 }), JSON.stringify({ ...held, chain_head: 'x' }), null]) assert.equal(readSeen(bad), null);
});
