// The key of this browser: made here, not extractable, kept in IndexedDB. Its class is `browser`: it
// signs the portal set and nothing else.

import { signal } from '@preact/signals';
import { base64url, unbase64url, type Bytes } from '../signed/bytes.ts';
import { INTENT, LOGIN, pae } from '../signed/dsse.ts';
import { writeEnvelope } from '../signed/envelope.ts';
import { actionName, parseIntent, PORTAL_SET } from '../signed/intent.ts';
import { parseLogin } from '../signed/login.ts';
import { fingerprint, words } from '../signed/names.ts';
import { hasEd25519 } from '../signed/verify.ts';

interface Stored {
  id: string;
  pair: CryptoKeyPair;
  public: string;
  made: number;
}

export interface BrowserKey extends Stored {
  fingerprint: string;
  words: string[];
  /** Whether the browser promised to keep it. */
  kept: boolean;
}

/** Why this page can sign or not. */
export type Able = 'unknown' | 'yes' | 'insecure' | 'old';
export const able = signal<Able>('unknown');
/** undefined: not looked yet. */
export const browserKey = signal<BrowserKey | null | undefined>(undefined);

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open('qb', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('keys', { keyPath: 'id' });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('IndexedDB does not open'));
  });
}

async function run<T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const db = await open();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = db.transaction('keys', mode);
      const request = act(transaction.objectStore('keys'));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = () => reject(transaction.error ?? new Error('IndexedDB refuses'));
    });
  } finally {
    db.close();
  }
}

async function dressed(stored: Stored): Promise<BrowserKey> {
  const raw = unbase64url(stored.public, 32);
  const kept = (await navigator.storage?.persisted?.()) ?? false;
  return { ...stored, fingerprint: await fingerprint(raw), words: await words(raw), kept };
}

/** Looks whether this page can sign, and for a key that was made here. */
export async function loadKey(): Promise<void> {
  if (!isSecureContext) able.value = 'insecure';
  else able.value = (await hasEd25519()) ? 'yes' : 'old';
  if (able.value !== 'yes') {
    browserKey.value = null;
    return;
  }
  const stored = (await run('readonly', (s) => s.get('browser')).catch(() => undefined)) as Stored | undefined;
  browserKey.value = stored ? await dressed(stored) : null;
}

export async function makeKey(): Promise<void> {
  await navigator.storage?.persist?.();
  const pair = (await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])) as CryptoKeyPair;
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  const stored: Stored = { id: 'browser', pair, public: base64url(raw), made: Date.now() };
  await run('readwrite', (s) => s.put(stored));
  browserKey.value = await dressed(stored);
}

export async function forgetKey(): Promise<void> {
  await run('readwrite', (s) => s.delete('browser'));
  browserKey.value = null;
}

/** Signs a payload of one of the two types that this key signs, and nothing else. */
export async function signPayload(type: typeof INTENT | typeof LOGIN, payload: Bytes): Promise<Bytes> {
  const held = browserKey.value;
  if (!held) throw new Error('this browser has no key');
  if (type === INTENT) {
    const action = actionName(parseIntent(payload).action);
    if (!PORTAL_SET.includes(action)) throw new Error(`the key of a browser does not sign ${action}`);
  } else parseLogin(payload);
  const sig = new Uint8Array(await crypto.subtle.sign('Ed25519', held.pair.privateKey, pae(type, payload)));
  return writeEnvelope({ type, payload, signatures: [{ keyid: `ed25519:${held.public}`, sig }] });
}
