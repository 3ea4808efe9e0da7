// Numbers and times as people read them: one unit, a no-break space before it.

const NB = '\u00a0';

export const plural = (n: number, one: string, many = `${one}s`): string => `${thousands(n)} ${n === 1 ? one : many}`;

export const thousands = (n: number): string => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ',');

/** "21 ms", "0.4 s", "41 s", "2 min 10 s", "3 h", "6 d". */
export function duration(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 0.095) return `${Math.round(s * 1000)}${NB}ms`;
  if (s < 9.95) return `${s.toFixed(1)}${NB}s`;
  if (s < 59.5) return `${Math.round(s)}${NB}s`;
  const whole = Math.round(s);
  if (whole < 600) {
    const rest = whole % 60;
    return `${Math.floor(whole / 60)}${NB}min${rest ? ` ${rest}${NB}s` : ''}`;
  }
  if (s < 3570) return `${Math.round(s / 60)}${NB}min`;
  if (s < 36 * 3600) return `${Math.round(s / 3600)}${NB}h`;
  return `${Math.round(s / 86400)}${NB}d`;
}

/** An age in whole steps: nothing below a second moves. */
export function age(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 60) return `${Math.floor(s)}${NB}s`;
  if (s < 3600) return `${Math.floor(s / 60)}${NB}min`;
  if (s < 86400 * 2) return `${Math.floor(s / 3600)}${NB}h`;
  return `${Math.floor(s / 86400)}${NB}d`;
}

/** "1.8 TiB", "128 GiB". */
export function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let at = 0;
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1024;
    at++;
  }
  return `${value < 9.95 && at > 0 ? value.toFixed(1).replace(/\.0$/, '') : Math.round(value)}${NB}${units[at]}`;
}

export const cents = (part: number, whole: number): number => (whole > 0 ? Math.min(100, Math.round((part / whole) * 100)) : 0);

/** A hash as groups of four hex digits, eight digits shown. */
export const hashGroups = (hexText: string, digits = 8): string => hexText.slice(0, digits).replace(/(.{4})(?=.)/g, '$1 ');

const two = (n: number): string => String(n).padStart(2, '0');
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

/** "10:41:07" today, "yesterday 17:20", else "3 Mar 2026 17:20". */
export function clock(at: number, now: number): string {
  const d = new Date(at);
  const today = new Date(now);
  const yesterday = new Date(now - 86_400_000);
  if (d.toDateString() === today.toDateString()) return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  const hm = `${two(d.getHours())}:${two(d.getMinutes())}`;
  if (d.toDateString() === yesterday.toDateString()) return `yesterday ${hm}`;
  return `${d.getDate()} ${MONTHS[d.getMonth()]} ${d.getFullYear()} ${hm}`;
}

/** RFC 3339 with offset, to hover and to copy. */
export function rfc3339(at: number): string {
  const d = new Date(at);
  const offset = -d.getTimezoneOffset();
  const sign = offset < 0 ? '-' : '+';
  const o = Math.abs(offset);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}${sign}${two(Math.floor(o / 60))}:${two(o % 60)}`;
}

/** Words that spell a number in a sentence. */
export const spelled = (n: number): string => ['none', 'one', 'two', 'three', 'four'][n] ?? String(n);
