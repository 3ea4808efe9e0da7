//! The consensus library's requests to other voters, over the agent's transport.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::limits::{APPEND_DEADLINE, INSTALL_DEADLINE, SNAPSHOT_CHUNK};
use crate::peer::{RpcKind, TransportError};
use crate::types::{
    Snapshot, Types, Vote, entry_to_wire, log_id, meta_to_wire, pos, vote_from_wire, vote_to_wire,
};
use crate::wire::{RaftAnswer, RaftFrame, RaftRequest, SnapshotChunk, WireMember};

/// Makes a client per member.
pub(crate) struct Network {
    pub(crate) context: Arc<Context>,
    pub(crate) seat: u64,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &WireMember) -> Client {
        Client { context: self.context.clone(), seat: self.seat, target, member: *node }
    }
}

/// Speaks to one member, on the storage that the membership names: a wiped disk is not that member.
pub(crate) struct Client {
    context: Arc<Context>,
    seat: u64,
    target: u64,
    member: WireMember,
}

type Rpc<T> = Result<T, RPCError<Types>>;

impl Client {
    async fn call(&self, request: RaftRequest, action: RPCTypes, deadline: Duration) -> Rpc<RaftAnswer> {
        let kind = match &request {
            RaftRequest::Snapshot { .. } => RpcKind::Snapshot,
            _ => RpcKind::Raft,
        };
        let frame =
            RaftFrame { tag: self.context.tag, to_seat: self.target, to_store: self.member.store, request };
        let answer = self.context.ask(self.member.node(), kind, &frame, deadline).await;
        answer.map_err(|error| match error {
            TransportError::Timeout => {
                RPCError::Timeout(Timeout { action, id: self.seat, target: self.target, timeout: deadline })
            }
            // Both make the library pause before it tries again.
            error => RPCError::Unreachable(Unreachable::new(&error)),
        })
    }

    async fn vote_call(&self, request: RaftRequest, option: &RPCOption) -> Rpc<VoteResponse<Types>> {
        match self.call(request, RPCTypes::Vote, option.hard_ttl()).await? {
            RaftAnswer::Vote { vote, granted, last } => {
                Ok(VoteResponse::new(vote_from_wire(&vote), last.as_ref().map(log_id), granted))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> Rpc<SnapshotResponse<Types>> {
        let meta = meta_to_wire(&snapshot.meta);
        let data: Bytes = snapshot.snapshot;
        let sha256 = Sha256::digest(&data).into();
        let total = data.len() as u64;
        let mut offset = 0;
        loop {
            let end = data.len().min(offset + SNAPSHOT_CHUNK);
            let piece = data.slice(offset..end);
            let chunk = SnapshotChunk { offset: offset as u64, total, sha256, data: piece };
            let request = RaftRequest::Snapshot { vote: vote_to_wire(&vote), meta: meta.clone(), chunk };
            match self.call(request, RPCTypes::InstallSnapshot, INSTALL_DEADLINE).await? {
                RaftAnswer::SnapshotChunk { next } if next as usize == end && end < data.len() => {
                    offset = end;
                }
                RaftAnswer::SnapshotInstalled(vote) | RaftAnswer::HigherVote(vote) => {
                    return Ok(SnapshotResponse::new(vote_from_wire(&vote)));
                }
                other => return Err(unexpected(&other)),
            }
        }
    }
}

fn unexpected(answer: &RaftAnswer) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(format!("answer does not fit: {answer:?}")))
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<Types>> {
        // The library allows one heartbeat interval, which a slow fsync exceeds: the same entries
        // would be sent for ever.
        let heartbeat = rpc.entries.is_empty();
        let deadline = if heartbeat { option.hard_ttl() } else { option.hard_ttl().max(APPEND_DEADLINE) };
        let request = RaftRequest::Append {
            vote: vote_to_wire(&rpc.vote),
            prev: rpc.prev_log_id.as_ref().map(pos),
            entries: rpc.entries.iter().map(entry_to_wire).collect(),
            commit: rpc.leader_commit.as_ref().map(pos),
        };
        Ok(match self.call(request, RPCTypes::AppendEntries, deadline).await? {
            RaftAnswer::Appended => AppendEntriesResponse::Success,
            RaftAnswer::AppendedTo(at) => AppendEntriesResponse::PartialSuccess(at.as_ref().map(log_id)),
            // A conflict before the first entry cannot be: the library would panic on it.
            RaftAnswer::Conflict if rpc.prev_log_id.is_some() => AppendEntriesResponse::Conflict,
            RaftAnswer::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_from_wire(&vote)),
            other => return Err(unexpected(&other)),
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Rpc<VoteResponse<Types>> {
        let request = RaftRequest::Vote {
            vote: vote_to_wire(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(pos),
            transfer: rpc.leadership_transfer,
        };
        self.vote_call(request, &option).await
    }

    // The library's default grants.
    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Rpc<VoteResponse<Types>> {
        let request =
            RaftRequest::PreVote { vote: vote_to_wire(&rpc.vote), last: rpc.last_log_id.as_ref().map(pos) };
        self.vote_call(request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<Types>> {
        let request = RaftRequest::Transfer {
            vote: vote_to_wire(req.from_leader()),
            to: *req.to_node_id(),
            last: req.last_log_id().map(pos),
        };
        match self.call(request, RPCTypes::TransferLeader, option.hard_ttl()).await? {
            RaftAnswer::Transferred => Ok(Ok(())),
            other => Err(unexpected(&other)),
        }
    }
}
