// As much of a browser as the modules of the page ask for when they are loaded. Imported first.

const store = (): Pick<Storage, 'getItem' | 'setItem' | 'removeItem'> => {
  const kept = new Map<string, string>();
  return { getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => void kept.set(k, v), removeItem: (k) => void kept.delete(k) };
};

const interval = globalThis.setInterval;
Object.assign(globalThis, {
  localStorage: store(),
  sessionStorage: store(),
  location: new URL('https://10.0.0.1:8443/lyon/nodes'),
  innerHeight: 900,
  matchMedia: () => ({ matches: false, addEventListener: () => undefined }),
  addEventListener: () => undefined,
  document: { hidden: false, documentElement: { dataset: {} }, addEventListener: () => undefined },
  // A test ends though the page's clock goes on.
  setInterval: (act: () => void, ms: number) => interval(act, ms).unref(),
});
