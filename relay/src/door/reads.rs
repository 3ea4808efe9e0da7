//! Views: from the gateway while there is a link, otherwise as they were, with their age.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use qb_model::attest::Attestation;
use qb_model::charter::CharterRelay;
use qb_model::words::{fingerprint, words};
use qb_model::{NodeId, PublicKey};
use qb_portal::Answer;
use qb_portal::view::{
    AdminKeyView, AdminView, AlertView, Counts, DoorView, Head, LinkView, NodeView, Problem, RelayView,
    SiteView,
};
use serde::de::DeserializeOwned;

use super::not_known;
use crate::alerts;
use crate::ask::{self, Heard};
use crate::fold::Part;
use crate::limits::ASK;
use crate::relay::Relay;
use crate::site::{LiveSite, now};
use crate::trust::Belief;

/// Seeds in an enrolment file: one that answers will do, and relays are in it besides.
const SEEDS: usize = 3;
/// Where agents hear knocks unless they are told otherwise; their reports have addresses and no ports.
const KNOCK_PORT: u16 = 7444;

/// A view, and when it was read if that was before.
pub(super) struct Seen<T> {
    pub(super) value: T,
    pub(super) stale: Option<u64>,
}

/// Reads a view at the site, or takes the last one.
pub(super) async fn view<T: DeserializeOwned>(site: &LiveSite, part: Part) -> Answer<Seen<T>> {
    let why = match ask::ask_site(site, &part.question(site.id()), ASK).await {
        Heard::Said(said) if said.status.is_success() => {
            let value = ask::read(&said)?;
            site.fold.put(part, said.body, now());
            return Ok(Seen { value, stale: None });
        }
        Heard::Said(said) if !said.status.is_server_error() => {
            return Err(ask::read::<T>(&said).err().unwrap_or_else(|| Problem::internal("Asking the site")));
        }
        Heard::Said(said) => format!("its gateway answers {}", said.status),
        Heard::Nobody(why) => why,
    };
    match site.fold.get(part) {
        Some((value, at)) => Ok(Seen { value, stale: Some(at) }),
        None => Err(not_known("This was never read from the site", &why)),
    }
}

/// The site, now or as it was.
pub(super) async fn site(site: &LiveSite) -> Answer<SiteView> {
    match view::<SiteView>(site, Part::Site).await {
        Ok(seen) => Ok(checked(site, seen.value, seen.stale)),
        Err(_) => Ok(last_site(site)),
    }
}

/// The site as it was read last: for lists, which ask nobody.
pub(super) fn last_site(site: &LiveSite) -> SiteView {
    match site.fold.get::<SiteView>(Part::Site) {
        Some((value, at)) => {
            let stale = site.links.gateway().is_none().then_some(at);
            checked(site, value, stale)
        }
        None => checked(site, blank(site), Some(0)),
    }
}

/// Puts what the relay has verified itself over what a gateway says, and says how old it is.
fn checked(site: &LiveSite, mut view: SiteView, stale: Option<u64>) -> SiteView {
    let belief = site.belief();
    (view.id, view.name) = (site.id(), site.name.clone());
    view.words = words(&site.id().0.0).join(" ");
    let provisional = belief.trust.is_provisional();
    view.trust = if provisional { "provisional" } else { "settled" }.to_owned();
    view.relays = relays(site, &belief, view.relays);
    if let Some(at) = stale {
        view.waiting_on.insert(0, alerts::stale(site, at, now()));
    }
    view
}

/// The relays that the site trusts. Who is linked to this one, it knows itself.
fn relays(site: &LiveSite, belief: &Belief, said: Vec<RelayView>) -> Vec<RelayView> {
    let linked = |key: &PublicKey| -> Vec<LinkView> {
        if *key != site.relay() {
            return said.iter().find(|r| r.key == *key).map(|r| r.links.clone()).unwrap_or_default();
        }
        let live = site.links.live();
        let nodes = live.iter().map(|link| link.peer.node);
        nodes.filter_map(|node| Some(LinkView { node, host: belief.roster.host(&node)?.clone() })).collect()
    };
    let all = belief.trust.relays().iter();
    all.map(|(key, relay)| RelayView { url: relay.url.clone(), key: *key, links: linked(key) }).collect()
}

/// Where a site stands that nobody founded yet.
pub(super) fn beginning(site: &LiveSite) -> Head {
    let belief = site.belief();
    Head { index: 0, hash: site.id().0, trust: belief.trust.head(), log_time: belief.log_time() }
}

/// A site that was never read.
fn blank(site: &LiveSite) -> SiteView {
    let belief = site.belief();
    let id = site.id();
    // `relay` is a host name; the node's key is the site's own, which is nobody's.
    let host = "relay".parse().expect("relay is a host name");
    SiteView {
        v: 1,
        id,
        words: String::new(),
        name: site.name.clone(),
        founded: belief.roster.last() > 0,
        trust: String::new(),
        door: DoorView { node: NodeId(id.0.0), host, agent: "none".to_owned() },
        head: beginning(site),
        voters: Vec::new(),
        leader: None,
        term: 0,
        may_fail: 0,
        relays: Vec::new(),
        counts: Counts::default(),
        clusters: 0,
        agent_upgrade: None,
        waiting_on: Vec::new(),
    }
}

/// The nodes of the site, and those that knock through the relay.
pub(super) async fn nodes(site: &LiveSite) -> Answer<Vec<NodeView>> {
    let knocks = site.knocks.views();
    let mut nodes = match view::<Vec<NodeView>>(site, Part::Nodes).await {
        Ok(seen) => aged(site, seen),
        Err(problem) if knocks.is_empty() => return Err(problem),
        Err(_) => Vec::new(),
    };
    // What the site heard itself counts for more.
    let unknown = knocks.into_iter().filter(|knock| nodes.iter().all(|node| node.id != knock.id));
    let unknown: Vec<NodeView> = unknown.collect();
    nodes.extend(unknown);
    nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(nodes)
}

/// Reports grow older while nobody brings new ones.
fn aged(site: &LiveSite, seen: Seen<Vec<NodeView>>) -> Vec<NodeView> {
    let mut nodes = seen.value;
    if let Some(at) = seen.stale {
        let (now, age) = (now(), now().saturating_sub(at));
        for node in &mut nodes {
            node.report_age_ms = node.report_age_ms.map(|ms| ms.saturating_add(age));
            node.waiting_on.get_or_insert_with(|| alerts::stale(site, at, now));
        }
    }
    nodes
}

/// A node by name, key, or a prefix of either that names exactly one.
pub(super) fn find_node(nodes: Vec<NodeView>, text: &str) -> Answer<NodeView> {
    let exact = |node: &&NodeView| node.name.as_str() == text || node.id.to_string() == text;
    if let [one] = nodes.iter().filter(exact).collect::<Vec<_>>().as_slice() {
        return Ok((*one).clone());
    }
    let begins = |node: &&NodeView| {
        node.name.as_str().starts_with(text)
            || node.fingerprint.starts_with(text)
            || node.id.to_string().starts_with(text)
    };
    let names = |some: &[&NodeView]| some.iter().map(|node| node.name.to_string()).collect::<Vec<_>>();
    match nodes.iter().filter(begins).collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let known = names(&nodes.iter().collect::<Vec<_>>());
            Err(Problem::not_found("node", text, &known, "qb node list"))
        }
        several => Err(Problem::ambiguous("node", text, &names(several))),
    }
}

/// The admins, from the trust log that the relay has verified.
pub(super) fn admins(site: &LiveSite) -> Vec<AdminView> {
    let belief = site.belief();
    let key = |(key, entry): (&PublicKey, &qb_model::trust::AdminKey)| AdminKeyView {
        key: *key,
        fingerprint: fingerprint(&key.0),
        class: entry.class,
        expires: entry.expires,
    };
    let admins = belief.trust.admins().iter();
    let view = |(id, admin): (&qb_model::Name, &qb_model::trust::Admin)| AdminView {
        admin: id.clone(),
        name: admin.name.clone(),
        role: admin.role,
        generation: admin.generation,
        keys: admin.keys.iter().map(key).collect(),
    };
    admins.map(view).collect()
}

/// What voters signed, now or as it was. The relay adds nothing and vouches for nothing: the reader
/// verifies it from the charter, and tells its age by the signed time.
pub(super) async fn attestation(site: &LiveSite) -> Answer<Attestation> {
    let Seen { mut value, stale } = view::<Attestation>(site, Part::Attestation).await?;
    if stale.is_some() {
        value.why = Some("the relay has no link to the site".to_owned());
    }
    Ok(value)
}

/// The charter's envelope.
pub(super) fn charter(site: &LiveSite) -> Answer<String> {
    let charter = site.belief().charter.envelope().to_vec();
    String::from_utf8(charter).map_err(|_| Problem::internal("Reading the charter"))
}

/// Charter, relays with their keys, seeds. Everything in it is known without a secret, and nothing
/// in it lets anybody in.
pub(crate) fn enrolment(site: &LiveSite) -> Answer<String> {
    let belief = site.belief();
    let relays = belief.trust.relays().iter();
    let relays: Vec<_> =
        relays.map(|(key, relay)| CharterRelay { url: relay.url.clone(), key: *key }).collect();
    let seeds = seeds(site, &belief);
    let failed = |_| Problem::internal("Writing the enrolment file");
    let bytes = qb_model::enrolment::write(&belief.charter, &relays, &seeds).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| Problem::internal("Writing the enrolment file"))
}

/// Where the members that came first hear knocks. Members that come later change nothing, so that a
/// package whose digest somebody wrote down stays what it is. What is no address is left out: a gateway
/// said it.
fn seeds(site: &LiveSite, belief: &Belief) -> Vec<SocketAddr> {
    let nodes = site.fold.get::<Vec<NodeView>>(Part::Nodes).map(|(nodes, _)| nodes).unwrap_or_default();
    let members = nodes.iter().filter_map(|node| {
        let address = node.facts.as_ref()?.addresses.first()?;
        Some((belief.roster.entry(&node.id)?, node.id, address.as_str()))
    });
    first_seeds(members)
}

/// Of members, with the record that let each in and the address that its agent listens on.
fn first_seeds<'a>(members: impl Iterator<Item = (u64, NodeId, &'a str)>) -> Vec<SocketAddr> {
    let addresses = members.filter_map(|(entry, node, address)| {
        let ip = address.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified())?;
        Some((entry, node, SocketAddr::new(ip, KNOCK_PORT)))
    });
    let mut all: Vec<_> = addresses.collect();
    all.sort_unstable();
    all.into_iter().map(|(.., seed)| seed).take(SEEDS).collect()
}

/// The site's alerts as last known, and the relay's own.
pub(super) async fn alerts(relay: &Arc<Relay>, site: &LiveSite) -> Answer<Vec<AlertView>> {
    let own = alerts::of_site(site, now(), relay.config.timing.dark);
    let mut all = match view::<Vec<AlertView>>(site, Part::Alerts).await {
        Ok(seen) => seen.value,
        Err(_) => Vec::new(),
    };
    all.splice(0..0, own);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_of_the_members_that_came_first_and_of_addresses_only() {
        let node = |n: u8| NodeId([n; 32]);
        let first = [(7, node(9), "10.0.0.9"), (1, node(8), "10.0.0.8"), (1, node(2), "fd00::2")];
        let seeds = first_seeds(first.into_iter());
        let text: Vec<String> = seeds.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["[fd00::2]:7444", "10.0.0.8:7444", "10.0.0.9:7444"]);
        let later = [
            (8, node(0), "10.0.0.1"),
            (0, node(1), "token=abc"),
            (0, node(3), ""),
            (0, node(4), "0.0.0.0"),
            (0, node(5), "10.0.0.1:7443"),
        ];
        assert_eq!(first_seeds(later.into_iter().chain(first)), seeds);
    }
}
