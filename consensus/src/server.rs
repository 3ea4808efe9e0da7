//! Requests of other voters, judged and handed to the consensus library.

use std::sync::PoisonError;

use bytes::{Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use qb_model::NodeId;
use sha2::{Digest, Sha256};

use crate::gate::Gate;
use crate::limits::MAX_SNAPSHOT;
use crate::seat::Seat;
use crate::types::{
    Snapshot, Types, entry_from_wire, log_id, membership_to_wire, meta_from_wire, pos, vote_from_wire,
    vote_to_wire,
};
use crate::wire::{
    LogPos, RaftAnswer, RaftFrame, RaftRequest, SnapshotChunk, WireSnapshotMeta, WireVote, decode, encode,
};

/// A snapshot that arrives in pieces. One at a time: a new one replaces it.
pub(crate) struct Assembly {
    from: NodeId,
    meta: WireSnapshotMeta,
    sha256: [u8; 32],
    total: u64,
    data: BytesMut,
}

/// What taking a piece led to.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Next(u64),
    Whole(Bytes),
}

impl Seat {
    /// Answers a Raft request of the connected peer `from`.
    pub(crate) async fn handle_raft(&self, from: NodeId, body: &[u8]) -> Result<Bytes, String> {
        let (frame, current) = self.admit(from, body)?;
        let answer = match frame.request {
            RaftRequest::Append { vote, prev, entries, commit } => {
                let entries = entries.iter().map(entry_from_wire).collect::<Result<Vec<_>, _>>();
                self.append(AppendEntriesRequest {
                    vote: vote_from_wire(&vote),
                    prev_log_id: prev.as_ref().map(log_id),
                    entries: entries.map_err(|e| e.to_string())?,
                    leader_commit: commit.as_ref().map(log_id),
                })
                .await
            }
            RaftRequest::Vote { vote, last, transfer } => {
                let mut request = vote_request(&vote, last.as_ref());
                // The flag takes the voter's lease away. One node's word is not enough for that.
                request.leadership_transfer = transfer && self.allows_transfer(&current);
                self.raft.vote(request).await.map(vote_answer).map_err(|e| e.to_string())
            }
            RaftRequest::PreVote { vote, last } => {
                let request = vote_request(&vote, last.as_ref());
                self.raft.pre_vote(request).await.map(vote_answer).map_err(|e| e.to_string())
            }
            RaftRequest::Transfer { vote, to, last } => {
                self.note_transfer(vote);
                self.transfer(vote, to, last.as_ref()).await
            }
            RaftRequest::Snapshot { vote, meta, chunk } => self.snapshot(from, vote, meta, chunk).await,
        };
        answer.map(|answer| encode(&answer))
    }

    /// Decodes a request and judges its sender; also returns the vote that this node holds.
    fn admit(&self, from: NodeId, body: &[u8]) -> Result<(RaftFrame, WireVote), String> {
        let frame: RaftFrame = decode(body).map_err(|e| e.to_string())?;
        let metrics = self.metrics();
        let gate = Gate {
            tag: &self.context.tag,
            seat: self.marker.seat,
            store: &self.marker.store,
            term: metrics.current_term,
            membership: &membership_to_wire(metrics.membership_config.membership()),
            hints: &self.context.hints.borrow().clone(),
        };
        gate.check(from, &frame).map_err(|e| e.to_string())?;
        Ok((frame, vote_to_wire(&metrics.vote)))
    }

    async fn append(&self, request: AppendEntriesRequest<Types>) -> Result<RaftAnswer, String> {
        let answer = self.raft.append_entries(request).await.map_err(|e| e.to_string())?;
        Ok(match answer {
            AppendEntriesResponse::Success => RaftAnswer::Appended,
            AppendEntriesResponse::PartialSuccess(at) => RaftAnswer::AppendedTo(at.as_ref().map(pos)),
            AppendEntriesResponse::Conflict => RaftAnswer::Conflict,
            AppendEntriesResponse::HigherVote(vote) => RaftAnswer::HigherVote(vote_to_wire(&vote)),
        })
    }

    async fn transfer(&self, vote: WireVote, to: u64, last: Option<&LogPos>) -> Result<RaftAnswer, String> {
        let request = TransferLeaderRequest::new(vote_from_wire(&vote), to, last.map(log_id));
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => Ok(RaftAnswer::Transferred),
            Ok(Err(refused)) => Ok(RaftAnswer::TransferRefused(refused.to_string())),
            Err(fatal) => Err(fatal.to_string()),
        }
    }

    async fn snapshot(
        &self,
        from: NodeId,
        vote: WireVote,
        meta: WireSnapshotMeta,
        chunk: SnapshotChunk,
    ) -> Result<RaftAnswer, String> {
        let piece = {
            let mut assembly = self.assembly.lock().unwrap_or_else(PoisonError::into_inner);
            take_piece(&mut assembly, from, &meta, chunk)?
        };
        let data = match piece {
            Piece::Next(next) => return Ok(RaftAnswer::SnapshotChunk { next }),
            Piece::Whole(data) => data,
        };
        // Inside the library a refusal would end the process.
        self.context.state.verify(&data).map_err(|e| e.to_string())?;
        let meta = meta_from_wire(&meta).map_err(|e| e.to_string())?;
        let snapshot = Snapshot { meta, snapshot: data };
        let installed = self.raft.install_full_snapshot(vote_from_wire(&vote), snapshot).await;
        let answer = installed.map_err(|e| e.to_string())?;
        Ok(RaftAnswer::SnapshotInstalled(vote_to_wire(&answer.vote)))
    }
}

fn vote_request(vote: &WireVote, last: Option<&LogPos>) -> VoteRequest<Types> {
    VoteRequest::new(vote_from_wire(vote), last.map(log_id))
}

fn vote_answer(answer: VoteResponse<Types>) -> RaftAnswer {
    RaftAnswer::Vote {
        vote: vote_to_wire(&answer.vote),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(pos),
    }
}

fn take_piece(
    slot: &mut Option<Assembly>,
    from: NodeId,
    meta: &WireSnapshotMeta,
    chunk: SnapshotChunk,
) -> Result<Piece, String> {
    if chunk.total > MAX_SNAPSHOT {
        return Err(format!("snapshot of {} bytes is greater than {MAX_SNAPSHOT}", chunk.total));
    }
    if chunk.offset == 0 {
        let (sha256, total) = (chunk.sha256, chunk.total);
        *slot = Some(Assembly { from, meta: meta.clone(), sha256, total, data: BytesMut::new() });
    }
    let same = |a: &&mut Assembly| {
        a.from == from
            && a.meta == *meta
            && (a.sha256, a.total) == (chunk.sha256, chunk.total)
            && a.data.len() as u64 == chunk.offset
    };
    let assembly = slot.as_mut().filter(same).ok_or("snapshot piece does not fit: begin again")?;
    assembly.data.extend_from_slice(&chunk.data);
    let length = assembly.data.len() as u64;
    if length < assembly.total && !chunk.data.is_empty() {
        return Ok(Piece::Next(length));
    }
    let assembly = slot.take().ok_or("no snapshot is arriving")?;
    let whole =
        length == assembly.total && <[u8; 32]>::from(Sha256::digest(&assembly.data)) == assembly.sha256;
    if whole { Ok(Piece::Whole(assembly.data.freeze())) } else { Err("snapshot is damaged".into()) }
}
