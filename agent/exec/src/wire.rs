//! What agent and executor say to each other over a unix stream socket.
//!
//! ```text
//!   agent                                      executor
//!     Greeting ------------------------------->   peer's uid is the agent's or root's
//!     <------------------------------- Greeting
//!     Request -------------------------------->   one per connection
//!     <--------------------------------- Answer   one; for an order:
//!     <--------------------------- Answer::Send   the order is verified: its bundle, please; not asked for
//!                                                 where it is unpacked, or was taken by an earlier try
//!     Part, Part, ... ------------------------>
//!     <----- Answer::Progress, again and again
//!     <------- Answer::Done or Answer::Stopped; for an upgrade Answer::Versions, after its parts
//! ```
//!
//! Frames are a length of 4 bytes, big endian, and a postcard body. A connection that closes gives up
//! what it asked for. There is no way to say a step, a path or an argument.
//!
//! Rule for changing this file: [`Greeting`] never changes. Anything else is of a version; agent and
//! executor of neighbouring versions talk.

use std::time::Duration;

use qb_model::assignment::{Assignment, Grounds};
use qb_model::board::Upkeep;
use qb_model::ids::{Name, NodeId, SealKey, SiteId, Version};
use qb_model::statement::SignedBytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::bindings::BindingsRequest;
use crate::exec::ClusterNode;
use crate::join::MintRequest;
use crate::keep::KeepRequest;
use crate::limits::{FRAME_LIMIT, GREETING_BYTES};
use crate::people::{Credential, CredentialRequest};
use crate::progress::{StageDone, StageError, StepProgress};
use crate::release::{Peers, ReleaseRequest};
use crate::seal::SealedSecret;
use crate::supervisor::UnitHealth;
use crate::upkeep::BackupRequest;
use crate::versions::{Upgrade, VersionsView};

/// What every greeting begins with.
const MAGIC: [u8; 4] = *b"qbx1";
/// Versions of what follows a greeting: the oldest and the newest that this program speaks.
const SPOKEN: (u16, u16) = (1, 1);

/// The first frame, both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    magic: [u8; 4],
    oldest: u16,
    newest: u16,
    /// The program's version, to show.
    program: String,
}

impl Greeting {
    pub(crate) fn own() -> Self {
        let program = crate::VERSION.to_owned();
        Self { magic: MAGIC, oldest: SPOKEN.0, newest: SPOKEN.1, program }
    }

    /// The newest version that both sides speak.
    pub(crate) fn agree(&self) -> Result<u16, WireError> {
        let newest = self.newest.min(SPOKEN.1);
        if self.magic != MAGIC || newest < self.oldest.max(SPOKEN.0) {
            let program = self.program.chars().filter(|c| !c.is_control()).collect();
            return Err(WireError::Version { program, oldest: self.oldest, newest: self.newest });
        }
        Ok(newest)
    }
}

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Who the executor is.
    About,
    /// Carry out an order.
    CarryOut(Box<Order>),
    /// Make a join secret.
    Mint(Box<MintRequest>),
    /// How the units of a cluster are.
    Health(Name),
    /// Who joined a cluster.
    Nodes(Name),
    /// How it stands with versions of qb's programs.
    Versions,
    /// Bring in another version.
    Upgrade(Box<Upgrade>),
    /// The agent of this version is well.
    Confirm(Version),
    /// Take another node out of a cluster.
    Release(Box<ReleaseRequest>),
    /// Who the members of a cluster are now.
    Peers(Box<Peers>),
    /// Sign a client certificate.
    Certify(Box<CredentialRequest>),
    /// Keep the role bindings of admins in a cluster.
    Bindings(Box<BindingsRequest>),
    /// How it stands with what this node does by itself for a cluster.
    Upkeep(Name),
    /// Take a backup.
    BackUp(Box<BackupRequest>),
    /// Keep labels, taints and add-ons in a cluster.
    Keep(Box<KeepRequest>),
}

/// An order with what it rests on. Nothing of it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The order.
    pub assignment: Assignment,
    /// What it rests on.
    pub grounds: Grounds,
    /// The node's seal key record, for the executor's own key: proof that the caller has the node's key.
    pub own: SignedBytes,
    /// The join secret for it, if it came.
    pub join: Option<SealedSecret>,
    /// Bytes of its bundle, if the agent has it.
    pub bundle: Option<u64>,
}

/// A part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part(#[serde(with = "crate::raw")] pub(crate) Vec<u8>);

/// What the executor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Who it is.
    About(Box<About>),
    /// Not done, and why. Nothing was changed.
    Refused(String),
    /// The order stands: its bundle may come.
    Send,
    /// Where the steps are; also a sign of life.
    Progress(Vec<StepProgress>),
    /// The stage is done.
    Done(StageDone),
    /// It is not.
    Stopped(StageError),
    /// A join secret.
    Sealed(Box<SealedSecret>),
    /// Units.
    Health(Vec<UnitHealth>),
    /// Members of a cluster, or why they are not known.
    Nodes(Result<Vec<ClusterNode>, String>),
    /// How it stands with versions.
    Versions(Box<VersionsView>),
    /// Noted, or done.
    Well,
    /// A client certificate.
    Certificate(Box<Credential>),
    /// What this node does by itself; none if it is no control plane node.
    Upkeep(Option<Box<Upkeep>>),
}

/// Who an executor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its version.
    pub version: String,
    /// The site whose orders it takes, or why it takes none.
    pub site: Result<SiteId, String>,
    /// This machine's node, once it took an order.
    pub node: Option<NodeId>,
    /// The key to which others seal for this node.
    pub seal_key: SealKey,
    /// Whether somebody on this machine holds it.
    pub held: bool,
    /// The clusters that lie on this machine.
    pub clusters: Vec<Name>,
    /// What it waits for, if it can do nothing; empty if nothing.
    pub waits: String,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The other side closed it.
    #[error("the connection was closed")]
    Closed,
    /// A frame is larger than any.
    #[error("a frame of {len} bytes is over the bound of {most}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The bound.
        most: usize,
    },
    /// A frame is not what it should be.
    #[error("a frame has no form that is known")]
    Form,
    /// Nothing came in time.
    #[error("nothing came within {} s", .0.as_secs())]
    Late(Duration),
    /// The other side speaks no version that this one does.
    #[error(
        "version {program} speaks protocols {oldest} to {newest}, this one {} to {}: install the same version of qb-agent and qb-exec",
        SPOKEN.0,
        SPOKEN.1
    )]
    Version {
        /// Its version.
        program: String,
        /// The oldest protocol that it speaks.
        oldest: u16,
        /// The newest.
        newest: u16,
    },
    /// The other side is neither the agent's user nor root.
    #[error("user {0} may not speak here: the agent's user and root do")]
    Peer(u32),
}

/// Sends a frame.
pub(crate) async fn send<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &T,
    most: usize,
) -> Result<(), WireError> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(|_| WireError::Form)?;
    let len = frame.len() - 4;
    let head = u32::try_from(len).ok().filter(|_| len <= most).ok_or(WireError::TooLarge { len, most })?;
    frame[..4].copy_from_slice(&head.to_be_bytes());
    let write = async {
        to.write_all(&frame).await?;
        to.flush().await
    };
    Ok(timeout(FRAME_LIMIT, write).await.map_err(|_| WireError::Late(FRAME_LIMIT))??)
}

/// Reads a frame of at most `most` bytes, which must be there whole within `limit`.
pub(crate) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
    limit: Duration,
) -> Result<T, WireError> {
    timeout(limit, receive_frame(from, most)).await.map_err(|_| WireError::Late(limit))?
}

/// The same, with no deadline for its first byte but one for the rest. Not to be given up halfway and
/// asked again.
async fn receive_frame<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> Result<T, WireError> {
    let mut head = [0; 4];
    match from.read_exact(&mut head).await {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Err(WireError::Closed),
        Err(e) => return Err(e.into()),
    }
    let len = u32::from_be_bytes(head) as usize;
    if len > most {
        return Err(WireError::TooLarge { len, most });
    }
    // Grows with what arrives, not with what is announced.
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body).await?;
    if body.len() < len {
        return Err(WireError::Closed);
    }
    match postcard::take_from_bytes(&body) {
        Ok((message, [])) => Ok(message),
        _ => Err(WireError::Form),
    }
}

/// Greets, and agrees on a version.
pub(crate) async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<u16, WireError> {
    send(stream, &Greeting::own(), GREETING_BYTES).await?;
    let theirs: Greeting = receive(stream, GREETING_BYTES, FRAME_LIMIT).await?;
    theirs.agree()
}
