// The fields of signed bytes (postcard), read one after the other.

import type { Bytes } from './bytes.ts';

/** Reads the fields of signed bytes, one after the other. */
export class Fields {
  at = 0;
  constructor(readonly bytes: Bytes) {}
  byte(): number {
    const b = this.bytes[this.at++];
    if (b === undefined) throw new Error('record is cut');
    return b;
  }
  varint(): number {
    let out = 0;
    for (let shift = 0; shift < 63; shift += 7) {
      const b = this.byte();
      out += (b & 0x7f) * 2 ** shift;
      if (b < 0x80) {
        if (!Number.isSafeInteger(out)) break;
        return out;
      }
    }
    throw new Error('record holds a number that is too large');
  }
  take(size: number): Bytes {
    if (size > this.bytes.length - this.at) throw new Error('record is cut');
    return this.bytes.slice(this.at, (this.at += size));
  }
}
