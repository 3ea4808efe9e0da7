// What is chosen of a cluster when it is created: networks of pods and services, and the names by which a
// customer's own balancer serves its API. A member is written only where it differs from the default.

import { isName } from './names.ts';
import type { Form } from './schema.ts';
import type { Json } from './strict.ts';
import { int, obj, str } from './schema.ts';

export type Settings = { pods?: string; services?: string; endpoints?: string[]; port?: number };

export const PODS = '10.244.0.0/16';
export const SERVICES = '10.96.0.0/16';
export const PORT = 6443;
export const ENDPOINTS = 4;
/** The driver whose clusters have settings. */
export const KUBEADM = 'kubeadm';
const PODS_BITS = [8, 20] as const;
const SERVICES_BITS = [12, 24] as const;
const OVERLAYS = ['10.245.0.0/16', '100.127.0.0/16', '172.31.0.0/16'] as const;
const NOT_UNICAST = [
  ['0.0.0.0/8', 'addresses of no host'],
  ['127.0.0.0/8', 'loopback addresses'],
  ['169.254.0.0/16', 'link-local addresses'],
  ['224.0.0.0/4', 'multicast addresses'],
  ['240.0.0.0/4', 'reserved addresses'],
] as const;

type Net = { address: number; bits: number };

const octet = (t: string): boolean => /^(0|[1-9]\d{0,2})$/.test(t) && Number(t) <= 255;
const isAddress = (t: string): boolean => t.split('.').length === 4 && t.split('.').every(octet);
const number = (address: string): number => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
const written = (address: number): string => [24, 16, 8, 0].map((by) => Math.floor(address / 2 ** by) % 256).join('.');
const size = (n: Net): number => 2 ** (32 - n.bits);

function parse(t: string): Net | null {
  const [address, bits, more] = t.split('/');
  if (address === undefined || bits === undefined || more !== undefined) return null;
  return isAddress(address) && /^(0|[1-9]\d?)$/.test(bits) && Number(bits) <= 32 ? { address: number(address), bits: Number(bits) } : null;
}

const overlap = (a: Net, b: Net): boolean => a.address < b.address + size(b) && b.address < a.address + size(a);
const known = (t: string): Net => parse(t) as Net;

/** What is wrong with a network, and what helps; null if nothing is. */
function networkFault(field: string, t: string, [least, most]: readonly [number, number]): string | null {
  const net = parse(t);
  if (!net) return `${field} ${t} is no IPv4 network: write address and prefix length, as in ${PODS}`;
  const behind = net.address % size(net);
  if (behind !== 0) return `${field} ${t} has bits set behind its prefix: write ${written(net.address - behind)}/${net.bits}`;
  if (net.bits < least || net.bits > most) return `${field} ${t} has a prefix of ${net.bits} bits: choose a network of /${least} to /${most}`;
  const not = NOT_UNICAST.find(([block]) => overlap(known(block), net));
  return not ? `${field} ${t} overlaps ${not[0]}, ${not[1]}: choose a private one, such as one in 10.0.0.0/8` : null;
}

export const isEndpoint = (t: string): boolean =>
  /^\d*$/.test(t.slice(t.lastIndexOf('.') + 1)) ? isAddress(t) : t.length <= 253 && t.split('.').every(isName);

function endpointFault(t: string, networks: readonly (readonly [string, string])[]): string | null {
  if (!isEndpoint(t)) return `${t} is no endpoint: a host name in lower case or an IPv4 address, without port`;
  if (!isAddress(t)) return null;
  const host = { address: number(t), bits: 32 };
  const not = NOT_UNICAST.find(([block]) => overlap(known(block), host));
  const own = networks.find(([network]) => overlap(known(network), host));
  const of = not ? not[1] : own ? `${own[1]} ${own[0]}` : null;
  return of === null ? null : `endpoints has ${t}, which is of the ${of}: name one that your computers reach`;
}

/** Why these cannot be the settings of a cluster, and what helps; null if they can. */
export function settingsFault(s: Settings): string | null {
  const pods = s.pods ?? PODS;
  const services = s.services ?? SERVICES;
  const fault = networkFault('pods', pods, PODS_BITS) ?? networkFault('services', services, SERVICES_BITS);
  if (fault !== null) return fault;
  if (overlap(known(pods), known(services))) return `services ${services} overlaps the pods' ${pods}: choose another of the two`;
  const endpoints = s.endpoints ?? [];
  if (endpoints.length > ENDPOINTS) return `endpoints has ${endpoints.length} elements, allowed are 0 to ${ENDPOINTS}`;
  const twice = endpoints.find((e, at) => endpoints.indexOf(e) !== at);
  if (twice !== undefined) return `endpoints has ${twice} twice: name it once`;
  const free = OVERLAYS.find((o) => !overlap(known(o), known(pods)) && !overlap(known(o), known(services))) ?? OVERLAYS[0];
  const networks = [[pods, 'pod network'], [services, 'service network'], [free, 'network between hosts']] as const;
  for (const e of endpoints) {
    const wrong = endpointFault(e, networks);
    if (wrong !== null) return wrong;
  }
  return null;
}

/** The signed form: what differs from the defaults; undefined if nothing does. */
export function chosen(s: Settings): Settings | undefined {
  const out: Settings = {};
  if (s.pods !== undefined && s.pods !== PODS) out.pods = s.pods;
  if (s.services !== undefined && s.services !== SERVICES) out.services = s.services;
  if (s.endpoints !== undefined && s.endpoints.length > 0) out.endpoints = s.endpoints;
  if (s.port !== undefined && s.port !== PORT) out.port = s.port;
  return Object.keys(out).length > 0 ? out : undefined;
}

/** `HOST` or `HOST:PORT`, several divided by commas or blanks; only the first may have a port. */
export function readEndpoints(typed: string): { endpoints: string[]; port: number } | string {
  let port = PORT;
  const endpoints: string[] = [];
  for (const [at, t] of typed.split(/[\s,]+/).filter(Boolean).entries()) {
    const colon = t.indexOf(':');
    if (colon >= 0 && at > 0) return `${t} has a port: only the first endpoint may have one`;
    if (colon >= 0) {
      const digits = t.slice(colon + 1);
      port = /^[1-9]\d{0,4}$/.test(digits) ? Number(digits) : 0;
      if (port < 1 || port > 65535) return `${t} has no port from 1 to 65535`;
    }
    endpoints.push(colon < 0 ? t : t.slice(0, colon));
  }
  return { endpoints, port };
}

/** What is typed of settings; a sentence if it cannot be. What is left alone is not chosen. */
export function readSettings(typed: { pods: string; services: string; endpoints: string }): Settings | string {
  const read = readEndpoints(typed.endpoints);
  if (typeof read === 'string') return read;
  const [pods, services] = [typed.pods.trim(), typed.services.trim()];
  const s: Settings = { ...read, ...(pods && { pods }), ...(services && { services }) };
  return settingsFault(s) ?? s;
}

/** As sentences say them. */
export function settingsText(s: Settings): string {
  const words: string[] = [];
  if (s.pods !== undefined) words.push(`pods ${s.pods}`);
  if (s.services !== undefined) words.push(`services ${s.services}`);
  if (s.endpoints) words.push(`API at ${s.endpoints.map((e, at) => (at === 0 && s.port !== undefined ? `${e}:${s.port}` : e)).join(' and ')}`);
  return words.join(', ');
}

/** The flags of `qb cluster create` that choose them. */
export function settingsFlags(s: Settings): string {
  const flags: string[] = [];
  if (s.pods !== undefined) flags.push(` --pods ${s.pods}`);
  if (s.services !== undefined) flags.push(` --services ${s.services}`);
  for (const [at, e] of (s.endpoints ?? []).entries()) flags.push(` --endpoint ${e}${at === 0 && s.port !== undefined ? `:${s.port}` : ''}`);
  return flags.join('');
}

const network = str((v) => parse(v) !== null, 'an IPv4 network');
const list: Form = {
  check: (v, where) => {
    if (!Array.isArray(v) || v.length === 0) throw new Error(`${where} must be a list of 1 to ${ENDPOINTS}`);
    v.forEach((e, i) => str(isEndpoint, 'a host name or an IPv4 address').check(e, `${where}[${i}]`));
  },
  write: (v) => JSON.stringify(v),
};
const members = obj({ 'pods?': network, 'services?': network, 'endpoints?': list, 'port?': int(1, 65535) });

/** The form of signed settings. */
export const settings: Form = {
  ...members,
  check: (v, where) => {
    members.check(v, where);
    const s = v as unknown as Settings;
    const fault = settingsFault(s);
    if (fault !== null) throw new Error(`${where} ${fault}`);
    if (s.port !== undefined && s.endpoints === undefined) throw new Error(`${where}.port is of the first endpoint, and there is none`);
    const short = chosen(s);
    if (short === undefined || members.write(short as unknown as Json) !== members.write(v as Json)) throw new Error(`${where} holds a default: leave it out`);
  },
};

/** An action on a cluster whose settings, if it has any, fit its driver. */
export const ofKubeadm = (form: Form): Form => ({
  ...form,
  check: (v, where) => {
    form.check(v, where);
    const a = v as unknown as { driver: string; settings?: Settings };
    if (a.settings !== undefined && a.driver !== KUBEADM) throw new Error(`${where}.settings are of clusters of driver ${KUBEADM}`);
  },
});
