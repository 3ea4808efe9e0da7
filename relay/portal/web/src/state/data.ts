// The site as the door shows it. Each list is asked for while a page shows it, and again when an event
// speaks of it; each knows its age.

import { batch, effect, signal, type Signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { asProblem, get } from '../api/client.ts';
import { visibleIn } from '../signed/strict.ts';
import { Memory } from './memory.ts';
import { Proof } from './proof.ts';
import type { AdminView, AlertView, BundleView, ClusterView, Event, IntentView, NodeView, PackagesView, Problem, SiteView } from '../api/views.ts';

/** A list or object of the API, with its age and its last error. */
export class Resource<T> {
  readonly value: Signal<T | undefined> = signal(undefined);
  /** When it was fetched, by this machine's clock. */
  readonly at = signal(0);
  readonly problem: Signal<Problem | null> = signal(null);
  users = 0;
  private running = false;
  private again = false;

  constructor(readonly path: string, readonly every: number) {}

  async load(): Promise<void> {
    if (this.running) {
      this.again = true;
      return;
    }
    this.running = true;
    try {
      const next = visibleIn(await get<T>(this.path));
      batch(() => {
        // The same answer redraws nothing.
        if (JSON.stringify(next) !== JSON.stringify(this.value.peek())) this.value.value = next;
        this.at.value = Date.now();
        this.problem.value = null;
      });
    } catch (e) {
      this.problem.value = asProblem(e);
    }
    this.running = false;
    if (this.again) {
      this.again = false;
      void this.load();
    }
  }
}

export class SiteData {
  readonly site: Resource<SiteView>;
  readonly nodes: Resource<NodeView[]>;
  readonly clusters: Resource<ClusterView[]>;
  readonly admins: Resource<AdminView[]>;
  readonly bundles: Resource<BundleView[]>;
  readonly intents: Resource<IntentView[]>;
  readonly alerts: Resource<AlertView[]>;
  readonly packages: Resource<PackagesView>;
  /** Newest first. */
  readonly events: Signal<Event[]> = signal([]);
  readonly memory = new Memory();
  readonly proof: Proof;

  constructor(readonly name: string) {
    const base = `/v1/sites/${encodeURIComponent(name)}`;
    this.site = new Resource(base, 3_000);
    this.nodes = new Resource(`${base}/nodes`, 3_000);
    this.clusters = new Resource(`${base}/clusters`, 3_000);
    this.admins = new Resource(`${base}/admins`, 60_000);
    this.bundles = new Resource(`${base}/bundles`, 30_000);
    this.intents = new Resource(`${base}/intents`, 10_000);
    this.alerts = new Resource(`${base}/alerts`, 5_000);
    this.packages = new Resource(`${base}/packages`, 30_000);
    this.proof = new Proof(name, base);
    effect(() => {
      if (this.site.value.value) this.memory.look(this.site.value.value);
    });
  }

  get base(): string {
    return this.site.path;
  }

  all(): Resource<unknown>[] {
    return [this.site, this.nodes, this.clusters, this.admins, this.bundles, this.intents, this.alerts, this.packages] as Resource<unknown>[];
  }

  private dirty = new Set<Resource<unknown>>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Asks again for what an event speaks of, at most once in 500 ms. */
  touched(kind: string): void {
    this.proof.soon();
    const { site, nodes, clusters, admins, bundles, intents, alerts } = this;
    const lists: Record<string, Resource<never>[]> = {
      node: [site, nodes] as never[],
      cluster: [site, clusters, nodes] as never[],
      step: [clusters, nodes] as never[],
      // An order may be to accept a publisher, without whom a bundle is of no use.
      intent: [site, intents, admins, bundles, nodes, clusters] as never[],
      bundle: [bundles] as never[],
      raft: [site] as never[],
      mesh: [site, nodes] as never[],
      alert: [alerts, site] as never[],
    };
    for (const r of lists[kind] ?? [site]) this.dirty.add(r as unknown as Resource<unknown>);
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      for (const r of this.dirty) if (r.users > 0) void r.load();
      this.dirty.clear();
    }, 500);
  }
}

/** The site that the page is on. */
export const data: Signal<SiteData | null> = signal(null);
export const sites = new Resource<SiteView[]>('/v1/sites', 5_000);

/** Keeps a list fresh while a component shows it. */
export function useLive<T>(resource: Resource<T> | undefined, fast = false): T | undefined {
  useEffect(() => {
    if (!resource) return undefined;
    resource.users++;
    if (Date.now() - resource.at.peek() > 1_000) void resource.load();
    const timer = setInterval(() => {
      if (!document.hidden) void resource.load();
    }, fast ? 1_000 : resource.every);
    return () => {
      resource.users--;
      clearInterval(timer);
    };
  }, [resource, fast]);
  return resource?.value.value;
}
