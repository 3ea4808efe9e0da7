//! Labels and taints of nodes, and add-ons, in this node's cluster: kept by the control plane member that
//! keeps role bindings, whenever an intent changes them and again and again, since people can change them
//! in the cluster as well. Each add-on has its own pace: one that fails holds no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use qb_exec::limits::KEEP_INTENTS;
use qb_exec::{CitedIntent, KeepRequest, StageError, TrustGrounds};
use qb_model::assignment::Citation;
use qb_model::board::{Keeping, MAX_KEEPING};
use qb_model::state::{Cluster, SiteState};
use qb_model::{Digest, Name, NodeId};
use tokio::time::Instant;

use crate::bindings::{Schedule, TURN, keeper};
use crate::events;
use crate::node::Node;
use crate::text::clean_line;

/// A thing that is kept with a pace of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// Labels and taints of some nodes: the first of them.
    Marks(NodeId),
    /// An add-on.
    Addon(Name),
}

/// What is kept, by which intents, in which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    cluster: Name,
    cites: Vec<Digest>,
}

/// What this node keeps, with how it went last.
#[derive(Default)]
pub struct Keeps(Mutex<BTreeMap<Thing, Keeping>>);

impl Keeps {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Thing, Keeping>> {
        self.0.lock().expect("no code that holds the lock can panic")
    }

    /// What the node's report says of it: what failed is not what is left out.
    pub fn shown(&self) -> Vec<Keeping> {
        let mut all: Vec<Keeping> = self.lock().values().cloned().collect();
        all.sort_by_key(|kept| kept.text.is_empty());
        all.truncate(MAX_KEEPING);
        all
    }

    /// Notes how it went; true if that is news.
    fn note(&self, thing: &Thing, cites: Digest, done: &Result<(), StageError>) -> bool {
        let (text, remedy) = match done {
            Ok(()) => (String::new(), String::new()),
            Err(error) => (clean_line(&error.text), clean_line(&error.remedy)),
        };
        let addon = match thing {
            Thing::Addon(name) => Some(name.clone()),
            Thing::Marks(_) => None,
        };
        let mut all = self.lock();
        let before = all.get(thing);
        let same = before.is_some_and(|b| b.cites == cites && b.text == text);
        if !same {
            all.insert(thing.clone(), Keeping { addon, cites, since: events::now(), text, remedy });
        }
        !same
    }

    /// Forgets what is not kept any more.
    fn retain(&self, keep: impl Fn(&Thing) -> bool) {
        self.lock().retain(|thing, _| keep(thing));
    }
}

/// What is to be kept in a cluster: nodes in groups, add-ons one by one.
fn things(state: &SiteState, cluster: &Cluster) -> BTreeMap<Thing, Vec<Citation>> {
    // Others are not in the cluster yet.
    let joined = |node: &NodeId| state.node(node).is_some_and(|n| n.phase.serves());
    let marks: Vec<_> = cluster.marks.iter().filter(|(node, _)| joined(node)).collect();
    let groups = marks.chunks(KEEP_INTENTS).filter_map(|group| {
        let (first, _) = group.first()?;
        Some((Thing::Marks(**first), group.iter().map(|(_, marks)| marks.cites).collect()))
    });
    let addons = cluster.addons.iter().map(|(name, addon)| (Thing::Addon(name.clone()), vec![addon.cites]));
    groups.chain(addons).collect()
}

/// The request that keeps a thing; none if an intent is not held here, which a snapshot rules out.
fn request(state: &SiteState, cluster: &Name, cites: &[Citation]) -> Option<KeepRequest> {
    let intent = |cites: &Citation| {
        let live = state.intents().get(&cites.digest)?;
        Some(CitedIntent { envelope: live.envelope.clone(), cites: *cites, at: live.at })
    };
    let intents = cites.iter().map(intent).collect::<Option<Vec<_>>>()?;
    let grounds = TrustGrounds { charter: state.charter().to_vec(), trust_log: state.trust().log().to_vec() };
    Some(KeepRequest { cluster: cluster.clone(), grounds, intents })
}

/// Keeps it for as long as the agent runs. Nothing waits for it.
pub async fn run(node: Arc<Node>) {
    let Some(exec) = node.exec.get() else { return };
    let (mut state, mut link) = (node.state.clone(), exec.link());
    let mut schedules: BTreeMap<Thing, Schedule<Due>> = BTreeMap::new();
    loop {
        let connected = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
        let able = link.borrow_and_update().waits.is_empty() && !*node.revoked.borrow();
        let now = Instant::now();
        let (due, first) = {
            let state = state.borrow_and_update();
            let cluster = keeper(&state, node.id(), |n| connected.contains(n)).filter(|_| able);
            let all = cluster.map(|c| (c.name.clone(), things(&state, c)));
            let (name, all) = all.unzip();
            let all = all.unwrap_or_default();
            // Who gets its turn again begins anew: others kept it meanwhile.
            schedules.retain(|thing, _| all.contains_key(thing));
            node.keeps.retain(|thing| all.contains_key(thing));
            earliest(&mut schedules, name, all, now)
        };
        if let Some((thing, due, cites)) = due {
            let asked = request(&node.site(), &due.cluster, &cites);
            let done = match asked {
                Some(asked) => exec.keep(&node, asked).await,
                None => continue_later(),
            };
            tell(&node, &thing, &due, &done);
            schedules.entry(thing).or_default().ended(due, done.is_ok(), Instant::now());
            continue;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = link.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(first.min(now + TURN)) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

fn continue_later() -> Result<(), StageError> {
    let (title, text) = ("look at the state".to_owned(), "an intent is not in this node's state".to_owned());
    Err(StageError { step: 0, title, text, remedy: "it is tried again".to_owned(), returned: false })
}

/// What is to be done now, the longest due first, and when something is next.
#[allow(clippy::type_complexity)]
fn earliest(
    schedules: &mut BTreeMap<Thing, Schedule<Due>>,
    cluster: Option<Name>,
    all: BTreeMap<Thing, Vec<Citation>>,
    now: Instant,
) -> (Option<(Thing, Due, Vec<Citation>)>, Instant) {
    let Some(cluster) = cluster else { return (None, now + TURN) };
    let next = all.into_iter().map(|(thing, cites)| {
        let due = Due { cluster: cluster.clone(), cites: cites.iter().map(|c| c.digest).collect() };
        let at = schedules.entry(thing.clone()).or_default().next(&due, now);
        (at, (thing, due, cites))
    });
    match next.min_by_key(|(at, _)| *at) {
        Some((at, thing)) if at <= now => (Some(thing), at),
        Some((at, _)) => (None, at),
        None => (None, now + TURN),
    }
}

/// Says how it went, each failure once.
fn tell(node: &Node, thing: &Thing, due: &Due, done: &Result<(), StageError>) {
    if node.cancel.is_cancelled() {
        return;
    }
    let cites = due.cites.first().copied().unwrap_or(Digest([0; 32]));
    if !node.keeps.note(thing, cites, done) {
        return;
    }
    node.report_now.notify_one();
    let what = match thing {
        Thing::Marks(_) => "labels and taints of nodes".to_owned(),
        Thing::Addon(name) => format!("add-on {name}"),
    };
    let cluster = &due.cluster;
    let text = match done {
        Ok(()) => format!("{what} of {cluster}: as ordered"),
        Err(error) => format!("{what} of {cluster}: {}; {}", clean_line(&error.text), error.remedy),
    };
    if done.is_err() {
        tracing::warn!(%cluster, "{text}");
    }
    node.events.say(events::now(), "cluster", cluster.as_str(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addon(name: &str) -> Thing {
        Thing::Addon(name.parse().expect("a name"))
    }

    fn cites(n: u8) -> Vec<Citation> {
        vec![Citation { digest: Digest([n; 32]), index: u64::from(n) }]
    }

    fn failed(text: &str) -> Result<(), StageError> {
        let remedy = "again".to_owned();
        Err(StageError { step: 1, title: "t".into(), text: text.into(), remedy, returned: false })
    }

    #[test]
    fn one_that_fails_waits_and_holds_no_other() {
        let (now, mut schedules) = (Instant::now(), BTreeMap::new());
        let cluster: Option<Name> = Some("c1".parse().expect("a name"));
        let all = |n: u8| BTreeMap::from([(addon("bad"), cites(1)), (addon("good"), cites(n))]);
        let mut next = |n: u8, ok: Option<bool>| {
            let (due, at) = earliest(&mut schedules, cluster.clone(), all(n), now);
            let (thing, due, _) = match due {
                Some(due) => due,
                None => return (None, (at - now).as_secs()),
            };
            if let Some(ok) = ok {
                schedules.entry(thing.clone()).or_default().ended(due, ok, now);
            }
            (Some(thing), 0)
        };
        assert_eq!(next(2, Some(false)).0, Some(addon("bad")));
        assert_eq!(next(2, Some(true)).0, Some(addon("good")));
        assert_eq!(next(2, None), (None, 2), "the failed one is next, after a pause");
        assert_eq!(next(3, Some(true)).0, Some(addon("good")), "a change is done at once");
        assert_eq!(next(3, None), (None, 2));
        assert!(earliest(&mut BTreeMap::new(), None, all(1), now).0.is_none(), "not its turn");
    }

    #[test]
    fn each_failure_is_news_once_and_failures_are_shown_first() {
        let keeps = Keeps::default();
        assert!(keeps.note(&addon("a"), Digest([1; 32]), &Ok(())));
        assert!(!keeps.note(&addon("a"), Digest([1; 32]), &Ok(())));
        assert!(keeps.note(&addon("b"), Digest([2; 32]), &failed("no kind\u{1b}[31m Foo\n")));
        assert!(!keeps.note(&addon("b"), Digest([2; 32]), &failed("no kind\u{1b}[31m Foo\n")));
        let shown = keeps.shown();
        assert_eq!((shown[0].text.as_str(), shown[0].remedy.as_str()), ("no kind[31m Foo", "again"));
        assert!(shown[1].text.is_empty() && shown[1].addon.is_some());
        assert!(keeps.note(&addon("b"), Digest([2; 32]), &failed("another")));
        assert!(keeps.note(&addon("b"), Digest([3; 32]), &failed("another")), "another intent");
        keeps.retain(|thing| *thing == addon("a"));
        assert_eq!(keeps.shown().len(), 1);
    }
}
