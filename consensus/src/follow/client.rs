//! The follower's side of following.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use qb_model::NodeId;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{FollowAnswer, FollowQuestion, Want};
use crate::context::{Context, FatalReason};
use crate::limits::{
    FOLLOW_GRACE, FOLLOW_PAUSE_MAX, FOLLOW_PAUSE_MIN, FOLLOW_WAIT, MAX_SNAPSHOT, PERSIST_AFTER,
    SNAPSHOT_ENTRIES,
};
use crate::peer::{RpcKind, TransportError};
use crate::state::ApplyError;
use crate::view::{RaftView, Role};
use crate::wire::{LogPos, WireEntry, WirePayload, WireSnapshotMeta, decode};

/// A node without a seat, at work.
pub(crate) struct Follower {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Follower {
    /// Starts to follow.
    pub(crate) fn start(context: Arc<Context>, view: watch::Sender<Arc<RaftView>>) -> Self {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let work = Work { context, view, stop, dirty: None, unsaved: 0, leader: None, term: 0 };
        let task = tokio::spawn(work.run());
        Self { cancel, task }
    }

    /// Ends it; the state is on disk when this returns.
    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        if self.task.await.is_err() {
            tracing::error!("the follower ended with a panic");
        }
    }
}

/// Why a voter was left for another.
#[derive(Debug, thiserror::Error)]
enum Leave {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("it has applied less than this node")]
    Behind,
    #[error("it shows another history than this node holds")]
    Diverged,
    #[error("its answer is not valid: {0}")]
    Invalid(String),
    #[error("this node ends")]
    Stopped,
}

struct Work {
    context: Arc<Context>,
    view: watch::Sender<Arc<RaftView>>,
    /// Looked at only while waiting: a round that has its answer is finished, so that nothing is
    /// half applied or half written.
    stop: CancellationToken,
    /// Since when changes wait to be persisted, and how many.
    dirty: Option<Instant>,
    unsaved: u64,
    leader: Option<NodeId>,
    term: u64,
}

impl Work {
    async fn run(mut self) {
        self.publish();
        let mut hints = self.context.hints.subscribe();
        let (mut turn, mut pause) = (0usize, FOLLOW_PAUSE_MIN);
        while !self.stop.is_cancelled() {
            let voters = self.voters();
            let Some(voter) = voters.get(turn % voters.len().max(1)).copied() else {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    _ = hints.changed() => {}
                }
                continue;
            };
            match self.round(voter).await {
                Ok(()) => pause = FOLLOW_PAUSE_MIN,
                Err(Leave::Stopped) => break,
                Err(why) => {
                    tracing::debug!(%voter, %why, "following another voter");
                    turn = turn.wrapping_add(1);
                    tokio::select! {
                        () = self.stop.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(FOLLOW_PAUSE_MAX);
                }
            }
            self.persist(false).await;
        }
        self.persist(true).await;
    }

    /// Whom to follow: what the agent says, then what the committed membership says.
    fn voters(&self) -> Vec<NodeId> {
        let mut out = self.context.hints.borrow().clone();
        let membership = self.context.state.membership().membership;
        let is_voter = |id: &u64| membership.configs.iter().any(|c| c.contains(id));
        out.extend(membership.members.iter().filter(|(id, _)| is_voter(id)).map(|(_, m)| m.node()));
        let mut seen = std::collections::BTreeSet::from([self.context.me]);
        out.retain(|node| seen.insert(*node));
        out
    }

    async fn round(&mut self, voter: NodeId) -> Result<(), Leave> {
        let after = self.context.state.applied();
        let wait = match self.dirty {
            Some(since) => PERSIST_AFTER.saturating_sub(since.elapsed()).min(FOLLOW_WAIT),
            None => FOLLOW_WAIT,
        };
        let want = Want::Entries { after, wait_ms: wait.as_millis() as u32 };
        match self.ask(voter, want, wait + FOLLOW_GRACE).await? {
            FollowAnswer::Entries { entries, term, leader } => {
                (self.term, self.leader) = (term, leader.map(NodeId));
                self.apply(after, entries)?;
            }
            FollowAnswer::Snapshot { meta, total, sha256 } => {
                self.install(voter, after, meta, total, sha256).await?;
            }
            FollowAnswer::Behind => return Err(Leave::Behind),
            FollowAnswer::Diverged => {
                tracing::error!(%voter, at = ?after, "voter shows another history than this node");
                return Err(Leave::Diverged);
            }
            FollowAnswer::Chunk(_) | FollowAnswer::Gone => {
                return Err(Leave::Invalid("not what was asked for".into()));
            }
        }
        self.publish();
        Ok(())
    }

    async fn ask(&self, voter: NodeId, want: Want, deadline: Duration) -> Result<FollowAnswer, Leave> {
        let question = FollowQuestion { tag: self.context.tag, want };
        tokio::select! {
            () = self.stop.cancelled() => Err(Leave::Stopped),
            answer = self.context.ask(voter, RpcKind::Log, &question, deadline) => Ok(answer?),
        }
    }

    fn apply(&mut self, after: Option<LogPos>, entries: Vec<WireEntry>) -> Result<(), Leave> {
        let mut last = after;
        let mut decoded: Vec<(LogPos, WirePayload)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let follows =
                last.map_or(entry.at.index == 0, |last| entry.at.index == last.index + 1 && entry.at > last);
            if !follows {
                return Err(Leave::Invalid(format!("entry {} is out of order", entry.at.index)));
            }
            last = Some(entry.at);
            let payload = decode(&entry.payload).map_err(|e| Leave::Invalid(e.to_string()))?;
            decoded.push((entry.at, payload));
        }
        if decoded.is_empty() {
            return Ok(());
        }
        self.dirty.get_or_insert_with(Instant::now);
        self.unsaved += decoded.len() as u64;
        self.context.state.apply(decoded).map(drop).map_err(|error| {
            self.context.fail(FatalReason::State(error.to_string()));
            Leave::Stopped
        })
    }

    async fn install(
        &self,
        voter: NodeId,
        after: Option<LogPos>,
        meta: WireSnapshotMeta,
        total: u64,
        sha256: [u8; 32],
    ) -> Result<(), Leave> {
        let last = meta.last.filter(|last| Some(*last) > after && total <= MAX_SNAPSHOT);
        let last = last.ok_or_else(|| Leave::Invalid("snapshot goes back or is too large".into()))?;
        let mut data = BytesMut::new();
        loop {
            let want = Want::Chunk { last, offset: data.len() as u64 };
            match self.ask(voter, want, FOLLOW_WAIT).await? {
                FollowAnswer::Chunk(chunk) => {
                    data.extend_from_slice(&chunk.data);
                    if data.len() as u64 >= total || chunk.data.is_empty() {
                        break;
                    }
                }
                // It built a newer one: the next round asks for that.
                FollowAnswer::Gone => return Ok(()),
                _ => return Err(Leave::Invalid("not what was asked for".into())),
            }
        }
        if <[u8; 32]>::from(Sha256::digest(&data)) != sha256 {
            return Err(Leave::Invalid("snapshot is damaged".into()));
        }
        match self.context.state.install(meta, data.freeze()).await {
            Ok(()) => Ok(()),
            Err(ApplyError::Refused(why)) => Err(Leave::Invalid(why)),
            Err(error) => {
                self.context.fail(FatalReason::State(error.to_string()));
                Err(Leave::Stopped)
            }
        }
    }

    async fn persist(&mut self, now: bool) {
        let due = self
            .dirty
            .is_some_and(|since| now || since.elapsed() >= PERSIST_AFTER || self.unsaved >= SNAPSHOT_ENTRIES);
        if !due {
            return;
        }
        match self.context.state.persist().await {
            Ok(_) => (self.dirty, self.unsaved) = (None, 0),
            Err(error) => self.context.fail(FatalReason::State(error.to_string())),
        }
    }

    fn publish(&self) {
        let state = &self.context.state;
        let applied = state.applied().map(|at| at.index);
        let mut view = RaftView::of_follower(&state.membership().membership, applied);
        (view.term, view.leader) = (self.term, self.leader);
        debug_assert_eq!(view.role, Role::Following);
        let view = Arc::new(view);
        self.view.send_if_modified(|old| {
            let new = *old != view;
            *old = view;
            new
        });
    }
}
