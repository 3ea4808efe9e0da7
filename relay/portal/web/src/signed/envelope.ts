// The DSSE envelope: exact payload bytes, their type, 1 to 16 signatures.

import { base64, unbase64, utf8, type Bytes } from './bytes.ts';
import { digestOf, TYPES } from './dsse.ts';
import { obj, str, type Form } from './schema.ts';
import { text } from './names.ts';
import { strict, type Json } from './strict.ts';

const ENVELOPE_BYTES = 96 * 1024;
const PAYLOAD_BYTES = 64 * 1024;
const SIGNATURES = 16;

export interface Signature {
  keyid: string;
  sig: Bytes;
}

export interface Envelope {
  type: string;
  payload: Bytes;
  signatures: Signature[];
}

const b64: Form = str((v) => unbase64(v) !== null, 'base64');
const line = obj({ keyid: text(0, 128), sig: b64 });
const lines: Form = {
  check: (v, where) => {
    if (!Array.isArray(v) || v.length < 1 || v.length > SIGNATURES) throw new Error(`${where} must be 1 to ${SIGNATURES}`);
    v.forEach((e, i) => line.check(e, `${where}[${i}]`));
  },
  write: (v) => `[${(v as Json[]).map((e) => line.write(e)).join(',')}]`,
};
const FORM = obj({ payload: b64, payloadType: str((v) => TYPES.has(v), 'a known payload type'), signatures: lines });

export function parseEnvelope(bytes: Uint8Array): Envelope {
  const wire = strict(bytes, ENVELOPE_BYTES, false);
  FORM.check(wire, 'envelope');
  const payload = unbase64(wire['payload'] as string);
  if (payload.length < 1 || payload.length > PAYLOAD_BYTES) throw new Error('envelope.payload is out of its bounds');
  const signatures = (wire['signatures'] as { keyid: string; sig: string }[]).map((s) => ({ keyid: s.keyid, sig: unbase64(s.sig) }));
  if (signatures.some((s) => s.sig.length > 512)) throw new Error('envelope.sig is out of its bounds');
  return { type: wire['payloadType'] as string, payload, signatures };
}

export function writeEnvelope(envelope: Envelope): Bytes {
  const wire = {
    payload: base64(envelope.payload),
    payloadType: envelope.type,
    signatures: envelope.signatures.map((s) => ({ keyid: s.keyid, sig: base64(s.sig) })),
  };
  return utf8(FORM.write(wire));
}

export const digest = (envelope: Envelope): Promise<Bytes> => digestOf(envelope.type, envelope.payload);

