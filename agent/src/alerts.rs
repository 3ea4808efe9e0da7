//! Alerts: the leader judges once a second, every other node keeps a copy of its list, and every door
//! tells what is new as an event. Which list the leader has comes with the answers to reports, so
//! that nobody asks while there is nothing new. If another node comes to lead, it goes on with its copy.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use qb_consensus::RaftView;
use qb_model::alerts::{self, Alert, Kept, Mark, News, Scene};
use qb_model::{Millis, NodeId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::Node;
use crate::propose::target;
use crate::rpc::{AlertsAnswer, kind};

/// How often the leader judges.
const EVERY: Duration = Duration::from_secs(1);
/// A longer pause between two judgements means that this process was stopped, or its clock set: what
/// was heard before says nothing of who is silent now. In milliseconds.
const BREAK_MS: u64 = 3_000;
/// Deadline of one question to the leader.
const ASK: Duration = Duration::from_secs(2);
/// How long a door looks for a leader before it says that there is none: longer than an election.
const LOOK: Duration = Duration::from_secs(2);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The alerts as this node knows them.
#[derive(Default)]
pub struct Watch {
    held: Mutex<Held>,
    newer: Notify,
}

#[derive(Default)]
struct Held {
    /// The list, of this leader or copied from another.
    kept: Kept,
    /// Which list that is; none before the first.
    mark: Option<Mark>,
    /// The newest list that was heard of.
    told: Option<Mark>,
    /// While this node leads.
    lead: Option<Lead>,
    /// Since when it knows no leader.
    leaderless: Option<Millis>,
}

#[derive(Clone, Copy)]
struct Lead {
    term: u64,
    /// Since when it has listened without a break.
    watching: Millis,
    /// When it judged last.
    judged: Millis,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no code that holds the lock can panic")
    }

    /// Which list this node has made as the leader; none if it does not lead.
    pub fn mark(&self) -> Option<Mark> {
        let held = self.lock();
        held.lead.and(held.mark)
    }

    /// Since when this node knows no leader, by its clock; none while it knows one.
    pub fn leaderless(&self) -> Option<Millis> {
        self.lock().leaderless
    }

    /// Notes which list the leader has.
    pub fn hear_of(&self, mark: Mark) {
        let mut held = self.lock();
        held.told = held.told.max(Some(mark));
        if held.told != held.mark {
            self.newer.notify_one();
        }
    }
}

impl Held {
    /// The lead in this term at `now`, begun anew after a break.
    fn lead(&mut self, term: u64, now: Millis) -> Lead {
        let goes_on = |l: &Lead| l.term == term && l.judged <= now && now.since(l.judged) <= BREAK_MS;
        let watching = self.lead.filter(goes_on).map_or(now, |l| l.watching);
        let lead = Lead { term, watching, judged: now };
        self.lead = Some(lead);
        if self.mark.is_none_or(|m| m.term != term) {
            self.mark = Some(Mark { term, count: 0 });
        }
        lead
    }

    /// Takes another leader's list in; what is new in it, unless it is the first one.
    fn copy(&mut self, mark: Mark, list: Kept, now: Millis) -> Vec<News> {
        let first = self.mark.is_none();
        let news = if first { Vec::new() } else { self.kept.news_in(&list, now) };
        (self.kept, self.mark) = (list, Some(mark));
        self.told = self.told.max(Some(mark));
        news
    }
}

/// Judges or follows for as long as the agent runs.
pub async fn run(node: Arc<Node>) {
    loop {
        turn(&node).await;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = node.watch.newer.notified() => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

async fn turn(node: &Arc<Node>) {
    let state = node.site();
    if !state.founded() {
        return;
    }
    node.recorder.retain(|n| state.nodes().contains_key(n) || *n == node.id());
    let (raft, now) = (node.raft(), node.site_now());
    {
        let mut held = node.watch.lock();
        held.leaderless = match raft.leader {
            Some(_) => None,
            None => held.leaderless.or(Some(now)),
        };
    }
    if leads(node, &raft) {
        judge(node, raft.term, &raft.voters.values().copied().collect());
        return;
    }
    let behind = {
        let mut held = node.watch.lock();
        held.lead = None;
        held.told.is_some() && held.told != held.mark
    };
    if behind {
        copy(node).await;
    }
}

/// Voters that this node is connected to, itself among them.
fn answering(node: &Node, raft: &RaftView) -> usize {
    let connected = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
    raft.voters.values().filter(|v| **v == node.id() || connected.contains(v)).count()
}

/// Whether this node leads, and a majority with it: Raft lets one that was cut off call itself leader
/// until it hears of another.
fn leads(node: &Node, raft: &RaftView) -> bool {
    raft.is_leader() && answering(node, raft) * 2 > raft.voters.len()
}

/// One judgement of the leader.
fn judge(node: &Node, term: u64, voters: &BTreeSet<NodeId>) {
    let (state, now) = (node.site(), node.site_now());
    let mut held = node.watch.lock();
    let lead = held.lead(term, now);
    let verdict = {
        let board = node.board();
        node.recorder.with(|history| {
            let scene = Scene { state: &state, board: &board, history, voters, watching: lead.watching };
            alerts::judge(&scene, now, &held.kept)
        })
    };
    let news = verdict.news();
    held.kept = verdict.kept;
    if let (false, Some(mark)) = (news.is_empty(), &mut held.mark) {
        mark.count += 1;
    }
    drop(held);
    tell(node, now, &news);
}

/// Fetches the leader's list.
async fn copy(node: &Arc<Node>) {
    let Some(to) = target(node, None) else { return };
    match node.ask(to, kind::ALERTS, &(), ASK).await {
        Ok(AlertsAnswer::List(mark, list)) => {
            let (now, list) = (node.site_now(), bounded(list));
            let news = node.watch.lock().copy(mark, list, now);
            tell(node, now, &news);
        }
        Ok(AlertsAnswer::NotLeader(_)) => {}
        Err(e) => tracing::debug!(%to, "alerts: {e}"),
    }
}

fn bounded(mut list: Kept) -> Kept {
    list.bound(crate::text::clean_line);
    list
}

fn tell(node: &Node, now: Millis, news: &[News]) {
    for told in news {
        let (alert, text) = (told.alert(), told.text());
        tracing::info!(rule = alert.rule.word(), "{} {text}", alert.subject);
        node.events.say(now, "alert", &alert.subject, text);
    }
}

/// What a member is told that asks for the list.
pub fn answer(node: &Node) -> AlertsAnswer {
    let held = node.watch.lock();
    match (held.lead, held.mark) {
        (Some(_), Some(mark)) if leads(node, &node.raft()) => AlertsAnswer::List(mark, held.kept.clone()),
        _ => AlertsAnswer::NotLeader(node.raft().leader.filter(|l| *l != node.id())),
    }
}

/// The alerts as the leader has them; without one, that there is none.
pub async fn list(node: &Arc<Node>) -> Vec<Alert> {
    if !node.site().founded() {
        return Vec::new();
    }
    let since = node.watch.lock().leaderless;
    // A door that has known for long that there is no leader looks once.
    let known = since.is_some_and(|at| u128::from(node.site_now().since(at)) > LOOK.as_millis());
    let until = Instant::now() + if known { Duration::ZERO } else { LOOK };
    let mut hint = None;
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(PAUSE);
        let answered = match target(node, hint.take()) {
            Some(to) if to == node.id() => Some(answer(node)),
            Some(to) => node.ask(to, kind::ALERTS, &(), left).await.ok(),
            None => None,
        };
        match answered {
            Some(AlertsAnswer::List(_, list)) => return bounded(list).list(),
            Some(AlertsAnswer::NotLeader(leader)) => hint = leader,
            None => {}
        }
        if Instant::now() >= until {
            return vec![without_leader(node, since)];
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn without_leader(node: &Node, since: Option<Millis>) -> Alert {
    let raft = node.raft();
    let answer = answering(node, &raft);
    let since = since.unwrap_or_else(|| node.site_now());
    Alert::without_leader(node.site().name(), (answer, raft.voters.len()), since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(term: u64, count: u64) -> Mark {
        Mark { term, count }
    }

    #[test]
    fn a_lead_listens_anew_after_a_break() {
        let mut held = Held::default();
        for (term, at, watching) in [
            (1, 10_000, 10_000),
            (1, 11_000, 10_000),
            (1, 14_000, 10_000),
            (1, 17_001, 17_001),
            (1, 16_000, 16_000),
            (2, 16_500, 16_500),
            (2, 17_500, 16_500),
        ] {
            assert_eq!(held.lead(term, Millis(at)).watching, Millis(watching), "at {at}");
            assert_eq!(held.mark, Some(mark(term, 0)));
        }
    }

    #[test]
    fn a_newer_list_is_fetched_once() {
        let watch = Watch::default();
        assert_eq!(watch.mark(), None);
        watch.hear_of(mark(2, 5));
        watch.hear_of(mark(1, 9));
        assert_eq!(watch.lock().told, Some(mark(2, 5)), "an old leader's word is older");
        assert_eq!(watch.lock().copy(mark(2, 6), Kept::default(), Millis(1)), []);
        let (told, held) = {
            let held = watch.lock();
            (held.told, held.mark)
        };
        assert_eq!(told, held);
        assert_eq!(watch.mark(), None, "a copy is not this node's own");
    }
}
