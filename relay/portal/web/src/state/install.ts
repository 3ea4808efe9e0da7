// What the page "Add machines" says of packages. A relay's page shows the relay's own digests, and says
// what that is worth; `qb package line` computes them where it is typed.

import type { PackagesView, PackageView } from '../api/views.ts';

export type Format = 'deb' | 'rpm';

export const SYSTEMS: Record<Format, string> = {
  deb: 'Debian 11 to 13, Ubuntu 20.04 and newer',
  rpm: 'RHEL and Rocky 8 and newer, SUSE',
};

/** The package of a format for x86-64; null where this door has none. */
export function pick(view: PackagesView | undefined, format: Format): PackageView | null {
  return view?.packages.find((p) => p.format === format && (p.arch === 'amd64' || p.arch === 'x86_64')) ?? null;
}

/** What is typed on the machine for a file that lies there. */
export function installs(format: Format, file: string): string {
  return format === 'deb' ? `sudo apt-get install ./${file}` : `sudo dnf install ./${file}`;
}

/** Where a package is downloaded. Another scheme than http is no address of a relay. */
export function address(view: PackagesView, of: PackageView): string | null {
  const url = view.url ?? '';
  return /^https?:\/\//.test(url) && of.path.startsWith('/packages/') ? url + of.path : null;
}

/** How long nobody may knock before likely causes are named. */
export const PATIENCE = 60;

/** The three likely causes for silence; `relay` is the address that machines knock through, if any. */
export function causes(relay: string | null, site: string): { what: string; command: string }[] {
  const words = { what: `It has the package of another site: the words that it prints must be those of ${site}`, command: 'sudo qb-agent id' };
  if (relay === null)
    return [
      { what: 'It has no way to a machine of the site on port 7444', command: 'journalctl -u qb-agent -n 20' },
      { what: 'A firewall on either machine refuses port 7444', command: 'sudo nft list ruleset' },
      words,
    ];
  const host = relay.replace(/^https?:\/\//, '');
  const port = /:(\d+)$/.exec(host)?.[1] ?? (relay.startsWith('https') ? '443' : '80');
  return [
    { what: `It has no way to ${host.replace(/:\d+$/, '')} on port ${port}`, command: `curl -sS ${relay}/healthz` },
    { what: 'A proxy stands between, or opens TLS', command: 'journalctl -u qb-agent -n 20' },
    words,
  ];
}
