//! Bounds of values inside signed things: counts, order, labels and texts. No state is needed here.

use std::fmt;

use crate::action::{Action, AuthorizedNode, Eligible, Label, NewKey, Placement, Policy, Taint};
use crate::key::check_public_key;
use crate::limits::{
    ACTION_NODES, ADDON_BYTES, ADDON_LINES, ADMIN_KEYS, AGENT_BATCH, ANCHOR_AGE_MAX_MS, ANCHOR_AGE_MIN_MS,
    BROWSER_ACTIONS, CONTROL_PLANES, ELIGIBLE_NODES, FOUNDING_NODES, LABELS, OWNERS_NEEDED,
    PERSON_NAME_BYTES, TAINTS, TOKEN_ADDRESSES, TOKEN_USES, UPGRADE_BATCH, URL_BYTES,
};
use crate::settings;
use crate::strict::is_plain_text;
use crate::trust::ACTIONS;

/// A member whose value is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct ValueError {
    /// The member.
    pub field: &'static str,
    /// What is wrong with it.
    pub rule: String,
}

impl ValueError {
    pub(crate) fn new(field: &'static str, rule: impl fmt::Display) -> Self {
        Self { field, rule: rule.to_string() }
    }
}

/// Bounds of a count.
pub(crate) fn count(field: &'static str, have: usize, min: usize, max: usize) -> Result<(), ValueError> {
    if (min..=max).contains(&have) {
        Ok(())
    } else {
        Err(ValueError::new(field, format_args!("has {have} elements, allowed are {min} to {max}")))
    }
}

/// A set as a list: sorted by the values themselves, each once.
pub(crate) fn sorted_unique<T: Ord>(field: &'static str, list: &[T]) -> Result<(), ValueError> {
    if list.windows(2).all(|pair| pair[0] < pair[1]) {
        Ok(())
    } else {
        Err(ValueError::new(field, "is not sorted, or an element stands twice"))
    }
}

/// Text for people.
pub(crate) fn text(field: &'static str, value: &str, min: usize, max: usize) -> Result<(), ValueError> {
    if !(min..=max).contains(&value.len()) {
        let have = value.len();
        return Err(ValueError::new(field, format_args!("has {have} bytes, allowed are {min} to {max}")));
    }
    if !is_plain_text(value) {
        return Err(ValueError::new(field, "holds a control character or a bidirectional control"));
    }
    Ok(())
}

/// The address of a relay: `https://`, or `http://localhost` for trying out; ASCII without spaces,
/// quotes, user names, query or fragment.
pub(crate) fn url(field: &'static str, value: &str) -> Result<(), ValueError> {
    let fail = |rule| Err(ValueError::new(field, rule));
    if value.len() > URL_BYTES {
        return fail("is longer than 256 bytes");
    }
    let local = value.strip_prefix("http://").filter(|rest| {
        let host = rest.split(['/', ':']).next();
        host == Some("localhost") || host == Some("127.0.0.1")
    });
    let Some(rest) = value.strip_prefix("https://").or(local) else {
        return fail("does not begin with https:// (or http://localhost)");
    };
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&c);
    if !rest.bytes().all(allowed) {
        return fail("holds a character outside letters, digits and -._~:/[]%");
    }
    if rest.is_empty() || rest.starts_with('/') || rest.starts_with(':') {
        return fail("has no host");
    }
    Ok(())
}

/// A label, by the rules of Kubernetes.
pub(crate) fn label(label: &Label) -> Result<(), ValueError> {
    let alnum = |c: u8| c.is_ascii_alphanumeric();
    let part = |t: &str| {
        t.len() <= 63
            && t.bytes().all(|c| alnum(c) || b"-_.".contains(&c))
            && t.bytes().next().is_none_or(alnum)
            && t.bytes().last().is_none_or(alnum)
    };
    let dns = |t: &str| {
        let one = |p: &str| {
            !p.is_empty()
                && p.len() <= 63
                && p.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
                && !p.starts_with('-')
                && !p.ends_with('-')
        };
        t.len() <= 253 && t.split('.').all(one)
    };
    let (prefix, name) = label.key.split_once('/').map_or((None, &*label.key), |(p, n)| (Some(p), n));
    if name.is_empty() || !part(name) || !prefix.is_none_or(dns) {
        return Err(ValueError::new(
            "labels",
            format_args!("has the key {:?}, which is none", cut(&label.key)),
        ));
    }
    if !part(&label.value) {
        return Err(ValueError::new(
            "labels",
            format_args!("has the value {:?}, which is none", cut(&label.value)),
        ));
    }
    Ok(())
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn labels(list: &[Label]) -> Result<(), ValueError> {
    count("labels", list.len(), 0, LABELS)?;
    sorted_unique("labels", &list.iter().map(|l| &l.key).collect::<Vec<_>>())?;
    list.iter().try_for_each(label)
}

/// Prefixes of Kubernetes' own keys: kubelet, kubeadm and the controllers keep them, and roles hang on some.
const RESERVED: [&str; 2] = ["kubernetes.io", "k8s.io"];
/// Of these the ones that only people set on machines that no cloud knows.
const PLACES: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// A key that qb may keep on a node of Kubernetes.
fn own_key(field: &'static str, key: &str) -> Result<(), ValueError> {
    let prefix = key.split_once('/').map(|(prefix, _)| prefix).unwrap_or_default();
    let within = |of: &&str| prefix == *of || prefix.strip_suffix(*of).is_some_and(|p| p.ends_with('.'));
    let place = field == "labels" && PLACES.contains(&key);
    match RESERVED.iter().find(|of| within(of) && !place) {
        Some(of) => Err(ValueError::new(
            field,
            format_args!(
                "has the key {:?}: keys of {of} are kept by Kubernetes and kubeadm; choose one without that prefix (of labels, {} are taken)",
                cut(key),
                PLACES.join(" and ")
            ),
        )),
        None => Ok(()),
    }
}

fn kubernetes_labels(list: &[Label]) -> Result<(), ValueError> {
    labels(list)?;
    list.iter().try_for_each(|l| own_key("labels", &l.key))
}

fn taints(list: &[Taint]) -> Result<(), ValueError> {
    count("taints", list.len(), 0, TAINTS)?;
    sorted_unique("taints", &list.iter().map(|t| (&t.key, t.effect)).collect::<Vec<_>>())?;
    for taint in list {
        label(&Label { key: taint.key.clone(), value: taint.value.clone() })
            .map_err(|e| ValueError { field: "taints", ..e })?;
        own_key("taints", &taint.key)?;
    }
    Ok(())
}

/// The bounds of an add-on's manifest.
///
/// # Errors
/// It is empty, too large, or a line holds what hides text from people.
pub fn manifest(lines: &[String]) -> Result<(), ValueError> {
    let fail = |rule: String| Err(ValueError::new("manifest", rule));
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    if bytes > ADDON_BYTES || lines.len() > ADDON_LINES {
        return fail(format!(
            "has {bytes} bytes in {} lines, allowed are {ADDON_BYTES} in {ADDON_LINES}: put a larger one into the bundle's manifests/",
            lines.len()
        ));
    }
    if lines.iter().all(|line| line.trim().is_empty()) {
        return fail("is empty".to_owned());
    }
    match lines.iter().position(|line| !is_plain_text(line)) {
        Some(at) => fail(format!(
            "holds a tab, another control character or a bidirectional control in line {}: write spaces",
            at + 1
        )),
        None => Ok(()),
    }
}

fn authorized(nodes: &[AuthorizedNode], max: usize) -> Result<(), ValueError> {
    count("nodes", nodes.len(), 1, max)?;
    sorted_unique("nodes", &nodes.iter().map(|n| n.node).collect::<Vec<_>>())
}

fn placement(placement: &Placement) -> Result<(), ValueError> {
    let planes = |wanted: u8| {
        if matches!(wanted, 0 | 1 | 3 | 5) {
            Ok(())
        } else {
            Err(ValueError::new("control_plane", format_args!("is {wanted}, allowed are 0, 1, 3 and 5")))
        }
    };
    match placement {
        Placement::Auto { count: wanted, control_plane } => {
            count("count", usize::from(*wanted), 1, ACTION_NODES)?;
            planes(*control_plane)
        }
        Placement::Explicit { nodes } => {
            count("nodes", nodes.len(), 1, ACTION_NODES)?;
            sorted_unique("nodes", &nodes.iter().map(|n| n.node).collect::<Vec<_>>())
        }
        Placement::Named { nodes, control_plane } => {
            count("nodes", nodes.len(), 1, ACTION_NODES)?;
            sorted_unique("nodes", nodes)?;
            planes(*control_plane)
        }
    }
}

/// Keys as they are added: bounds and order. Whether each is a good key is judged when it is added.
pub(crate) fn keys(keys: &[NewKey], max: usize) -> Result<(), ValueError> {
    count("keys", keys.len(), 1, max)?;
    sorted_unique("keys", &keys.iter().map(|k| k.key).collect::<Vec<_>>())?;
    keys.iter().try_for_each(|k| check_public_key(&k.key).map_err(|e| ValueError::new("keys:", e)))
}

/// A policy's bounds.
pub(crate) fn policy(policy: &Policy) -> Result<(), ValueError> {
    count("owners_needed", usize::from(policy.owners_needed), 1, usize::from(OWNERS_NEEDED))?;
    let age = policy.anchor_max_age_ms;
    if !(ANCHOR_AGE_MIN_MS..=ANCHOR_AGE_MAX_MS).contains(&age) {
        return Err(ValueError::new("anchor_max_age_ms", format_args!("is {age}, allowed are 1 h to 7 d")));
    }
    if let Eligible::Nodes { nodes } = &policy.voters {
        count("voters", nodes.len(), 1, ELIGIBLE_NODES)?;
        sorted_unique("voters", nodes)?;
    }
    count("browser_actions", policy.browser_actions.len(), 0, BROWSER_ACTIONS)?;
    sorted_unique("browser_actions", &policy.browser_actions)?;
    match policy.browser_actions.iter().find(|name| !ACTIONS.contains(&name.as_str())) {
        Some(name) => {
            Err(ValueError::new("browser_actions", format_args!("names {:?}, which is no action", cut(name))))
        }
        None => Ok(()),
    }
}

/// The bounds of one action.
pub(crate) fn action(action: &Action) -> Result<(), ValueError> {
    let good_key = |key| check_public_key(key).map_err(|e| ValueError::new("key:", e));
    match action {
        Action::SiteFound { nodes } => authorized(nodes, FOUNDING_NODES),
        Action::NodeAuthorize { nodes } => authorized(nodes, ACTION_NODES),
        Action::NodeLabel { labels: list, .. } => labels(list),
        Action::TokenMint { token, uses, addresses, labels: list, .. } => {
            good_key(token)?;
            count("uses", usize::from(*uses), 1, TOKEN_USES)?;
            count("addresses", addresses.len(), 0, TOKEN_ADDRESSES)?;
            sorted_unique("addresses", addresses)?;
            labels(list)
        }
        Action::ClusterAttach { placement: p, .. } => placement(p),
        Action::ClusterDetach { nodes, .. } => {
            count("nodes", nodes.len(), 1, ACTION_NODES)?;
            sorted_unique("nodes", nodes)
        }
        Action::AdminAdd { name, keys: list, .. } => {
            text("name", name, 1, PERSON_NAME_BYTES)?;
            keys(list, ADMIN_KEYS)
        }
        Action::KeyAdd { key, .. } => keys(std::slice::from_ref(key), 1),
        Action::PolicySet { policy: p } => policy(p),
        Action::AgentUpgrade { first, batch, .. } => {
            count("first", first.len(), 1, ACTION_NODES)?;
            sorted_unique("first", first)?;
            count("batch", usize::from(*batch), 1, AGENT_BATCH)
        }
        Action::ClusterCreate { driver, settings, .. } => settings::check(driver, settings.as_ref()),
        Action::ClusterUpgrade { driver, batch, settings, .. } => {
            count("batch", usize::from(*batch), 1, UPGRADE_BATCH)?;
            settings::check(driver, settings.as_ref())
        }
        Action::ClusterRestore { others, .. } => {
            count("others", others.len(), 0, CONTROL_PLANES - 1)?;
            sorted_unique("others", others)
        }
        Action::ClusterLabel { labels: list, taints: marks, .. } => {
            kubernetes_labels(list)?;
            taints(marks)
        }
        Action::ClusterAddonSet { manifest: lines, .. } => manifest(lines),
        Action::PublisherAdd { key, .. } => good_key(key),
        Action::RelayAdd { url: u, key } => {
            url("url", u)?;
            good_key(key)
        }
        Action::NodeRevoke { .. }
        | Action::ClusterDelete { .. }
        | Action::AdminRemove { .. }
        | Action::AdminRole { .. }
        | Action::KeyRevoke { .. }
        | Action::PublisherRemove { .. }
        | Action::RelayRemove { .. }
        | Action::RelayRegister { .. }
        | Action::IntentRelease { .. }
        | Action::AgentUpgradeStop { .. }
        | Action::ClusterUpgradeStop { .. }
        | Action::ClusterBackup { .. }
        | Action::ClusterAddonRemove { .. }
        | Action::TokenRevoke { .. }
        | Action::IntentCancel { .. } => Ok(()),
    }
}
