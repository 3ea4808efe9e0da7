// What the page knows of itself: where it is, its theme, the time, what it says aloud.

import { computed, effect, signal } from '@preact/signals';

/** Milliseconds; moves twice a second while somebody looks. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 500);
document.addEventListener('visibilitychange', () => (now.value = Date.now()));

export interface Route {
  path: string;
  site: string | null;
  page: string;
  object: string | null;
  tab: string | null;
  query: URLSearchParams;
}

function read(): Route {
  const parts = location.pathname.split('/').filter(Boolean).map(decodeURIComponent);
  return {
    path: location.pathname,
    site: parts[0] ?? null,
    page: parts[1] ?? 'site',
    object: parts[2] ?? null,
    tab: parts[3] ?? null,
    query: new URLSearchParams(location.search),
  };
}

export const route = signal<Route>(read());
addEventListener('popstate', () => (route.value = read()));

export function go(to: string, replace = false): void {
  if (to === location.pathname + location.search) return;
  history[replace ? 'replaceState' : 'pushState'](null, '', to);
  const before = route.value;
  route.value = read();
  if (before.page !== route.value.page || before.object !== route.value.object) {
    scrollTo(0, 0);
    queueMicrotask(() => document.getElementById('main')?.focus({ preventScroll: true }));
  }
}

/** Changes one part of the query; null takes it away. Back undoes it unless `replace`. */
export function setQuery(name: string, value: string | null, replace = true): void {
  const query = new URLSearchParams(location.search);
  if (value === null || value === '') query.delete(name);
  else query.set(name, value);
  const text = query.toString().replace(/%3A/g, ':');
  go(location.pathname + (text ? `?${text}` : ''), replace);
}

export const sitePath = (...parts: string[]): string =>
  `/${[route.value.site ?? '', ...parts].map(encodeURIComponent).join('/')}`;

export type Theme = 'system' | 'light' | 'dark';
const stored = localStorage.getItem('qb.theme');
export const theme = signal<Theme>(stored === 'light' || stored === 'dark' ? stored : 'system');
const dark = matchMedia('(prefers-color-scheme: dark)');
const systemDark = signal(dark.matches);
dark.addEventListener('change', () => (systemDark.value = dark.matches));
export const isDark = computed(() => (theme.value === 'system' ? systemDark.value : theme.value === 'dark'));
effect(() => {
  document.documentElement.dataset['theme'] = isDark.value ? 'dark' : 'light';
});

export function toggleTheme(): void {
  theme.value = isDark.value ? 'light' : 'dark';
  localStorage.setItem('qb.theme', theme.value);
}

const slim = matchMedia('(max-width: 760px)');
export const narrow = signal(slim.matches);
slim.addEventListener('change', () => (narrow.value = slim.matches));

/** The sentence of the polite live region: at most one in ten seconds. */
export const said = signal('');
let lastSaid = 0;
export function say(sentence: string): void {
  if (Date.now() - lastSaid < 10_000) return;
  lastSaid = Date.now();
  said.value = sentence;
}

/** The dialog that is open. */
export type Dialog =
  | { kind: 'authorize'; nodes: string[] }
  | { kind: 'attach'; cluster: string; nodes: string[] }
  | { kind: 'detach'; cluster: string; nodes: string[] }
  | { kind: 'create' }
  | { kind: 'label'; node: string }
  | { kind: 'revoke'; node: string }
  | { kind: 'delete'; cluster: string }
  | { kind: 'login' }
  | { kind: 'search' }
  | { kind: 'help' };
export const dialog = signal<Dialog | null>(null);

/** Single keys can be switched off. */
export const shortcuts = signal(localStorage.getItem('qb.shortcuts') !== 'off');
export function setShortcuts(on: boolean): void {
  shortcuts.value = on;
  localStorage.setItem('qb.shortcuts', on ? 'on' : 'off');
}
