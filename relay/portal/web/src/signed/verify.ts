// Signatures, checked by WebCrypto with the rules that browsers leave out: canonical keys and points,
// none of small order, S below the group's order. A check in a browser convinces its reader; the
// replicas of the site are the authority.

import { concat, sha256, unbase64url, utf8, type Bytes } from './bytes.ts';
import { digestOf, pae } from './dsse.ts';
import type { KeyClass } from './intent.ts';

const P = (1n << 255n) - 19n;
const L = (1n << 252n) + 27742317777372353535851937790883648493n;
const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
const ROOT = 19681161376707505956807079304988542015446066515923890162744021073123829784752n;

type Point = [bigint, bigint, bigint, bigint];

const mod = (a: bigint): bigint => ((a % P) + P) % P;

function pow(base: bigint, exponent: bigint): bigint {
  let out = 1n;
  for (let b = mod(base), e = exponent; e > 0n; e >>= 1n, b = (b * b) % P) if (e & 1n) out = (out * b) % P;
  return out;
}

function add(a: Point, b: Point): Point {
  const x = mod((a[1] - a[0]) * (b[1] - b[0]));
  const y = mod((a[1] + a[0]) * (b[1] + b[0]));
  const t = mod(2n * a[3] * b[3] * D);
  const z = mod(2n * a[2] * b[2]);
  const [e, f, g, h] = [y - x, z - t, z + t, y + x];
  return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
}

function times(n: bigint, point: Point): Point {
  let out: Point = [0n, 1n, 1n, 0n];
  for (let p = point, k = n; k > 0n; k >>= 1n, p = add(p, p)) if (k & 1n) out = add(out, p);
  return out;
}

const isIdentity = (p: Point): boolean => mod(p[0]) === 0n && mod(p[1] - p[2]) === 0n;

const little = (bytes: Uint8Array): bigint => bytes.reduceRight((sum, b) => (sum << 8n) | BigInt(b), 0n);

/** A point, or null for an encoding that is of none or not the canonical one. */
function decompress(encoded: Uint8Array): Point | null {
  const value = little(encoded);
  const sign = value >> 255n;
  const y = value & ((1n << 255n) - 1n);
  if (y >= P) return null;
  const [u, v] = [mod(y * y - 1n), mod(D * y * y + 1n)];
  const square = mod(u * pow(v, P - 2n));
  let x = pow(square, (P + 3n) / 8n);
  if (mod(x * x * v - u) !== 0n) x = mod(x * ROOT);
  if (mod(x * x * v - u) !== 0n || (x === 0n && sign === 1n)) return null;
  if ((x & 1n) !== sign) x = P - x;
  return [x, y, 1n, mod(x * y)];
}

const known = new Map<string, boolean>();

/** Whether a key is canonical, not weak, and free of torsion. */
export function isGoodKey(key: Uint8Array): boolean {
  const id = key.join();
  let good = known.get(id);
  if (good === undefined) {
    const point = decompress(key);
    good = point !== null && !isIdentity(times(8n, point)) && isIdentity(times(L, point));
    known.set(id, good);
  }
  return good;
}

export const hasEd25519 = (): Promise<boolean> =>
  crypto.subtle === undefined
    ? Promise.resolve(false)
    : crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify']).then(() => true, () => false);

async function verifyBytes(key: Bytes, message: Bytes, sig: Bytes): Promise<boolean> {
  if (sig.length !== 64 || !isGoodKey(key) || little(sig.subarray(32)) >= L) return false;
  const r = decompress(sig.subarray(0, 32));
  if (r === null || isIdentity(times(8n, r))) return false;
  const imported = await crypto.subtle.importKey('raw', key, 'Ed25519', false, ['verify']);
  return crypto.subtle.verify('Ed25519', imported, sig, message);
}

/** Whether `sig`, as in an envelope, is one by a key of this kind for type and body. */
export async function verify(kind: 'ed25519' | 'sk-ed25519', key: string, type: string, body: Uint8Array, sig: Bytes): Promise<boolean> {
  let raw: Bytes;
  try {
    raw = unbase64url(key, 32);
  } catch {
    return false;
  }
  if (kind === 'ed25519') return verifyBytes(raw, pae(type, body), sig);
  if (sig.length !== 69 || ((sig[0] as number) & 1) === 0) return false;
  const message = concat(await sha256(utf8('ssh:qb')), sig.subarray(0, 5), await digestOf(type, body));
  return verifyBytes(raw, message, sig.slice(5));
}

export const kindOf = (keyClass: KeyClass): 'ed25519' | 'sk-ed25519' => (keyClass === 'hardware' ? 'sk-ed25519' : 'ed25519');
