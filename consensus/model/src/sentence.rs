//! An action as a sentence, made from the signed bytes by the same code everywhere.

use crate::action::{Action, AuthorizedNode, NodeRole, Placement, Role};
use crate::ids::NodeId;
use crate::state::SiteState;

/// Names shown before "and n more".
const SHOWN: usize = 3;

/// The sentence of an action: "attach 3 nodes to clus100". Names of nodes come from the state, the
/// short key where it does not know them.
pub fn of(action: &Action, state: &SiteState) -> String {
    let host = |node: &NodeId| {
        let known = state.node(node).map(|n| n.host.to_string());
        known
            .or_else(|| state.tombstones().get(node).map(|t| t.host.to_string()))
            .unwrap_or_else(|| crate::words::fingerprint(&node.0))
    };
    match action {
        Action::SiteFound { nodes } => format!("found the site on {}", hosts(nodes)),
        Action::NodeAuthorize { nodes } => format!("authorize {}", hosts(nodes)),
        Action::NodeRevoke { node, .. } => format!("revoke {}", host(node)),
        Action::NodeLabel { node, labels } => format!("set {} labels on {}", labels.len(), host(node)),
        Action::ClusterCreate { cluster, driver, version, settings, .. } => {
            let settings = settings.as_ref().map(|chosen| format!(", {chosen}")).unwrap_or_default();
            format!("create cluster {cluster} ({driver} {version}){settings}")
        }
        Action::ClusterAttach { cluster, placement } => {
            let what = match placement {
                Placement::Auto { count, .. } => format!("{count} nodes, chosen by the site,"),
                Placement::Named { nodes, .. } => list(nodes.iter().map(host).collect()),
                Placement::Explicit { nodes } => {
                    let control = nodes.iter().filter(|n| n.role == NodeRole::ControlPlane).count();
                    let names = list(nodes.iter().map(|n| host(&n.node)).collect());
                    format!("{names} ({control} as control plane)")
                }
            };
            format!("attach {what} to {cluster}")
        }
        Action::ClusterDetach { cluster, nodes } => {
            format!("detach {} from {cluster}", list(nodes.iter().map(host).collect()))
        }
        Action::ClusterDelete { cluster } => format!("delete cluster {cluster}"),
        Action::AdminAdd { admin, role, keys, .. } => {
            format!("add admin {admin} as {} with {} keys", role_word(*role), keys.len())
        }
        Action::AdminRemove { admin, .. } => format!("remove admin {admin}"),
        Action::AdminRole { admin, role } => format!("make {admin} {}", role_word(*role)),
        Action::KeyAdd { admin, key } => {
            format!("add key {} to {admin}", crate::words::fingerprint(&key.key.0))
        }
        Action::KeyRevoke { admin, key, .. } => {
            format!("revoke key {} of {admin}", crate::words::fingerprint(&key.0))
        }
        Action::PolicySet { .. } => "set the policy".into(),
        Action::PublisherAdd { publisher, .. } => format!("accept bundles of publisher {publisher}"),
        Action::PublisherRemove { key } => {
            format!("refuse bundles of publisher key {}", crate::words::fingerprint(&key.0))
        }
        Action::RelayAdd { url, .. } => format!("trust the relay {url}"),
        Action::RelayRemove { key } => {
            format!("stop trusting relay key {}", crate::words::fingerprint(&key.0))
        }
        Action::RelayRegister { org, .. } => format!("tie the site to org {org}"),
        Action::AgentUpgrade { version, first, batch, .. } => {
            let first = list(first.iter().map(host).collect());
            format!("upgrade all agents to {version}: {first} first, then {batch} at a time")
        }
        Action::AgentUpgradeStop { upgrade } => format!("stop upgrade {} of agents", short(upgrade)),
        Action::TokenMint { token, uses, host, .. } => {
            let named = host.as_ref().map(|h| format!(" named {h}")).unwrap_or_default();
            format!("mint join token {} for {uses} machines{named}", crate::words::fingerprint(&token.0))
        }
        Action::TokenRevoke { token } => {
            format!("end join token {}", crate::words::fingerprint(&token.0))
        }
        Action::ClusterUpgrade { cluster, version, batch, .. } => {
            format!(
                "upgrade cluster {cluster} to {version}: control plane nodes one by one, then {batch} workers at a time"
            )
        }
        Action::ClusterUpgradeStop { cluster, upgrade } => {
            format!("stop upgrade {} of cluster {cluster}", short(upgrade))
        }
        Action::ClusterBackup { cluster } => format!("back up cluster {cluster}"),
        Action::ClusterRestore { cluster, node, backup, .. } => {
            format!("restore cluster {cluster} from backup {} on {}", short(backup), host(node))
        }
        Action::ClusterLabel { cluster, host, labels, taints, .. } => {
            format!("set {} labels and {} taints on {host} in cluster {cluster}", labels.len(), taints.len())
        }
        Action::ClusterAddonSet { cluster, addon, manifest } => {
            format!("set add-on {addon} of cluster {cluster} ({} lines)", manifest.len())
        }
        Action::ClusterAddonRemove { cluster, addon } => {
            format!("remove add-on {addon} of cluster {cluster} and what it made")
        }
        Action::IntentRelease { intent } => format!("release intent {}", short(intent)),
        Action::IntentCancel { intent } => format!("withdraw intent {}", short(intent)),
    }
}

/// A role's word.
pub fn role_word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Owner => "owner",
    }
}

fn short(digest: &crate::ids::Digest) -> String {
    digest.to_string().chars().take(8).collect()
}

fn hosts(nodes: &[AuthorizedNode]) -> String {
    list(nodes.iter().map(|n| n.host.to_string()).collect())
}

fn list(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let shown = names.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
