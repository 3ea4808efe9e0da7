//! The push stream: what the agent tells the relay without being asked, and the relay's few words
//! back. Each message is its length (4 bytes, big endian) and postcard.
//!
//! Rule for changing this file: both ends may be of different age. Variants are only added, at the
//! end, and are sent only to an end whose version knows them.

use std::io;

use qb_model::statement::SignedBytes;
use qb_model::trust::TrustEntry;
use qb_model::{Digest, Millis, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::limits::{HINT_ADDRESSES, HINT_BYTES, HINTS, PUSH_BATCH_BYTES, PUSH_BYTES};

/// An accepted intent that made or ended memberships: `site.found`, `node.authorize`, `node.revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Its record in the audit chain.
    pub index: u64,
    /// Log time when it was applied.
    pub log_time: Millis,
    /// The intent's envelope.
    pub envelope: Vec<u8>,
}

/// Where members can be dialled and who votes. Hints: a handshake proves who answers there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    /// Members with addresses, at most [`HINTS`] with at most [`HINT_ADDRESSES`] each.
    pub members: Vec<(NodeId, Vec<String>)>,
    /// Who votes.
    pub voters: Vec<NodeId>,
}

impl Hints {
    /// Cuts what is over the bounds off.
    pub fn bounded(mut self) -> Self {
        self.members.truncate(HINTS);
        for (_, addresses) in &mut self.members {
            addresses.retain(|address| address.len() <= HINT_BYTES);
            addresses.truncate(HINT_ADDRESSES);
        }
        self.voters.truncate(HINTS);
        self
    }
}

/// What a node that waits needs to come in, besides the trust log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The record of the audit chain that let it in.
    pub index: u64,
    /// The envelope of the intent that names it.
    pub envelope: Vec<u8>,
    /// Whom to dial.
    pub hints: Hints,
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Push {
    /// It lives. The site's time, as this node has it.
    Beat {
        /// The site's time.
        log_time: Millis,
    },
    /// Entries of the trust log that the relay lacks; verified as a whole when `more` is false.
    Trust {
        /// Entries, oldest first.
        entries: Vec<TrustEntry>,
        /// Whether further ones follow.
        more: bool,
    },
    /// Entries of the roster that the relay lacks.
    Roster {
        /// Entries by index.
        entries: Vec<RosterEntry>,
        /// Whether further ones follow.
        more: bool,
    },
    /// What became of an intent: a `receipt.v1`.
    Receipt(SignedBytes),
    /// Something happened.
    Event {
        /// When.
        at: Millis,
        /// `intent`, `node`, `cluster`, `raft`, `mesh`, `alert`, `step`.
        kind: String,
        /// What it is about.
        subject: String,
        /// The sentence.
        text: String,
    },
    /// What is shown of the site changed.
    Changed,
    /// A node that waits to be let in knocks through the relay: a `knock.v1` whose listener is the
    /// relay's key and whose nonce is the handshake's hash. Its first message, so that it takes no
    /// gateway's place.
    Knock(SignedBytes),
    /// Where members are, for nodes that are let in through the relay.
    Members(Hints),
}

/// What the relay says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It lives.
    Beat,
    /// How far it has the site's trust log and roster: the agent sends what comes after.
    Held {
        /// The head of its trust log.
        trust: Digest,
        /// The index of its last roster entry, 0 for none.
        roster: u64,
    },
    /// The link ends, for this reason.
    Bye {
        /// Stable code.
        code: String,
        /// The sentence.
        text: String,
    },
    /// To a node that waits and was let in, or that was revoked: entries of the trust log, oldest first,
    /// before the [`Told::Admit`] or [`Told::Revoked`] that ends them.
    Trust(Vec<TrustEntry>),
    /// To a node that waits: an administrator let it in. It verifies that by itself.
    Admit(Box<Admission>),
    /// To a node that was revoked, after the [`Told::Trust`] that it rests on: the envelope of the intent.
    /// It verifies that by itself, and obeys.
    Revoked(Vec<u8>),
}

/// Writes one message, without flushing it.
///
/// # Errors
/// The stream failed, or the message is over [`PUSH_BYTES`].
pub async fn write<S, T>(io: &mut S, message: &T) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
    T: Serialize + Sync,
{
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a message is over 160 KiB");
    let length =
        u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= PUSH_BYTES).ok_or_else(too_long)?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(&bytes).await
}

/// Reads one message; none at the end of the stream. Not cancel-safe: a reader that stops in the
/// middle has lost the stream.
///
/// # Errors
/// The stream failed, or holds no message of at most [`PUSH_BYTES`].
pub async fn read<S, T>(io: &mut S) -> io::Result<Option<T>>
where
    S: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let broken = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let length = match io.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(length).ok().filter(|l| *l <= PUSH_BYTES);
    let length = length.ok_or_else(|| broken("a pushed message is over 160 KiB"))?;
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    postcard::from_bytes(&bytes).map(Some).map_err(|_| broken("a pushed message cannot be read"))
}

/// Cuts a trust log into messages. Nothing for nothing.
pub fn trust_batches(entries: Vec<TrustEntry>) -> Vec<Push> {
    let parts = batches(entries, |entry| entry.envelope.len());
    parts.into_iter().map(|(entries, more)| Push::Trust { entries, more }).collect()
}

/// Cuts a trust log into messages to a node that is let in. Nothing for nothing.
pub fn told_batches(entries: Vec<TrustEntry>) -> Vec<Told> {
    let parts = batches(entries, |entry| entry.envelope.len());
    parts.into_iter().map(|(entries, _)| Told::Trust(entries)).collect()
}

/// Cuts a roster into messages. Nothing for nothing.
pub fn roster_batches(entries: Vec<RosterEntry>) -> Vec<Push> {
    let parts = batches(entries, |entry| entry.envelope.len());
    parts.into_iter().map(|(entries, more)| Push::Roster { entries, more }).collect()
}

fn batches<T>(entries: Vec<T>, bytes_of: impl Fn(&T) -> usize) -> Vec<(Vec<T>, bool)> {
    let mut parts: Vec<(Vec<T>, bool)> = Vec::new();
    let mut room = 0;
    for entry in entries {
        // Digest, index, time, lengths.
        let bytes = bytes_of(&entry) + 128;
        match parts.last_mut() {
            Some((part, _)) if bytes <= room => {
                room -= bytes;
                part.push(entry);
            }
            last => {
                if let Some((_, more)) = last {
                    *more = true;
                }
                room = PUSH_BATCH_BYTES.saturating_sub(bytes);
                parts.push((vec![entry], false));
            }
        }
    }
    parts
}
