//! What members ask this node: the mesh's requests, dispatched. Every answer is bounded; a refusal
//! is a text for the asker.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use qb_consensus::RpcKind;
use qb_mesh::{Handler, KnockStream, Lane, PeerEvent, Topic};
use qb_model::NodeId;
use qb_model::board::NodeReport;

use crate::node::Node;
use crate::preflight::ttl;
use crate::rpc::{
    self, BlobPart, BlobRequest, BoardAnswer, HistoryAnswer, OpenAnswer, OpenPorts, ProbeRequest, Propose,
    Release, SecretRequest, kind,
};
use crate::{alerts, attest, bundles, knock, preflight, propose, releasing, report, secrets, tunnel};

/// How long a leader works on a proposal that another node forwards.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(4);

/// The node behind the mesh.
pub struct MeshHandler {
    /// The node.
    pub node: Arc<Node>,
}

/// Opens ports for a run of preflight, or closes them if none is named. They close by themselves
/// when their time is over.
pub async fn open_ports(node: &Arc<Node>, wanted: OpenPorts) -> OpenAnswer {
    if wanted.ports.is_empty() {
        node.open_runs.close(wanted.run);
        return OpenAnswer { busy: Vec::new(), facts: node.facts() };
    }
    let (run, life) = (wanted.run, ttl(&wanted));
    let answer = node.open_runs.open(node, wanted).await;
    let held = node.clone();
    node.tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(life) => {}
            () = held.cancel.cancelled() => {}
        }
        held.open_runs.close(run);
    });
    answer
}

#[async_trait]
impl Handler for MeshHandler {
    async fn request(&self, from: NodeId, lane: Lane, kind: u8, body: Bytes) -> Result<Bytes, String> {
        if let Ok(raft) = RpcKind::try_from(kind)
            && crate::transport::lane_of(raft) == lane
        {
            let consensus = self.node.consensus.get().ok_or("consensus is not up yet")?;
            return consensus.handle_rpc(from, raft, body).await;
        }
        match lane {
            Lane::Control if kind == kind::BLOB => self.blob(&body, false).await,
            Lane::Control => self.control(from, kind, &body).await,
            Lane::Bulk => self.bulk(from, kind, &body).await,
            Lane::Blob if kind == kind::BLOB => self.blob(&body, true).await,
            _ => Err(format!("kind {kind} is not known on this lane: upgrade this agent")),
        }
    }

    async fn gossip(&self, from: NodeId, topic: Topic, _body: Bytes) {
        // Every gossiped fact has a pull besides; none is needed yet at this size of site.
        tracing::debug!(%from, topic = topic.name(), "gossip");
    }

    async fn peer(&self, event: PeerEvent) {
        match event {
            PeerEvent::Connected(peer) => {
                tracing::debug!(%peer, "connected");
                self.node.report_now.notify_one();
            }
            PeerEvent::Closed(peer) => {
                tracing::debug!(%peer, "connection closed");
                if let Some(consensus) = self.node.consensus.get() {
                    consensus.peer_closed(peer).await;
                }
            }
        }
    }

    async fn knock(&self, from: NodeId, address: std::net::SocketAddr, stream: KnockStream) {
        if let Err(why) = knock::server::hear(&self.node, from, address.ip(), stream).await {
            tracing::debug!(%from, %address, "knock: {why}");
        }
    }
}

impl MeshHandler {
    async fn control(&self, from: NodeId, kind: u8, body: &[u8]) -> Result<Bytes, String> {
        let node = &self.node;
        match kind {
            kind::PROPOSE => {
                let what: Propose = read(body)?;
                answer(&propose::at_leader(node, what, PROPOSE_DEADLINE).await)
            }
            kind::REPORT => {
                let report: NodeReport = read(body)?;
                answer(&report::take(node, from, report)?)
            }
            kind::BOARD => {
                let board = node.board().clone();
                answer(&BoardAnswer { now: node.site_now(), board })
            }
            kind::KNOCKS => {
                let state = node.site();
                let mut knocks = node.knocks();
                knocks.prune(node.site_now(), |n| !state.nodes().contains_key(n));
                answer(&knocks.list())
            }
            kind::SECRET => {
                let request: SecretRequest = read(body)?;
                secrets::hand_out(node, from, request).await
            }
            kind::RELEASE => {
                let asked: Release = read(body)?;
                answer(&releasing::ask(node, asked).await?)
            }
            kind::OPEN => {
                let wanted: OpenPorts = read(body)?;
                if wanted.ports.len() > 64 {
                    return Err("at most 64 ports".into());
                }
                answer(&open_ports(node, wanted).await)
            }
            kind::PROBE => {
                let request: ProbeRequest = read(body)?;
                answer(&preflight::probe_all(node, request).await?)
            }
            kind::ALERTS => answer(&alerts::answer(node)),
            kind::HISTORY => {
                let of: Option<NodeId> = read(body)?;
                answer::<HistoryAnswer>(&node.recorder.samples(of.as_ref(), node.site_now()))
            }
            kind::ATTEST => answer(&attest::sign_state(node, from, read(body)?).await),
            kind::LINK => answer(&attest::sign_link(node, from, read(body)?).await),
            kind::PROOF => answer(&node.attest.proof(&read(body)?)),
            _ => Err(format!("kind {kind} is not known on the control lane: upgrade this agent")),
        }
    }

    async fn bulk(&self, from: NodeId, kind: u8, body: &[u8]) -> Result<Bytes, String> {
        let node = &self.node;
        match kind {
            kind::TUNNEL_OPEN => answer(&tunnel::forward::opened(node, from, read(body)?)?),
            kind::TUNNEL_SEND => answer(&tunnel::forward::sent(node, from, read(body)?).await?),
            kind::TUNNEL_TAKE => answer(&tunnel::forward::taken(node, from, read(body)?).await?),
            _ => Err(format!("kind {kind} is not known on the bulk lane: upgrade this agent")),
        }
    }

    /// Bytes of bundles go on their own lane, where nothing else waits behind them.
    async fn blob(&self, body: &[u8], bytes: bool) -> Result<Bytes, String> {
        let request: BlobRequest = read(body)?;
        if !bytes && request.part != BlobPart::Have {
            return Err("bundles are carried on the blob lane".into());
        }
        bundles::serve(&self.node, request).await
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    rpc::decode(body).map_err(|e| e.to_string())
}

fn answer<T: serde::Serialize>(value: &T) -> Result<Bytes, String> {
    rpc::encode(value).map_err(|e| e.to_string())
}
