// The golden vectors of the signed formats, which Rust and Python check too.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { base64url, sha256, text, u64, unbase64, unbase64url, utf8 } from '../src/signed/bytes.ts';
import { Chain, nextHead, readRecord } from '../src/signed/chain.ts';
import { verifyCharter } from '../src/signed/charter.ts';
import { COMMAND, digestOf, INTENT, LOGIN, pae, RECEIPT, TICK } from '../src/signed/dsse.ts';
import { readEntry } from '../src/signed/entry.ts';
import { digest, parseEnvelope, writeEnvelope } from '../src/signed/envelope.ts';
import { parseIntent, toPayload } from '../src/signed/intent.ts';
import { loginPayload, parseLogin } from '../src/signed/login.ts';
import { fingerprint, siteBytes, siteText, words } from '../src/signed/names.ts';
import { readReceipt } from '../src/signed/receipt.ts';
import { strict } from '../src/signed/strict.ts';
import { isGoodKey, verify } from '../src/signed/verify.ts';

type Signed = { name: string; digest: string; envelope: string; signers: string[] };
type Vectors = {
  pae: { name: string; type: string; body: string; pae: string; digest: string }[];
  charters: { envelope: string; digest: string; site: string; words: string[]; fingerprint: string }[];
  intents: Signed[];
  documents: Signed[];
  statements: { type: string; body: string; key: string; sig: string; digest: string }[];
  token_entries: { name: string; envelope: string; site: string; voter: string; node: string; token: string; mint: string; mint_index: number; valid: boolean }[];
  signatures: { name: string; key: string; type: string; body: string; sig: string; key_ok: boolean; valid: boolean }[];
  json: { form: string; name: string; bytes: string; valid: boolean }[];
  names: { bytes: string; words: string[]; fingerprint: string }[];
  chain: { site: string; records: { index: number; log_time: number; digest: string; outcome: number; generation: number; head: string }[] };
  trust_log: { charter: string; entries: { parent: string; envelope: string; digest: string; index: number; log_time: number; head: string }[] };
};

const path = process.env['QB_VECTORS'] ?? new URL('../../../../consensus/model/tests/golden/vectors.json', import.meta.url);
const vectors = JSON.parse(readFileSync(path, 'utf8')) as Vectors;

const signersOf = async (envelope: string): Promise<void> => {
  const read = parseEnvelope(utf8(envelope));
  for (const { keyid, sig } of read.signatures) {
    const [kind, key] = keyid.split(':') as ['ed25519' | 'sk-ed25519', string];
    assert.ok(await verify(kind, key, read.type, read.payload, sig), keyid);
  }
};

test('pae', async () => {
  for (const v of vectors.pae) {
    const body = new Uint8Array(Buffer.from(v.body, 'base64'));
    assert.deepEqual(pae(v.type, body), new Uint8Array(Buffer.from(v.pae, 'base64')), v.name);
    assert.equal(base64url(await digestOf(v.type, body)), v.digest, v.name);
  }
});

test('charters, their sites and words', async () => {
  for (const v of vectors.charters) {
    const { site } = await verifyCharter(utf8(v.envelope));
    assert.equal(site, v.site);
    const bytes = siteBytes(site);
    assert.ok(bytes);
    assert.equal(base64url(bytes), v.digest);
    assert.equal(siteText(bytes), v.site);
    assert.deepEqual(await words(bytes), v.words);
    assert.equal(await fingerprint(bytes), v.fingerprint);
  }
});

test('intents: digest, signatures, and the encoder writes the same bytes', async () => {
  for (const v of vectors.intents) {
    const envelope = parseEnvelope(utf8(v.envelope));
    assert.equal(envelope.type, INTENT, v.name);
    assert.equal(base64url(await digest(envelope)), v.digest, v.name);
    assert.deepEqual(envelope.signatures.map((s) => s.keyid), v.signers, v.name);
    await signersOf(v.envelope);
    assert.equal(text(toPayload(parseIntent(envelope.payload))), text(envelope.payload), v.name);
    assert.equal(text(writeEnvelope(envelope)), v.envelope, v.name);
  }
});

test('documents: the login is written and read, all are signed', async () => {
  for (const v of vectors.documents) {
    const envelope = parseEnvelope(utf8(v.envelope));
    assert.equal(base64url(await digest(envelope)), v.digest, v.name);
    await signersOf(v.envelope);
    if (v.name !== 'login') continue;
    assert.equal(envelope.type, LOGIN);
    assert.equal(text(loginPayload(parseLogin(envelope.payload))), text(envelope.payload));
  }
});

test('statements', async () => {
  for (const v of vectors.statements) {
    const body = unbase64(v.body);
    assert.ok(await verify('ed25519', v.key, v.type, body, unbase64(v.sig)));
    assert.equal(base64url(await digestOf(v.type, body)), v.digest);
  }
});

test('entries by join tokens: read with both signatures, or refused', async () => {
  assert.ok(vectors.token_entries.length > 3);
  for (const v of vectors.token_entries) {
    if (!v.valid) {
      await assert.rejects(readEntry(utf8(v.envelope)), v.name);
      continue;
    }
    const read = await readEntry(utf8(v.envelope));
    const { site, voter, node, token } = read;
    assert.deepEqual({ site, voter, node, token }, { site: v.site, voter: v.voter, node: v.node, token: v.token }, v.name);
    assert.equal(base64url(read.mint), v.mint, v.name);
    assert.equal(read.mintIndex, v.mint_index, v.name);
  }
});

test('signatures: good and bad keys, good and bad signatures', async () => {
  for (const v of vectors.signatures) {
    assert.equal(isGoodKey(unbase64url(v.key, 32)), v.key_ok, v.name);
    assert.equal(await verify('ed25519', v.key, v.type, unbase64(v.body), unbase64(v.sig)), v.valid, v.name);
  }
});

test('strict JSON', () => {
  for (const v of vectors.json) {
    const bytes = new Uint8Array(Buffer.from(v.bytes, 'base64'));
    const read = v.form === 'intent' ? parseIntent : parseEnvelope;
    if (v.valid) read(bytes);
    else assert.throws(() => read(bytes), `${v.form} ${v.name}`);
  }
});

test('words and fingerprints', async () => {
  for (const v of vectors.names) {
    const bytes = unbase64(v.bytes);
    assert.deepEqual(await words(bytes), v.words);
    assert.equal(await fingerprint(bytes), v.fingerprint);
  }
});

test('chain heads', async () => {
  let head = siteBytes(vectors.chain.site);
  assert.ok(head);
  for (const r of vectors.chain.records) {
    head = await nextHead(head, r.index, r.log_time, unbase64url(r.digest, 32), r.outcome, r.generation);
    assert.equal(base64url(head), r.head, `head ${r.index}`);
  }
});

test('trust log heads', async () => {
  const { site } = await verifyCharter(utf8(vectors.trust_log.charter));
  let head = siteBytes(site);
  assert.ok(head);
  for (const e of vectors.trust_log.entries) {
    assert.equal(base64url(head), e.parent);
    await signersOf(e.envelope);
    head = await sha256(utf8('qb/trust/1\0'), head, unbase64url(e.digest, 32), u64(e.index), u64(e.log_time));
    assert.equal(base64url(head), e.head);
  }
});

const varint = (value: number): number[] => {
  const out: number[] = [];
  let v = value;
  for (; v >= 0x80; v = Math.floor(v / 128)) out.push((v % 128) | 0x80);
  return [...out, v];
};

test('a chain of records: walked, and refused where it is broken', async () => {
  const first = vectors.intents.find((v) => v.name === 'site.found');
  const charter = vectors.charters[0];
  assert.ok(first && charter);
  const chain = await Chain.begin(charter.site, charter.envelope);
  const bytesOf = async (index: number, time: number, outcome: number[], code: number, generation: number): Promise<Uint8Array<ArrayBuffer>> => {
    const head = await nextHead(chain.head, index, time, unbase64url(first.digest, 32), code, generation);
    const body = utf8(first.envelope);
    return new Uint8Array([...varint(index), ...varint(time), ...unbase64url(first.digest, 32), ...outcome, 0, ...varint(body.length), ...body, ...head]);
  };
  const good = await bytesOf(1, 0, [1, 0, 1], 1, 1);
  const bad = good.slice();
  bad[40] = (bad[40] as number) ^ 1;
  await assert.rejects(chain.step(bad));
  await assert.rejects(chain.step(await bytesOf(2, 0, [1, 0, 1], 1, 1)), /missing/);
  await assert.rejects(chain.step(await bytesOf(1, 0, [1, 0, 2], 1, 1)), /head/);
  const entry = await chain.step(good);
  assert.equal(entry.intent?.by, 'olga');
  assert.equal(entry.signers[0]?.admin, 'olga');
  // A refusal with words that hold the same length as the body's own prefix.
  const refused = await bytesOf(2, 5, [1, 2, 7, 3, 0x61, 0x62, 0x63, 0], 3, 0);
  assert.equal((await readRecord(refused)).outcome, 3);
  assert.equal((await chain.step(refused)).record.outcome, 3);
  assert.notEqual(COMMAND, TICK);
});

test('a strict object keeps its members', () => {
  assert.deepEqual(strict(utf8('{"b":1,"a":[true,"x"]}'), 100, false), Object.assign(Object.create(null), { b: 1, a: [true, 'x'] }));
});

test('receipts: read for their own intent, refused for any other', async () => {
  const pair = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  const key = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  const [own, digest] = [new Uint8Array(32).fill(3), new Uint8Array(32).fill(5)];
  // Version, site, node, intent, accepted as generation 2, record 300, head.
  const body = new Uint8Array([1, ...own, ...key, ...digest, 0, 2, ...varint(300), ...new Uint8Array(32)]);
  const sig = new Uint8Array(await crypto.subtle.sign('Ed25519', pair.privateKey, pae(RECEIPT, body)));
  const bytes = (): string => Buffer.from([...varint(body.length), ...body, ...key, ...sig]).toString('base64');
  const [site, intent] = [siteText(own), base64url(digest)];
  assert.deepEqual(await readReceipt(bytes(), site, intent), { node: base64url(key), outcome: 'accepted', index: 300 });
  await assert.rejects(readReceipt(bytes(), site, base64url(own)), /another intent/);
  await assert.rejects(readReceipt(bytes(), siteText(digest), intent), /another site/);
  sig[0] = (sig[0] as number) ^ 1;
  await assert.rejects(readReceipt(bytes(), site, intent), /signature/);
});
