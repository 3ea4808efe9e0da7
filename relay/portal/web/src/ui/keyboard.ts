// Single keys: pages, rows, and what is done to them. A button that a key presses names it with
// `data-key`, so that a key does what the button says and nothing where there is none.

import { dialog, go, route, shortcuts } from '../state/app.ts';
import { pageHref, pageItems } from './menu.tsx';

/** How long `g` waits for the page's letter. */
const CHORD_MS = 1_200;
let pendingG = 0;

export function onKey(e: KeyboardEvent): void {
  if (e.metaKey || e.ctrlKey || e.altKey || dialog.value || !shortcuts.value) return;
  const target = e.target as HTMLElement;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && (target as HTMLInputElement).type !== 'checkbox') return;
  if (!route.value.site) return;
  if (Date.now() - pendingG < CHORD_MS) {
    pendingG = 0;
    const item = pageItems().find((i) => i.key === e.key);
    if (item) {
      e.preventDefault();
      go(pageHref(item.page));
    }
    return;
  }
  if (press(e.key, target)) e.preventDefault();
}

function press(key: string, target: HTMLElement): boolean {
  if (key === 'g') pendingG = Date.now();
  else if (key === '/') dialog.value = { kind: 'search' };
  else if (key === '?') dialog.value = { kind: 'help' };
  else if (key === 'j' || key === 'k') moveRow(key === 'j' ? 1 : -1);
  else if (key === 'x') rowOf(target)?.querySelector<HTMLInputElement>('input.ck')?.click();
  else if (key === '.') rowOf(target)?.querySelector<HTMLButtonElement>('button:not([disabled])')?.click();
  else if (/^[a-z]$/.test(key)) {
    const button = document.querySelector<HTMLButtonElement>(`main [data-key="${key}"]:not([disabled])`);
    if (!button) return false;
    button.click();
  } else return false;
  return true;
}

const rowOf = (at: HTMLElement): HTMLElement | null => at.closest('[data-row]');

/** j and k: from row to row. */
function moveRow(by: number): void {
  const rows = Array.from(document.querySelectorAll<HTMLElement>('[data-row]')).filter((r) => r.offsetParent !== null);
  const at = rows.indexOf(document.activeElement?.closest('[data-row]') as HTMLElement);
  const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  (next?.querySelector<HTMLElement>('a,button') ?? next)?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}
