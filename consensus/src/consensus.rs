//! The handle that the agent holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qb_model::{NodeId, RaftId};
use tokio::sync::{RwLock, watch};
use tokio_util::task::TaskTracker;

use crate::change::{ChangeError, ProposeError, ReadError, SeatAnswer, SeatQuestion, VoterChange};
use crate::context::{Context, FatalReason, Timing};
use crate::follow::Follower;
use crate::limits::{MAX_COMMAND, MAX_FRAME};
use crate::machine::Machine;
use crate::peer::{PeerTransport, RpcKind};
use crate::seat::{Marker, Seat, SeatError, give_up_seat};
use crate::state::{SnapshotError, State};
use crate::view::RaftView;
use crate::watch_seat;
use crate::wire::{decode, encode};

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct ConsensusConfig {
    /// Where seat, log and snapshots live. Of this crate alone. Beside it, a file of its name and the ending
    /// `seat-taken` outlives it: a seat is never taken twice.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// Names the site and its epoch. Peers with another tag are refused.
    pub site_epoch_tag: [u8; 32],
    /// Timers.
    pub timing: Timing,
}

/// Why consensus does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The seat cannot be used. If [`SeatError::is_lost`], call [`crate::give_up_seat`] and open again.
    #[error(transparent)]
    Seat(#[from] SeatError),
}

/// Why a node did not take or leave a seat.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// It holds another seat.
    #[error("this node holds seat {0} already")]
    HoldsSeat(RaftId),
    /// Only a node without any state may found a site.
    #[error("this node holds state of a site already; it cannot found one")]
    HoldsState,
    /// The seat cannot be made or opened.
    #[error(transparent)]
    Seat(#[from] SeatError),
    /// The state cannot be persisted.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The core refused.
    #[error("raft refused: {0}")]
    Raft(String),
    /// It was shut down.
    #[error("consensus was shut down")]
    ShutDown,
}

/// A node has a seat or follows, never both.
enum Mode {
    Seated(Arc<Seat>),
    Following(Follower),
    Stopped,
}

struct Inner {
    context: Arc<Context>,
    mode: RwLock<Mode>,
    view: watch::Sender<Arc<RaftView>>,
    tasks: TaskTracker,
}

/// Consensus on this node. Clones share it.
#[derive(Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

impl Consensus {
    /// Loads what `config.dir` holds and goes on as what this node was: with a seat, or following.
    pub async fn open(
        config: ConsensusConfig,
        machine: Box<dyn Machine>,
        transport: Arc<dyn PeerTransport>,
    ) -> Result<Self, OpenError> {
        let marker_dir = config.dir.clone();
        let state = tokio::task::spawn_blocking(move || State::open(marker_dir, machine))
            .await
            .map_err(|e| SnapshotError::Task(e.to_string()))??;
        let context = Arc::new(Context {
            me: config.node,
            tag: config.site_epoch_tag,
            dir: config.dir,
            timing: config.timing,
            transport,
            state,
            hints: watch::Sender::default(),
            fatal: watch::Sender::default(),
        });
        let inner = Inner {
            mode: RwLock::new(Mode::Stopped),
            view: watch::Sender::default(),
            tasks: TaskTracker::new(),
            context,
        };
        let consensus = Self { inner: Arc::new(inner) };
        let mode = match Marker::load(&consensus.inner.context.dir, &config.site_epoch_tag)? {
            Some(marker) => {
                marker.note(&consensus.inner.context.dir)?;
                consensus.sit(marker).await?
            }
            None => consensus.follow(),
        };
        *consensus.inner.mode.write().await = mode;
        Ok(consensus)
    }

    async fn sit(&self, marker: Marker) -> Result<Mode, SeatError> {
        let seat = Arc::new(Seat::open(self.inner.context.clone(), marker).await?);
        let inner = &self.inner;
        inner.tasks.spawn(watch_seat::publish(seat.clone(), inner.view.clone()));
        inner.tasks.spawn(watch_seat::guard(seat.clone()));
        Ok(Mode::Seated(seat))
    }

    fn follow(&self) -> Mode {
        Mode::Following(Follower::start(self.inner.context.clone(), self.inner.view.clone()))
    }

    async fn seat(&self) -> Option<Arc<Seat>> {
        match &*self.inner.mode.read().await {
            Mode::Seated(seat) => Some(seat.clone()),
            Mode::Following(_) | Mode::Stopped => None,
        }
    }

    /// Founds a site: a group of exactly this node. Only if it holds no state; done already is done.
    pub async fn found(&self, raft_id: RaftId) -> Result<(), PromoteError> {
        let holds_state = self.inner.context.state.applied().is_some();
        if holds_state && self.seat().await.is_none() {
            return Err(PromoteError::HoldsState);
        }
        let seat = self.take_seat(raft_id).await?;
        seat.found().await.map_err(PromoteError::Raft)
    }

    /// Takes the seat that the replicated state granted. The node stops following and waits as a
    /// learner for the leader, who adds it with [`Consensus::add_learner`]. Await it to the end: a
    /// dropped call leaves this node stopped.
    pub async fn promote(&self, raft_id: RaftId) -> Result<(), PromoteError> {
        self.take_seat(raft_id).await.map(drop)
    }

    async fn take_seat(&self, raft_id: RaftId) -> Result<Arc<Seat>, PromoteError> {
        let mut mode = self.inner.mode.write().await;
        match std::mem::replace(&mut *mode, Mode::Stopped) {
            Mode::Seated(seat) => {
                let held = RaftId(seat.marker.seat);
                *mode = Mode::Seated(seat.clone());
                if held == raft_id { Ok(seat) } else { Err(PromoteError::HoldsSeat(held)) }
            }
            Mode::Following(follower) => {
                follower.stop().await;
                match self.make_seat(raft_id).await {
                    Ok(new) => {
                        *mode = new;
                        match &*mode {
                            Mode::Seated(seat) => Ok(seat.clone()),
                            _ => Err(PromoteError::ShutDown),
                        }
                    }
                    Err(error) => {
                        *mode = self.follow();
                        Err(error)
                    }
                }
            }
            Mode::Stopped => Err(PromoteError::ShutDown),
        }
    }

    async fn make_seat(&self, raft_id: RaftId) -> Result<Mode, PromoteError> {
        let context = &self.inner.context;
        if context.state.applied().is_some() {
            // The log begins where the state ends, so the state must be on disk first.
            context.state.persist().await?;
        }
        let (dir, tag) = (context.dir.clone(), context.tag);
        let made = tokio::task::spawn_blocking(move || Marker::create(&dir, raft_id.0, tag)).await;
        let marker = made.map_err(|e| PromoteError::Raft(e.to_string()))??;
        Ok(self.sit(marker).await?)
    }

    /// Gives the seat up, after the group removed it, and follows from then on. The state stays.
    pub async fn demote(&self) -> Result<(), PromoteError> {
        let mut mode = self.inner.mode.write().await;
        match std::mem::replace(&mut *mode, Mode::Stopped) {
            Mode::Seated(seat) => {
                seat.stop().await;
                self.inner.context.state.persist().await?;
                give_up_seat(&self.inner.context.dir)?;
                *mode = self.follow();
                Ok(())
            }
            other => {
                *mode = other;
                Ok(())
            }
        }
    }

    /// Proposes a command and returns its outcome. Only on the leader: the agent forwards.
    pub async fn propose(&self, command: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, ProposeError> {
        if command.len() > MAX_COMMAND {
            return Err(ProposeError::TooLarge(command.len()));
        }
        match self.seat().await {
            Some(seat) => seat.propose(command, deadline).await,
            None => Err(ProposeError::NotLeader { leader: self.inner.view.borrow().leader }),
        }
    }

    /// Confirms with a quorum that this node leads, and returns the index that a read must see. It
    /// is applied here when this returns. Only on the leader.
    pub async fn linearizable(&self, deadline: Duration) -> Result<u64, ReadError> {
        match self.seat().await {
            Some(seat) => seat.linearizable(deadline).await,
            None => Err(ReadError::NotLeader { leader: self.inner.view.borrow().leader }),
        }
    }

    /// Returns once this node has applied `index`: a follower's half of a linearizable read, or of
    /// reading what one wrote. `false` if the deadline passed first.
    pub async fn wait_applied(&self, index: u64, deadline: Duration) -> bool {
        let mut applied = self.inner.context.state.watch_applied();
        let reached = applied.wait_for(|at| at.is_some_and(|at| at.index >= index));
        matches!(tokio::time::timeout(deadline, reached).await, Ok(Ok(_)))
    }

    /// Answers a request of the connected peer `from`, whose identity the mesh has proved.
    pub async fn handle_rpc(&self, from: NodeId, kind: RpcKind, body: Bytes) -> Result<Bytes, String> {
        if body.len() > MAX_FRAME {
            return Err(format!("frame of {} bytes is greater than {MAX_FRAME}", body.len()));
        }
        let seat = self.seat().await.ok_or("this node holds no seat")?;
        match kind {
            RpcKind::Raft | RpcKind::Snapshot => seat.handle_raft(from, &body).await,
            RpcKind::Log => seat.handle_follow(&body).await,
            RpcKind::Echo => seat.handle_echo(&body),
            RpcKind::Suspect => seat.handle_suspect(&body),
            RpcKind::Seat => {
                let question: SeatQuestion = decode(&body).map_err(|e| e.to_string())?;
                if question.tag != self.inner.context.tag {
                    return Err("request of another site or epoch".into());
                }
                let Marker { seat, store, .. } = seat.marker;
                Ok(encode(&SeatAnswer { seat, store }))
            }
        }
    }

    /// What this node knows of the group.
    pub fn metrics(&self) -> watch::Receiver<Arc<RaftView>> {
        self.inner.view.subscribe()
    }

    /// Adds `node`, which has been promoted to `raft_id`, as a learner. Only on the leader.
    pub async fn add_learner(&self, raft_id: RaftId, node: NodeId) -> Result<(), ChangeError> {
        self.leading().await?.add_learner(raft_id, node).await
    }

    /// Promotes, removes or replaces voters in one change. Only on the leader.
    pub async fn change_voters(&self, change: VoterChange) -> Result<(), ChangeError> {
        self.leading().await?.change_voters(change).await
    }

    /// Hands the lead to `to`. Only on the leader.
    pub async fn transfer_leader(&self, to: RaftId) -> Result<(), ChangeError> {
        self.leading().await?.transfer_leader(to).await
    }

    async fn leading(&self) -> Result<Arc<Seat>, ChangeError> {
        let leader = self.inner.view.borrow().leader;
        self.seat().await.ok_or(ChangeError::NotLeader { leader })
    }

    /// Tells where voters may be found, besides those in the committed membership. A Raft peer that
    /// the membership does not know yet is believed only if it is among these.
    pub fn set_voter_hints(&self, voters: Vec<NodeId>) {
        self.inner.context.hints.send_if_modified(|old| {
            let new = *old != voters;
            *old = voters;
            new
        });
    }

    /// The last connection to `peer` closed. If it leads, this node finds out at once whether it is
    /// gone, instead of waiting for the timers.
    pub async fn peer_closed(&self, peer: NodeId) {
        if let Some(seat) = self.seat().await {
            self.inner.tasks.spawn(async move {
                tokio::select! {
                    () = seat.cancel.cancelled() => {}
                    () = seat.clone().suspect_leader(peer) => {}
                }
            });
        }
    }

    /// Resolves when the process must end, with the reason.
    pub async fn fatal(&self) -> FatalReason {
        let mut fatal = self.inner.context.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Stops everything. The log is closed and a follower's state is on disk when this returns.
    pub async fn shutdown(&self) {
        match std::mem::replace(&mut *self.inner.mode.write().await, Mode::Stopped) {
            Mode::Seated(seat) => seat.stop().await,
            Mode::Following(follower) => follower.stop().await,
            Mode::Stopped => {}
        }
        self.inner.context.state.settle().await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}
