//! What members ask one another on the control and bulk lanes. Postcard after a version byte; the
//! mesh has proved who asks and has bounded the bytes.

use bytes::Bytes;
use qb_model::alerts::{Kept, Mark};
use qb_model::board::Board;
use qb_model::facts::Facts;
use qb_model::history::Sample;
use qb_model::preflight::{Port, Probe};
use qb_model::{Digest, HostName, Millis, Name, NodeId, PublicKey, RaftId};
use serde::{Deserialize, Serialize};

use crate::blobs::bitmap::Bitmap;

/// Version of all messages here.
const VERSION: u8 = 1;

/// Kinds of requests on the control lane. Numbers are wire format and never used again.
pub mod kind {
    /// Put a signed thing into the log: [`super::Propose`], answered by [`super::ProposeAnswer`].
    pub const PROPOSE: u8 = 1;
    /// A node's report, answered by [`super::ReportAnswer`].
    pub const REPORT: u8 = 2;
    /// The board, answered by [`super::BoardAnswer`].
    pub const BOARD: u8 = 3;
    /// Who knocks, answered by a list of [`super::Waiting`].
    pub const KNOCKS: u8 = 4;
    /// The join secret of the asker: [`super::SecretRequest`], answered by a sealed secret.
    pub const SECRET: u8 = 5;
    /// Listen for probes: [`super::OpenPorts`], answered by [`super::OpenAnswer`].
    pub const OPEN: u8 = 6;
    /// Probe others: [`super::ProbeRequest`], answered by a list of probes.
    pub const PROBE: u8 = 7;
    /// The alerts of the site, answered by an [`super::AlertsAnswer`].
    pub const ALERTS: u8 = 20;
    /// The last hour of a node, or of the site for none: answered by a [`super::HistoryAnswer`].
    pub const HISTORY: u8 = 21;
    /// Sign this state: [`super::AttestRequest`], answered by [`super::AttestAnswer`].
    pub const ATTEST: u8 = 22;
    /// Sign this change of voters: [`super::LinkRequest`], answered by [`super::LinkAnswer`].
    pub const LINK: u8 = 23;
    /// What voters signed: [`super::ProofRequest`], answered by [`super::ProofAnswer`].
    pub const PROOF: u8 = 24;
    /// Take a node out of the cluster: [`super::Release`], answered by nothing once it is begun.
    pub const RELEASE: u8 = 25;
    /// What there is of a bundle, on the control lane, and its bytes, on the lane `/qb/blob/1`.
    /// [`super::BlobRequest`], answered by [`super::BlobHave`].
    pub const BLOB: u8 = 100;
    /// Take a tunnel to a cluster, on the bulk lane: its name, answered by a number.
    pub const TUNNEL_OPEN: u8 = 110;
    /// Bytes for a tunnel, on the bulk lane: [`crate::tunnel::forward::Sent`].
    pub const TUNNEL_SEND: u8 = 111;
    /// Bytes of a tunnel, on the bulk lane: its number, answered by [`crate::tunnel::forward::Taken`].
    pub const TUNNEL_TAKE: u8 = 112;
}

/// Why a message of a peer is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Another version.
    #[error("message version {0:?} is not known, this agent speaks {VERSION}")]
    Version(Option<u8>),
    /// Does not decode.
    #[error("message does not decode: {0}")]
    Malformed(postcard::Error),
}

/// The bytes of a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Bytes, RpcError> {
    postcard::to_extend(message, vec![VERSION]).map(Bytes::from).map_err(RpcError::Malformed)
}

/// Reads what [`encode`] wrote.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RpcError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(RpcError::Malformed),
        other => Err(RpcError::Version(other.map(|(v, _)| *v))),
    }
}

/// A signed thing for the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Propose {
    /// An intent's envelope.
    Intent(Vec<u8>),
    /// A node's signed command.
    Node(Vec<u8>),
    /// A voter's word on a node that uses a join token: an envelope.
    Token(Vec<u8>),
}

/// What the leader made of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ProposeAnswer {
    /// Applied: the outcome as the state machine gave it.
    Applied(Vec<u8>),
    /// Not the leader; who may be.
    NotLeader(Option<NodeId>),
    /// Refused before the log: no valid signature, not an envelope.
    Refused {
        /// Stable code.
        code: String,
        /// The sentence.
        text: String,
        /// What to do.
        remedy: Option<String>,
    },
    /// It may or may not have been applied: ask for it by its digest.
    Unknown,
    /// Held: it waits for its time or for another intent.
    Held(String),
    /// There is no quorum.
    Unavailable(String),
}

/// What a voter answers to a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// Mesh addresses of members that the voter knows.
    pub addresses: Vec<(NodeId, Vec<String>)>,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// The reporter's seat as the voter's state has it.
    pub seat: Option<RaftId>,
    /// Last log index that the voter has applied.
    pub applied: u64,
    /// Who holds links to relays, as the voter hears it.
    pub uplinks: Vec<(NodeId, Vec<PublicKey>)>,
    /// Which list of alerts the leader has; none if the voter does not lead.
    pub alerts: Option<Mark>,
}

/// The board and the clock of who answers, so that ages can be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoardAnswer {
    /// The answerer's clock.
    pub now: Millis,
    /// Its board.
    pub board: Board,
}

/// A node that knocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its key.
    pub node: NodeId,
    /// Its host name.
    pub host: HostName,
    /// Digest of its signed knock.
    pub knock: Digest,
    /// What it says of itself.
    pub facts: Facts,
    /// First knock, by the clock of who heard it.
    pub since: Millis,
    /// Latest knock.
    pub last: Millis,
    /// Mesh addresses that it names, text.
    pub mesh: Vec<String>,
}

/// Asks for the secret to join a cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretRequest {
    /// The cluster.
    pub cluster: Name,
    /// Digest of the asker's assignment.
    pub assignment: Digest,
    /// The asker's seal key record, signed by itself: whoever seals verifies it.
    pub seal: Vec<u8>,
}

/// Asks a control plane node to take another node out of its cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Release {
    /// The cluster.
    pub cluster: Name,
    /// The node that leaves.
    pub node: NodeId,
}

/// Listen on ports for probes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenPorts {
    /// Names the preflight: the same run opens once.
    pub run: u64,
    /// Which ports.
    pub ports: Vec<Port>,
    /// For how long, in milliseconds; at most 30,000.
    pub ttl_ms: u32,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenAnswer {
    /// Ports that could not be bound, with the system's reason.
    pub busy: Vec<(Port, String)>,
    /// What the host is.
    pub facts: Facts,
}

/// A port of a node to probe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// Its address, text.
    pub address: String,
    /// The ports.
    pub ports: Vec<Port>,
    /// Whether its own services answer there instead of a responder: that they take the connection is enough.
    pub serving: bool,
}

/// Probe others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// Whom.
    pub targets: Vec<Target>,
    /// Deadline of each probe in milliseconds; at most 5,000.
    pub deadline_ms: u32,
}

/// The probes of one node.
pub type ProbeAnswer = Vec<Probe>;

/// Asks what a node has of a bundle, for its head, or for a chunk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BlobRequest {
    /// Digest of the bundle's manifest.
    pub bundle: Digest,
    /// What of it.
    pub part: BlobPart,
}

/// What of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobPart {
    /// Which chunks are there: answered by [`BlobHave`] with nothing else.
    Have,
    /// Its beginning: manifest and table.
    Head,
    /// A chunk by its number.
    Chunk(u32),
}

/// What a node has of a bundle, with the bytes that were asked for, if any: at most a chunk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BlobHave {
    /// The chunks that are there: nothing if it has nothing.
    pub have: Bitmap,
    /// The chunks that it has asked of nodes that had them before.
    pub coming: Bitmap,
    /// Whether it is fetching the bundle.
    pub wants: bool,
    /// Whether it reaches a node that has it whole, or a mirror, by itself.
    pub reaches: bool,
    /// The head or the chunk.
    #[serde(with = "qb_exec::raw")]
    pub bytes: Vec<u8>,
}

/// What a node sends when it knocks, after the challenge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Challenge {
    /// Version: 1.
    pub v: u8,
    /// The site.
    pub site: qb_model::SiteId,
    /// Fresh bytes for the knock to sign.
    pub nonce: [u8; 32],
}

/// What becomes of a knock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum KnockAnswer {
    /// Not authorized yet: knock again.
    Waiting {
        /// Whether the listener belongs to a founded site: then nobody else founds it.
        founded: bool,
        /// Why the join token of the knock does not let it in.
        token: Option<TokenRefused>,
    },
    /// Authorized.
    Admit(Box<Admit>),
    /// Revoked: the intent's envelope and the trust log that it is judged under.
    Revoked {
        /// Envelope of the `node.revoke` intent.
        envelope: Vec<u8>,
        /// The trust log.
        trust_log: Vec<qb_model::trust::TrustEntry>,
    },
    /// Refused, with the reason.
    Refused(String),
}

/// Why a join token does not let a node in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRefused {
    /// Stable code.
    pub code: String,
    /// The sentence.
    pub text: String,
    /// What helps.
    pub remedy: Option<String>,
}

/// What an authorized node needs to come in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admit {
    /// Envelope of the intent that names the node, or of its entry by a join token.
    pub envelope: Vec<u8>,
    /// Where it was accepted, in the audit chain.
    pub index: u64,
    /// The trust log that it was judged under.
    pub trust_log: Vec<qb_model::trust::TrustEntry>,
    /// Members with their mesh addresses.
    pub members: Vec<(NodeId, Vec<String>)>,
    /// Who votes.
    pub voters: Vec<NodeId>,
}

/// The alerts, if who was asked leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AlertsAnswer {
    /// The leader's list, and which one it is.
    List(Mark, Kept),
    /// Not the leader; who may be.
    NotLeader(Option<NodeId>),
}

/// What a voter heard in the last hour, oldest first.
pub type HistoryAnswer = Vec<Sample>;

/// The leader asks a voter to sign the state at an index, each from its own copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttestRequest {
    /// The last applied entry.
    pub index: u64,
    /// The leader's term.
    pub term: u64,
    /// The leader's clock: the voter compares it with its own.
    pub at: Millis,
    /// The set of voters that signs: its number.
    pub seq: u64,
    /// Its digest.
    pub voters: Digest,
    /// The newest checkpoint that is complete, to keep.
    pub last: Option<qb_model::attest::SignedBody>,
}

/// What the voter says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AttestAnswer {
    /// Signed; with the hash of the state, so that a difference shows as one.
    Signed {
        /// The hash of its state.
        state_hash: Digest,
        /// The signature over the checkpoint.
        sig: qb_model::attest::KeySignature,
    },
    /// It has applied more already and kept no copy of that state.
    Past(u64),
    /// It has a longer chain of voters: take it first.
    Longer,
    /// It does not sign, for this reason.
    Refused(String),
}

/// The leader asks a member of the last set to sign the next one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkRequest {
    /// The `voters.v1` body.
    pub body: Vec<u8>,
}

/// What the member says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LinkAnswer {
    /// Signed.
    Signed(qb_model::attest::KeySignature),
    /// It has a longer chain of voters: take it first.
    Longer,
    /// It does not sign, for this reason.
    Refused(String),
}

/// Asks for what voters signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProofRequest {
    /// Digest of the last set that the asker holds; none if it holds nothing, or wants the whole.
    pub voters: Option<Digest>,
}

/// What voters signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProofAnswer {
    /// The chain of voters, if the asker's ends elsewhere.
    pub chain: Option<VoterChain>,
    /// The newest complete checkpoint.
    pub checkpoint: Option<qb_model::attest::SignedBody>,
    /// Why there is no newer one.
    pub why: Option<String>,
}

/// A chain of voters as members keep it and hand it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterChain {
    /// Version: 1.
    pub v: u8,
    /// Envelope of the founding intent.
    pub founding: Vec<u8>,
    /// The links.
    pub links: Vec<qb_model::attest::Link>,
    /// The intents that let the last set in: a revoked voter's leaves the state before its set ends.
    pub roster: Vec<qb_model::attest::CitedEnvelope>,
}
