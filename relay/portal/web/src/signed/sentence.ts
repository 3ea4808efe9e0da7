// An action as a sentence, made from the signed bytes: the same words as in qb.

import type { Action, Actions, ActionName } from './intent.ts';
import { actionName } from './intent.ts';
import { settingsText } from './settings.ts';

/** How nodes and keys are called; null for a node that is not known. */
export interface Names {
  host(node: string): string | null;
}

const SHOWN = 3;

/** At most three names, then how many more. */
export function list(names: readonly string[]): string {
  const more = names.length - SHOWN;
  return names.slice(0, SHOWN).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

const short = (id: string): string => id.slice(0, 8);

export function sentence(action: Action, names: Names): string {
  const host = (node: string): string => names.host(node) ?? short(node);
  const hosts = (nodes: readonly { host: string }[]): string => list(nodes.map((n) => n.host));
  const said: { [N in ActionName]: (a: Actions[N]) => string } = {
    'site.found': (a) => `found the site on ${hosts(a.nodes)}`,
    'node.authorize': (a) => `authorize ${hosts(a.nodes)}`,
    'node.revoke': (a) => `revoke ${host(a.node)}`,
    'node.label': (a) => `set ${a.labels.length} labels on ${host(a.node)}`,
    'cluster.create': (a) => `create cluster ${a.cluster} (${a.driver} ${a.version})${a.settings ? `, ${settingsText(a.settings)}` : ''}`,
    'cluster.attach': (a) => {
      const p = a.placement;
      if ('auto' in p) return `attach ${p.auto.count} nodes, chosen by the site, to ${a.cluster}`;
      if ('named' in p) return `attach ${list(p.named.nodes.map(host))} to ${a.cluster}`;
      const control = p.explicit.nodes.filter((n) => n.role === 'control-plane').length;
      return `attach ${list(p.explicit.nodes.map((n) => host(n.node)))} (${control} as control plane) to ${a.cluster}`;
    },
    'cluster.detach': (a) => `detach ${list(a.nodes.map(host))} from ${a.cluster}`,
    'cluster.delete': (a) => `delete cluster ${a.cluster}`,
    'admin.add': (a) => `add admin ${a.admin} as ${a.role} with ${a.keys.length} keys`,
    'admin.remove': (a) => `remove admin ${a.admin}`,
    'admin.role': (a) => `make ${a.admin} ${a.role}`,
    'key.add': (a) => `add key ${short(a.key.key)} to ${a.admin}`,
    'key.revoke': (a) => `revoke key ${short(a.key)} of ${a.admin}`,
    'policy.set': () => 'set the policy',
    'publisher.add': (a) => `accept bundles of publisher ${a.publisher}`,
    'publisher.remove': (a) => `refuse bundles of publisher key ${short(a.key)}`,
    'relay.add': (a) => `trust the relay ${a.url}`,
    'relay.remove': (a) => `stop trusting relay key ${short(a.key)}`,
    'relay.register': (a) => `tie the site to org ${a.org}`,
    'intent.release': (a) => `release intent ${short(a.intent)}`,
    'intent.cancel': (a) => `withdraw intent ${short(a.intent)}`,
    'agent.upgrade': (a) => `upgrade all agents to ${a.version}: ${list(a.first.map(host))} first, then ${a.batch} at a time`,
    'token.mint': (a) => `mint join token ${short(a.token)} for ${a.uses} machines${a.host === null ? '' : ` named ${a.host}`}`,
    'token.revoke': (a) => `end join token ${short(a.token)}`,
    'agent.upgrade.stop': (a) => `stop upgrade ${short(a.upgrade)} of agents`,
    'cluster.upgrade': (a) => `upgrade cluster ${a.cluster} to ${a.version}: control plane nodes one by one, then ${a.batch} workers at a time`,
    'cluster.label': (a) => `set ${a.labels.length} labels and ${a.taints.length} taints on ${a.host} in cluster ${a.cluster}`,
    'cluster.addon.set': (a) => `set add-on ${a.addon} of cluster ${a.cluster} (${a.manifest.length} lines)`,
    'cluster.addon.remove': (a) => `remove add-on ${a.addon} of cluster ${a.cluster} and what it made`,
    'cluster.upgrade.stop': (a) => `stop upgrade ${short(a.upgrade)} of cluster ${a.cluster}`,
    'cluster.backup': (a) => `back up cluster ${a.cluster}`,
    'cluster.restore': (a) => `restore cluster ${a.cluster} from backup ${short(a.backup)} on ${host(a.node)}`,
  };
  const name = actionName(action);
  return (said[name] as (a: unknown) => string)((action as { [n: string]: unknown })[name]);
}

/** What a button says: verb, count, object. */
export function verb(action: Action): string {
  const many = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
  if ('node.authorize' in action) return `authorize ${many(action['node.authorize'].nodes.length, 'node')}`;
  if ('node.label' in action) return `set ${many(action['node.label'].labels.length, 'label')} on 1 node`;
  if ('cluster.create' in action) return `create cluster ${action['cluster.create'].cluster}`;
  if ('cluster.detach' in action) return `detach ${many(action['cluster.detach'].nodes.length, 'node')}`;
  if ('cluster.attach' in action) {
    const p = action['cluster.attach'].placement;
    const n = 'auto' in p ? p.auto.count : 'named' in p ? p.named.nodes.length : p.explicit.nodes.length;
    return `attach ${many(n, 'node')}`;
  }
  return actionName(action).replace('.', ' ');
}
