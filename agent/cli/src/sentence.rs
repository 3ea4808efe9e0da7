//! The signing sentence: made from the action that is signed, never from what a door says.

use std::collections::BTreeMap;

use qb_model::action::{Action, Eligible, NodeRole, Placement, RevokeMode, Role};
use qb_model::words::fingerprint;
use qb_model::{Digest, HostName, Millis, NodeId, PublicKey};

use crate::out::text::{Clock, clean, names, plural, span};

/// Names of nodes, for people.
pub type Hosts = BTreeMap<NodeId, HostName>;

fn host(hosts: &Hosts, node: &NodeId) -> String {
    hosts.get(node).map_or_else(|| fingerprint(&node.0), ToString::to_string)
}

fn list<'a>(hosts: &Hosts, nodes: impl Iterator<Item = &'a NodeId>) -> String {
    let mut all: Vec<String> = nodes.map(|n| host(hosts, n)).collect();
    all.sort_unstable();
    match all.len() {
        0..=3 => names(&all),
        n => format!("{} ({})", plural(n, "node"), names(&all)),
    }
}

/// The beginning of a digest.
fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(8).collect()
}

/// A role's word.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Owner => "owner",
    }
}

/// A key's short fingerprint, for beside a name.
pub fn short_key(key: &PublicKey) -> String {
    fingerprint(&key.0).chars().take(9).collect()
}

fn placement(placement: &Placement, hosts: &Hosts) -> String {
    match placement {
        Placement::Auto { count, .. } => {
            format!("{}, chosen by the site,", plural(usize::from(*count), "node"))
        }
        Placement::Named { nodes, .. } => list(hosts, nodes.iter()),
        Placement::Explicit { nodes } => {
            let control = nodes.iter().filter(|n| n.role == NodeRole::ControlPlane).count();
            let all = list(hosts, nodes.iter().map(|n| &n.node));
            match (control, nodes.len()) {
                (0, _) => format!("{all} as workers"),
                (c, n) if c == n => format!("{all} as control plane"),
                (c, _) => format!("{all}, {c} as control plane,"),
            }
        }
    }
}

/// The sentence: "attach lyon-r1-02, lyon-r2-02, lyon-r3-02 to clus101".
pub fn of(action: &Action, hosts: &Hosts) -> String {
    match action {
        Action::SiteFound { nodes } => {
            format!("found the site on {}", list(hosts, nodes.iter().map(|n| &n.node)))
        }
        Action::NodeAuthorize { nodes } => {
            format!("authorize {}", list(hosts, nodes.iter().map(|n| &n.node)))
        }
        Action::NodeRevoke { node, then } => match then {
            RevokeMode::Isolate => format!("revoke {} for good", host(hosts, node)),
            RevokeMode::Wipe => format!("revoke {} for good and wipe it", host(hosts, node)),
        },
        Action::NodeLabel { node, labels } => {
            format!("set {} on {}", plural(labels.len(), "label"), host(hosts, node))
        }
        Action::ClusterCreate { cluster, driver, version, settings, .. } => {
            let settings = settings.as_ref().map(|chosen| format!(", {chosen}")).unwrap_or_default();
            format!("create cluster {cluster} ({driver} {version}){settings}")
        }
        Action::ClusterAttach { cluster, placement: p } => {
            format!("attach {} to {cluster}", placement(p, hosts))
        }
        Action::ClusterDetach { cluster, nodes } => {
            format!("detach {} from {cluster}", list(hosts, nodes.iter()))
        }
        Action::ClusterDelete { cluster } => format!("delete cluster {cluster}"),
        Action::AgentUpgrade { version, first, batch, bundle } => format!(
            "upgrade the agents of all nodes to {version} (bundle {}), {} first, then {batch} at a time",
            short(bundle),
            list(hosts, first.iter())
        ),
        Action::ClusterUpgrade { cluster, version, batch, bundle, .. } => format!(
            "upgrade cluster {cluster} to {version} (bundle {}): control plane nodes one by one, then {batch} workers at a time",
            short(bundle)
        ),
        Action::ClusterUpgradeStop { cluster, upgrade } => {
            format!("stop upgrade {} of cluster {cluster}", short(upgrade))
        }
        Action::ClusterBackup { cluster } => format!("back up the store of cluster {cluster}"),
        Action::ClusterRestore { cluster, node, backup, others } => format!(
            "restore the store of cluster {cluster} from backup {} on {}, reset {} and join them again",
            short(backup),
            list(hosts, std::iter::once(node)),
            if others.is_empty() { "nobody".to_owned() } else { list(hosts, others.iter()) }
        ),
        Action::ClusterLabel { cluster, host, labels, taints, .. } => {
            let taints = plural(taints.len(), "taint");
            format!("set {} and {taints} on {host} in cluster {cluster}", plural(labels.len(), "label"))
        }
        Action::ClusterAddonSet { cluster, addon, manifest } => {
            format!("set add-on {addon} of cluster {cluster} ({})", plural(manifest.len(), "line"))
        }
        Action::ClusterAddonRemove { cluster, addon } => {
            format!("remove add-on {addon} of cluster {cluster} and what it made")
        }
        Action::AgentUpgradeStop { upgrade } => format!("stop upgrade {} of agents", short(upgrade)),
        other => of_trust(other),
    }
}

fn of_trust(action: &Action) -> String {
    match action {
        Action::AdminAdd { admin, name, role: r, keys } => {
            let with = names(&keys.iter().map(|k| fingerprint(&k.key.0)).collect::<Vec<_>>());
            format!("add {} ({admin}) as {} with key {with}", clean(name), role(*r))
        }
        Action::AdminRemove { admin, .. } => format!("remove admin {admin}"),
        Action::AdminRole { admin, role: r } => format!("make {admin} {}", role(*r)),
        Action::KeyAdd { admin, key } => format!("add key {} to {admin}", fingerprint(&key.key.0)),
        Action::KeyRevoke { admin, key, .. } => format!("take key {} from {admin}", fingerprint(&key.0)),
        Action::PolicySet { policy } => format!(
            "set the policy: owners needed {}, anchors up to {}, {}, {} for browsers",
            policy.owners_needed,
            span(policy.anchor_max_age_ms),
            match &policy.voters {
                Eligible::All => "every node may vote".to_owned(),
                Eligible::Nodes { nodes } => format!("{} may vote", plural(nodes.len(), "node")),
            },
            plural(policy.browser_actions.len(), "action")
        ),
        Action::PublisherAdd { publisher, key } => {
            format!("accept bundles of publisher {publisher} (key {})", fingerprint(&key.0))
        }
        Action::PublisherRemove { key } => format!("refuse bundles of publisher key {}", fingerprint(&key.0)),
        Action::RelayAdd { url, key } => {
            format!("trust the relay {} (key {})", clean(url), fingerprint(&key.0))
        }
        Action::RelayRemove { key } => format!("stop trusting relay key {}", fingerprint(&key.0)),
        Action::RelayRegister { org, key } => {
            format!("tie the site to org {org} of relay key {}", fingerprint(&key.0))
        }
        Action::TokenMint { token, uses, expires_ms, host, addresses, labels } => {
            let mut out = format!(
                "mint join token {} for {}",
                fingerprint(&token.0),
                plural(usize::from(*uses), "machine")
            );
            if let Some(host) = host {
                out.push_str(&format!(" named {host}"));
            }
            if !addresses.is_empty() {
                let all: Vec<&str> = addresses.iter().map(|a| a.as_str()).collect();
                out.push_str(&format!(" at {}", names(&all)));
            }
            if !labels.is_empty() {
                out.push_str(&format!(" with {}", plural(labels.len(), "label")));
            }
            let utc = Clock { now: Millis(0), zone: jiff::tz::TimeZone::UTC };
            format!("{out}, on probation, until {} UTC", utc.moment(*expires_ms))
        }
        Action::TokenRevoke { token } => format!("end join token {}", fingerprint(&token.0)),
        Action::IntentCancel { intent } => {
            format!("withdraw intent {}", short(intent))
        }
        Action::IntentRelease { intent } => {
            format!("release intent {}", short(intent))
        }
        other => other.name().to_owned(),
    }
}
