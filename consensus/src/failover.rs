//! A new leader within tens of milliseconds when the old one's connections close.
//!
//! ```text
//! connection to the leader closed ─► echo: "do you lead under v?" ── yes ─► false alarm
//!        │ refused, "no", or failed twice                                 
//!        ▼
//!     LOST(v) ─► poll the voters: "did you lose v, too?" ─► a majority ─► the best log elects
//! ```
//! Safety is Raft's: votes, terms and logs are compared as ever. What this takes away is the lease,
//! a device for liveness and for lease reads, which are banned. So that one node cannot take it
//! away for others, a voter obeys the flag that overrides its lease only if it holds LOST itself, or
//! heard the leader hand over. A death that closes no connection falls to the timers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use openraft::raft::TransferLeaderRequest;
use qb_model::NodeId;
use serde::{Deserialize, Serialize};

use crate::peer::{RpcKind, TransportError};
use crate::seat::Seat;
use crate::types::{log_id, membership_to_wire, vote_from_wire, vote_to_wire};
use crate::wire::{LogPos, WireMembership, WireVote, decode, encode};

/// How long an echo or a poll may take: a LAN answers in one.
const ECHO_DEADLINE: Duration = Duration::from_millis(100);
/// The pause between two echoes or polls.
const AGAIN: Duration = Duration::from_millis(4);
/// After this the timers decide.
const GIVE_UP: Duration = Duration::from_secs(3);
/// How long a voter gives each one with a better log before it elects itself.
const DEFER: Duration = Duration::from_millis(60);
/// After a fast election there is none for this long.
const REST: Duration = Duration::from_secs(1);
/// This many fast elections within [`FLAP_WINDOW`] turn the mechanism off for [`FLAP_REST`].
const FLAP_COUNT: usize = 3;
const FLAP_WINDOW: Duration = Duration::from_secs(60);
const FLAP_REST: Duration = Duration::from_secs(600);

/// What this node thinks of the leader's life.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    /// The vote whose leader is being looked into.
    pursuing: Option<WireVote>,
    /// The vote whose leader this node found gone by its own echo.
    lost: Option<WireVote>,
    /// The vote whose leader said that it hands over.
    transfer: Option<WireVote>,
    breaker: Breaker,
}

/// Keeps a leader that comes and goes from causing one election after another.
#[derive(Debug, Default)]
struct Breaker {
    elections: VecDeque<Instant>,
    off_until: Option<Instant>,
}

impl Breaker {
    fn allows(&self, now: Instant) -> bool {
        let rested = self.elections.back().is_none_or(|last| now.duration_since(*last) >= REST);
        rested && self.off_until.is_none_or(|until| now >= until)
    }

    fn note(&mut self, now: Instant) {
        self.elections.push_back(now);
        while self.elections.front().is_some_and(|at| now.duration_since(*at) > FLAP_WINDOW) {
            self.elections.pop_front();
        }
        if self.elections.len() >= FLAP_COUNT {
            tracing::error!("the leader changed too often: fast failover is off for ten minutes");
            self.off_until = Some(now + FLAP_REST);
            self.elections.clear();
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Question {
    tag: [u8; 32],
    vote: WireVote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SuspectAnswer {
    /// Holds the same vote and found its leader gone.
    agrees: bool,
    last: Option<LogPos>,
}

/// What the polled voters' answers lead to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// No majority holds the leader for gone.
    Wait,
    /// This node has the best log of those who agree.
    Elect,
    /// So many who agree have a better log.
    Defer(u32),
}

/// Judges a poll. `agreeing` maps seats to their last entry and includes this node.
fn judge(membership: &WireMembership, me: u64, agreeing: &BTreeMap<u64, Option<LogPos>>) -> Verdict {
    let majority =
        |config: &Vec<u64>| config.iter().filter(|id| agreeing.contains_key(id)).count() * 2 > config.len();
    if membership.configs.is_empty() || !membership.configs.iter().all(majority) {
        return Verdict::Wait;
    }
    let rank = |id: u64| (agreeing.get(&id).copied().flatten(), id);
    match agreeing.keys().filter(|id| rank(**id) > rank(me)).count() {
        0 => Verdict::Elect,
        better => Verdict::Defer(better as u32),
    }
}

/// What this node knows at the moment of asking.
struct Now {
    vote: WireVote,
    leads: bool,
    membership: WireMembership,
}

impl Seat {
    fn suspicion(&self) -> MutexGuard<'_, Suspicion> {
        self.suspicion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may override this voter's lease in `current`.
    pub(crate) fn allows_transfer(&self, current: &WireVote) -> bool {
        let suspicion = self.suspicion();
        suspicion.lost.as_ref() == Some(current) || suspicion.transfer.as_ref() == Some(current)
    }

    /// The leader of `vote` itself said that it hands over; the gate has checked that it is it.
    pub(crate) fn note_transfer(&self, vote: WireVote) {
        self.suspicion().transfer = Some(vote);
    }

    fn now(&self) -> Now {
        let metrics = self.metrics();
        Now {
            vote: vote_to_wire(&metrics.vote),
            leads: metrics.state.is_leader(),
            membership: membership_to_wire(metrics.membership_config.membership()),
        }
    }

    fn question(&self, body: &[u8]) -> Result<WireVote, String> {
        let question: Question = decode(body).map_err(|e| e.to_string())?;
        if question.tag != self.context.tag {
            return Err("request of another site or epoch".into());
        }
        Ok(question.vote)
    }

    /// "Do you lead under this vote?"
    pub(crate) fn handle_echo(&self, body: &[u8]) -> Result<Bytes, String> {
        let vote = self.question(body)?;
        let now = self.now();
        Ok(encode(&(now.leads && now.vote == vote)))
    }

    /// "Did you lose the leader of this vote, too?"
    pub(crate) fn handle_suspect(&self, body: &[u8]) -> Result<Bytes, String> {
        let vote = self.question(body)?;
        let agrees = self.suspicion().lost == Some(vote) && self.now().vote == vote;
        Ok(encode(&SuspectAnswer { agrees, last: self.log.last() }))
    }

    /// The connection to `peer` closed. Elects if it led, is gone, and a majority finds the same.
    pub(crate) async fn suspect_leader(self: Arc<Self>, peer: NodeId) {
        let now = self.now();
        let vote = now.vote;
        let me = self.marker.seat;
        let leads = |id: u64, m: &WireMembership| {
            m.members.iter().any(|(seat, member)| *seat == id && member.node() == peer)
        };
        let voter = now.membership.configs.iter().any(|c| c.contains(&me));
        if !vote.committed || vote.leader == me || !voter || !leads(vote.leader, &now.membership) {
            return;
        }
        {
            let mut suspicion = self.suspicion();
            let free = suspicion.pursuing != Some(vote) && suspicion.breaker.allows(Instant::now());
            if !free {
                return;
            }
            suspicion.pursuing = Some(vote);
        }
        let elected = tokio::time::timeout(GIVE_UP, self.pursue(peer, vote)).await;
        let mut suspicion = self.suspicion();
        suspicion.pursuing = None;
        match elected {
            // The finding stays: it lets this voter grant others what it found itself.
            Ok(true) => suspicion.breaker.note(Instant::now()),
            Ok(false) | Err(_) => suspicion.lost = None,
        }
    }

    /// Returns whether this node started an election.
    async fn pursue(&self, peer: NodeId, vote: WireVote) -> bool {
        let mut failures = 0;
        while failures < 2 {
            match self.echo(peer, vote).await {
                Ok(true) => return false,
                Ok(false) | Err(TransportError::ConnectionRefused) => break,
                Err(_) => failures += 1,
            }
            tokio::time::sleep(AGAIN).await;
        }
        tracing::warn!(leader = %peer, term = vote.term, "the leader is gone");
        self.suspicion().lost = Some(vote);
        let mut deferred = false;
        loop {
            let now = self.now();
            if now.vote != vote {
                return false;
            }
            let (alive, agreeing) = tokio::join!(self.echo(peer, vote), self.poll(&now, peer));
            if matches!(alive, Ok(true)) {
                return false;
            }
            match judge(&now.membership, self.marker.seat, &agreeing) {
                Verdict::Defer(better) if !deferred => {
                    deferred = true;
                    tokio::time::sleep(DEFER * better).await;
                }
                Verdict::Wait => tokio::time::sleep(AGAIN).await,
                Verdict::Elect | Verdict::Defer(_) => return self.elect(vote).await,
            }
        }
    }

    async fn echo(&self, peer: NodeId, vote: WireVote) -> Result<bool, TransportError> {
        let question = Question { tag: self.context.tag, vote };
        self.context.ask(peer, RpcKind::Echo, &question, ECHO_DEADLINE).await
    }

    /// Who agrees that the leader is gone, and how far their logs go; this node included.
    async fn poll(&self, now: &Now, leader: NodeId) -> BTreeMap<u64, Option<LogPos>> {
        let me = self.marker.seat;
        let question = Question { tag: self.context.tag, vote: now.vote };
        let voters: BTreeSet<u64> = now.membership.configs.iter().flatten().copied().collect();
        let others = now
            .membership
            .members
            .iter()
            .filter(|(id, member)| *id != me && member.node() != leader && voters.contains(id));
        let asks = others.map(|(id, member)| {
            let (id, node, question) = (*id, member.node(), &question);
            async move {
                let answer: Result<SuspectAnswer, _> =
                    self.context.ask(node, RpcKind::Suspect, question, ECHO_DEADLINE).await;
                answer.ok().filter(|a| a.agrees).map(|a| (id, a.last))
            }
        });
        let mut agreeing: BTreeMap<_, _> = join_all(asks).await.into_iter().flatten().collect();
        agreeing.insert(me, self.log.last());
        agreeing
    }

    /// Elects, unless the vote changed meanwhile: the library compares it.
    async fn elect(&self, vote: WireVote) -> bool {
        let last = self.log.last();
        let request =
            TransferLeaderRequest::new(vote_from_wire(&vote), self.marker.seat, last.as_ref().map(log_id));
        matches!(self.raft.handle_transfer_leader(request).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Option<LogPos> {
        Some(LogPos { term: 1, leader: 1, index })
    }

    #[test]
    fn verdicts() {
        let group = |configs: &[&[u64]]| WireMembership {
            configs: configs.iter().map(|c| c.to_vec()).collect(),
            members: Vec::new(),
        };
        let three = group(&[&[1, 2, 3]]);
        let joint = group(&[&[1, 2, 3], &[2, 4, 5]]);
        type Row<'a> = (&'a WireMembership, &'a [(u64, u64)], Verdict);
        let table: [Row<'_>; 8] = [
            (&three, &[(2, 9)], Verdict::Wait),
            (&three, &[(2, 9), (3, 8)], Verdict::Elect),
            (&three, &[(2, 9), (3, 9)], Verdict::Defer(1)),
            (&three, &[(2, 8), (3, 9)], Verdict::Defer(1)),
            (&three, &[(2, 9), (4, 9)], Verdict::Wait),
            (&joint, &[(2, 9), (3, 9)], Verdict::Wait),
            (&joint, &[(2, 9), (3, 1), (4, 1)], Verdict::Elect),
            (&group(&[]), &[(2, 9)], Verdict::Wait),
        ];
        for (n, (membership, agreeing, verdict)) in table.into_iter().enumerate() {
            let agreeing = agreeing.iter().map(|(id, index)| (*id, at(*index))).collect();
            assert_eq!(judge(membership, 2, &agreeing), verdict, "row {n}");
        }
    }

    #[test]
    fn breaker_rests_and_trips() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        assert!(breaker.allows(start));
        breaker.note(start);
        assert!(!breaker.allows(start + REST / 2));
        assert!(breaker.allows(start + REST));
        breaker.note(start + REST);
        breaker.note(start + REST * 2);
        assert!(!breaker.allows(start + REST * 4));
        assert!(breaker.allows(start + REST * 2 + FLAP_REST));
    }
}
