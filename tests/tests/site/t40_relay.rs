//! A site and its relay: intents and receipts, either side dying, a site that is away, and a site
//! that is founded with nothing but a relay between its nodes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use qb_model::action::{Action, AuthorizedNode, KeyClass, Label, NewKey, RevokeReason, Role};
use qb_model::charter::Charter;
use qb_model::trust::TrustState;
use qb_model::{NodeId, SiteId};
use qb_tests::binaries::Binaries;
use qb_tests::relay::{Door, Relay};
use qb_tests::signing::Signatory;
use qb_tests::site::{Layout, Site};
use qb_tests::views::{Head, Node};
use qb_tests::wait::eventually;
use serde_json::Value;

use super::SOON;

/// How long a session may live after its key was revoked, at any door: a rule, not patience.
const OUT: Duration = Duration::from_secs(5);

/// A site of three agents, and its relay.
pub(super) struct Linked {
    pub(super) site: Site,
    pub(super) relay: Relay,
    pub(super) id: SiteId,
    mira: Signatory,
    _dir: tempfile::TempDir,
}

impl Linked {
    /// With addresses 127.0.`net`.*, and the relay's port by the same number; it runs, the agents do not.
    fn prepared(net: u8, seeds: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("qb").tempdir()?;
        let binaries = Binaries::find()?.with_relay()?;
        let layout = Layout { dir: dir.path().join("s"), name: "lyon".into(), net: [127, 0, net] };
        let mut site = Site::open(&layout, &binaries)?;
        site.agents.truncate(3);
        site.ports_free()?;
        site.create()?;
        let relay = Relay::open(dir.path(), 18_400 + u16::from(net), &binaries)?;
        let envelope = site.trust_relay(&relay.url(), relay.key, seeds)?;
        let charter = Charter::verify(&envelope)?;
        let id = charter.site_id();
        let trust = TrustState::from_charter(&charter).head().to_string();
        let mira = site.founder()?;
        relay.register(&envelope, &mira, id, &Head { index: 0, hash: id.0.to_string(), trust })?;
        Ok(Self { site, relay, id, mira, _dir: dir })
    }

    /// A site of three members with a gateway.
    pub(super) fn founded(net: u8, change: impl FnOnce(&mut Site)) -> Result<(Self, Door)> {
        let mut linked = Self::prepared(net, true)?;
        change(&mut linked.site);
        let mut begin = || {
            linked.site.start()?;
            super::waiting(&mut linked.site, 3)?;
            linked.site.qb.ok(&["node", "authorize", "--waiting", "-y"])?;
            let door = linked.relay.log_in(&linked.mira)?;
            in_pool(&door, 3)?;
            Ok(door)
        };
        let door = begin().map_err(|e: anyhow::Error| anyhow::anyhow!("{e:#}\n{}", linked.last_words()))?;
        Ok((linked, door))
    }

    /// The envelope of an order that labels a node, by what the relay shows.
    fn label(&self, door: &Door, host: &str, value: &str) -> Result<Vec<u8>> {
        let nodes: Vec<Node> = door.get("/v1/sites/lyon/nodes")?;
        let node = nodes.iter().find(|n| n.name == host).context("the node is shown")?.id.parse()?;
        let labels = vec![Label { key: "rack".parse()?, value: value.parse()? }];
        self.sign(door, Action::NodeLabel { node, labels })
    }

    fn sign(&self, door: &Door, action: Action) -> Result<Vec<u8>> {
        let head: Head = door.get("/v1/sites/lyon/head")?;
        self.mira.sign(&self.mira.intent(self.id, &head, action)?)
    }

    pub(super) fn told(&self, result: Result<()>) {
        if let Err(e) = result {
            panic!("{e:#}\n{}", self.last_words());
        }
    }

    fn last_words(&self) -> String {
        let relay = std::fs::read_to_string(&self.relay.log).unwrap_or_default();
        let lines: Vec<&str> = relay.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("{}--- relay\n{last}", self.site.tails(15))
    }
}

/// Waits until the relay shows so many members.
fn in_pool(door: &Door, count: usize) -> Result<()> {
    eventually(SOON, "the relay shows the pool", || {
        let nodes: Vec<Node> = door.get("/v1/sites/lyon/nodes")?;
        let there = nodes.iter().filter(|n| n.state == "pool").count();
        ensure!(there == count, "{there}: {nodes:?}");
        Ok(())
    })
}

/// Sends an intent at the relay and waits for the site's receipt.
fn receipt(door: &Door, envelope: &[u8]) -> Result<Value> {
    let answer = door.post("/v1/sites/lyon/intents?wait=30s", envelope)?;
    ensure!(answer.text("state") == "done", "{}", answer.json());
    ensure!(answer.text("detail").contains("receipt signed by node-"), "{}", answer.json());
    Ok(answer.json())
}

/// The host whose door the relay shows.
fn gateway(door: &Door) -> Result<String> {
    let view: Value = door.get("/v1/sites/lyon")?;
    ensure!(
        view["waiting_on"].as_array().is_none_or(|w| w.iter().all(|w| w["code"] != "relay.stale")),
        "{view}"
    );
    view["door"]["host"].as_str().map(str::to_owned).context("no door")
}

/// How often an intent is in the audit of the site.
fn applied(site: &mut Site, digest: &str) -> Result<usize> {
    let audit: Value = site.get("/audit?from=1&limit=500")?;
    let records = audit["records"].as_array().context("no records")?;
    Ok(records.iter().filter(|r| r["digest"] == digest).count())
}

fn labels(site: &mut Site, host: &str) -> Result<Vec<String>> {
    let nodes = site.nodes()?;
    Ok(nodes.into_iter().find(|n| n.name == host).context("no such node")?.labels)
}

#[test]
fn t40_intents_pass_the_relay_and_the_site_lives_without_it() {
    let (mut linked, door) = Linked::founded(41, |_| {}).expect("a site starts");
    let result = relay_killed(&mut linked, &door);
    linked.told(result);
}

fn relay_killed(linked: &mut Linked, door: &Door) -> Result<()> {
    let envelope = linked.label(door, "node-2", "one")?;
    let first = receipt(door, &envelope)?;
    // The same bytes again: the same outcome, applied once.
    let again = receipt(door, &envelope)?;
    ensure!(again["index"] == first["index"], "{first} {again}");
    let digest = first["digest"].as_str().context("a digest")?.to_owned();
    ensure!(applied(&mut linked.site, &digest)? == 1, "applied once");

    linked.relay.kill();
    let site = &mut linked.site;
    site.qb.ok(&["node", "label", "node-2", "rack=two", "-y"])?;
    eventually(SOON, "the site says that it has no link", || {
        let view: Value = site.get("")?;
        let waits = view["waiting_on"].as_array().context("a list")?;
        ensure!(waits.iter().any(|w| w["code"] == "relay.link"), "{view}");
        Ok(())
    })?;
    linked.relay.start()?;
    let door = linked.relay.log_in(&linked.mira)?;
    eventually(SOON, "the relay shows what happened", || {
        let nodes: Vec<Node> = door.get("/v1/sites/lyon/nodes")?;
        let node = nodes.iter().find(|n| n.name == "node-2").context("node-2")?;
        ensure!(node.labels == ["rack=two"], "{node:?}");
        Ok(())
    })?;
    eventually(SOON, "the site says no more that it has no link", || {
        let view: Value = linked.site.get("")?;
        ensure!(
            view["waiting_on"].as_array().is_some_and(|w| w.iter().all(|w| w["code"] != "relay.link")),
            "{view}"
        );
        Ok(())
    })
}

#[test]
fn t41_the_standby_takes_over_and_an_intent_is_applied_once() {
    let (mut linked, door) = Linked::founded(42, |_| {}).expect("a site starts");
    let result = gateway_killed(&mut linked, &door);
    linked.told(result);
}

fn gateway_killed(linked: &mut Linked, door: &Door) -> Result<()> {
    // Two of three nodes vote at the least once the third has come; a majority must survive.
    super::grown(&mut linked.site)?;
    for round in ["one", "two"] {
        let first = eventually(SOON, "a gateway", || gateway(door))?;
        let envelope = linked.label(door, "node-2", round)?;
        linked.site.agent(&first)?.kill();
        let done = receipt(door, &envelope)?;
        let second = eventually(SOON, "another gateway", || {
            let now = gateway(door)?;
            ensure!(now != first, "still {now}");
            Ok(now)
        })?;
        let digest = done["digest"].as_str().context("a digest")?.to_owned();
        ensure!(applied(&mut linked.site, &digest)? == 1, "applied once");
        // The place of the standby is taken again.
        eventually(SOON, "a gateway and a standby", || {
            let events = std::fs::read_to_string(&linked.relay.log)?;
            let (up, down) = (events.matches("a link is up").count(), events.matches("a link ended").count());
            ensure!(up - down == 2, "{up} came, {down} went");
            Ok(())
        })?;
        linked.site.start_one(&first)?;
        eventually(SOON, "it is a member again", || {
            let head: Head =
                qb_tests::http::get(&linked.site.agent(&first)?.socket(), "/v1/sites/lyon/head")?;
            ensure!(head == linked.site.head()?, "{head:?}");
            Ok(())
        })?;
        ensure!(gateway(door)? == second, "a returned node takes no place");
    }
    Ok(())
}

#[test]
fn t42_an_intent_for_a_site_that_is_away_waits_and_is_delivered_once() {
    let (mut linked, door) = Linked::founded(43, |_| {}).expect("a site starts");
    let result = site_away(&mut linked, &door);
    linked.told(result);
}

fn site_away(linked: &mut Linked, door: &Door) -> Result<()> {
    let envelope = linked.label(door, "node-3", "late")?;
    linked.site.kill();
    let answer = eventually(SOON, "the relay knows that nobody is there", || {
        let answer = door.post("/v1/sites/lyon/intents", &envelope)?;
        ensure!(answer.text("state") == "held", "{}", answer.json());
        Ok(answer)
    })?;
    ensure!(answer.text("detail").starts_with("the relay says: queued"), "{}", answer.json());
    linked.site.start()?;
    let digest = answer.text("digest");
    eventually(SOON, "the receipt", || {
        let view: Value = door.get(&format!("/v1/sites/lyon/intents/{digest}?wait=5s"))?;
        ensure!(view["state"] == "done", "{view}");
        Ok(())
    })?;
    ensure!(applied(&mut linked.site, &digest)? == 1, "applied once");
    ensure!(labels(&mut linked.site, "node-3")? == ["rack=late"], "it is in force");
    Ok(())
}

#[test]
fn t43_a_site_is_founded_and_grows_through_the_relay_alone() {
    let mut linked = Linked::prepared(44, false).expect("a relay starts");
    let result = founded_through(&mut linked);
    linked.told(result);
}

fn founded_through(linked: &mut Linked) -> Result<()> {
    linked.site.start()?;
    let door = linked.relay.log_in(&linked.mira)?;
    let waiting = eventually(SOON, "three machines knock", || {
        let nodes: Vec<Node> = door.get("/v1/sites/lyon/nodes")?;
        ensure!(nodes.iter().filter(|n| n.state == "waiting").count() == 3, "{nodes:?}");
        Ok(nodes)
    })?;
    for node in &waiting {
        let why = node.waiting_on.as_ref().context("it says why")?;
        ensure!(why.text.contains("through the relay"), "{why:?}");
        ensure!(node.roles == ["came through the relay"], "{:?}", node.roles);
    }
    let named = |node: &Node| -> Result<AuthorizedNode> {
        let id: NodeId = node.id.parse()?;
        let knock = node.knock.as_ref().context("a knock")?.parse()?;
        Ok(AuthorizedNode { node: id, host: node.name.parse()?, knock })
    };
    // Not the first by key or name: the intent alone names it.
    let (founder, others) = waiting.split_last().context("three")?;
    let found = linked.sign(&door, Action::SiteFound { nodes: vec![named(founder)?] })?;
    receipt(&door, &found)?;
    let mut nodes: Vec<AuthorizedNode> = others.iter().map(named).collect::<Result<_>>()?;
    nodes.sort_by_key(|n| n.node);
    let order = eventually(SOON, "the founded site's head", || {
        let head: Head = door.get("/v1/sites/lyon/head")?;
        ensure!(head.index > 0, "{head:?}");
        linked.mira.sign(&linked.mira.intent(
            linked.id,
            &head,
            Action::NodeAuthorize { nodes: nodes.clone() },
        )?)
    })?;
    receipt(&door, &order)?;
    in_pool(&door, 3)?;
    // Each of them has the site's state from its members, not from the relay.
    linked.relay.kill();
    let head = linked.site.head()?;
    for agent in &linked.site.agents {
        eventually(SOON, "every node has the same state", || {
            let own: Head = qb_tests::http::get(&agent.socket(), "/v1/sites/lyon/head")?;
            ensure!(own.index >= head.index, "{}: {} of {}", agent.spec.name, own.index, head.index);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn t44_a_node_without_a_way_to_the_relay_is_reached_through_its_neighbours() {
    // Nothing listens where its proxy is said to be.
    let without = |site: &mut Site| {
        for agent in &mut site.agents[..2] {
            agent.options = vec!["--relay-proxy=http://127.0.45.9:1".to_owned()];
        }
    };
    let (mut linked, door) = Linked::founded(45, without).expect("a site starts");
    let result = no_way(&mut linked, &door);
    linked.told(result);
}

fn no_way(linked: &mut Linked, door: &Door) -> Result<()> {
    ensure!(gateway(door)? == "node-3", "only it has a way");
    receipt(door, &linked.label(door, "node-1", "far")?)?;
    ensure!(labels(&mut linked.site, "node-1")? == ["rack=far"], "it is in force");
    // Its own door knows that the site has a link, once it heard who holds it.
    eventually(SOON, "no door waits for a link", || {
        let view: Value = linked.site.get("")?;
        ensure!(view["door"]["host"] == "node-1", "{view}");
        ensure!(
            view["waiting_on"].as_array().is_some_and(|w| w.iter().all(|w| w["code"] != "relay.link")),
            "{view}"
        );
        Ok(())
    })
}

#[test]
fn t50_a_session_ends_everywhere_when_its_key_is_revoked() {
    let (linked, door) = Linked::founded(52, |_| {}).expect("a site starts");
    let result = key_revoked(&linked, &door);
    linked.told(result);
}

fn key_revoked(linked: &Linked, door: &Door) -> Result<()> {
    let vera = Signatory::fresh("vera")?;
    let keys = [Signatory::fresh("vera")?.public_key(), vera.public_key()];
    let mut keys: Vec<NewKey> =
        keys.into_iter().map(|key| NewKey { key, class: KeyClass::Cli, expires_ms: None }).collect();
    keys.sort_by_key(|new| new.key);
    let (admin, key) = (vera.admin.clone(), vera.public_key());
    let add = Action::AdminAdd { admin: admin.clone(), name: "Vera".into(), role: Role::Operator, keys };
    receipt(door, &linked.sign(door, add)?)?;
    // A session at the relay, and one at each node's own door.
    let strangers: Vec<Door> = linked.site.agents.iter().map(Door::of).chain([linked.relay.door()]).collect();
    let doors: Vec<Door> = strangers
        .into_iter()
        .map(|door| eventually(SOON, "vera is let in", || door.clone().log_in(&vera)))
        .collect::<Result<_>>()?;
    for door in &doors {
        ensure!(door.status("/v1/sites")? == 200, "{door:?}");
    }
    let others = linked.site.agents.iter().map(|agent| Door::of(agent).log_in(&linked.mira));
    let others: Vec<Door> = others.collect::<Result<_>>()?;
    let revoke = Action::KeyRevoke { admin, key, reason: RevokeReason::Compromised };
    receipt(door, &linked.sign(door, revoke)?)?;
    let begun = Instant::now();
    for door in &doors {
        let left = OUT.saturating_sub(begun.elapsed());
        eventually(left, "the session is over", || {
            let status = door.status("/v1/sites")?;
            ensure!(status == 401, "{status} at {door:?}");
            Ok(())
        })?;
        ensure!(door.clone().log_in(&vera).is_err(), "the key is let in again at {door:?}");
    }
    // Nobody else's.
    for door in others.iter().chain([door]) {
        ensure!(door.status("/v1/sites")? == 200, "{door:?}");
    }
    Ok(())
}
