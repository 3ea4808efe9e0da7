//! The bodies that nodes, voters and tokens sign.
//!
//! Rule for changing this file: these are signed bytes. A change to a struct is a new type.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::dsse::{Purpose, SEAL_TYPE, pae};
use crate::ids::{Digest, Generation, HostName, Millis, Name, NodeId, Nonce, PublicKey, SealKey, SiteId};
use crate::limits::{
    AGENT_VERSION_BYTES, COMMAND_RESULT_BYTES, GOSSIP_BYTES, GOSSIP_TOPIC_BYTES, KNOCK_ADDRESSES,
    KNOCK_BYTES, KNOCK_FACTS_BYTES, MINT_BYTES, VOTERS,
};
use crate::outcome::Outcome;
use crate::statement::{SignedBytes, Statement};
use crate::strict::is_plain_text;

macro_rules! statement {
    ($name:ident, $purpose:ident, $max:expr, $signer:expr, $check:expr) => {
        impl Statement for $name {
            const PURPOSE: Purpose = Purpose::$purpose;
            const MAX: usize = $max;
            fn version(&self) -> u8 {
                self.v
            }
            fn signer(&self) -> Option<PublicKey> {
                let signer: fn(&Self) -> Option<PublicKey> = $signer;
                signer(self)
            }
            fn check(&self) -> Result<(), &'static str> {
                let check: fn(&Self) -> Result<(), &'static str> = $check;
                check(self)
            }
        }
    };
}

fn rule(holds: bool, rule: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(rule) }
}

fn node_key(node: NodeId) -> Option<PublicKey> {
    Some(node.public_key())
}

/// A node asks a listener to be let in (security rules 4 step 3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// 1.
    pub v: u8,
    /// The site of its enrolment file.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// The member that hears it.
    pub listener: NodeId,
    /// The listener's challenge.
    pub nonce: Nonce,
    /// Its signed [`SealKeyRecord`].
    pub seal_key: SignedBytes,
    /// Hash of what marks the machine: a clone differs.
    pub machine: Digest,
    /// What the machine calls itself.
    pub host: HostName,
    /// What the host is, as the facts module encodes it.
    pub facts: Vec<u8>,
    /// The agent's version.
    pub agent_version: String,
    /// Where it can be dialled: `IP:PORT` texts. Hints, never authority.
    pub addresses: Vec<String>,
    /// Its [`TokenUse`], signed by the token's key, if it has a join token.
    pub token_use: Option<SignedBytes>,
}

statement!(Knock, Knock, KNOCK_BYTES, |k| node_key(k.node), |k| {
    rule(k.facts.len() <= KNOCK_FACTS_BYTES, "facts are over 4096 bytes")?;
    rule(is_version_text(&k.agent_version), "agent_version is not 1 to 64 plain characters")?;
    rule(k.addresses.len() <= KNOCK_ADDRESSES, "addresses are more than 16")?;
    rule(k.addresses.iter().all(|a| a.parse::<SocketAddr>().is_ok()), "an address is not IP:PORT")?;
    let seal = k.seal_key.open::<SealKeyRecord>().map_err(|_| "seal_key is not valid")?;
    rule(seal.value().node == k.node && seal.value().site == k.site, "seal_key is of another node")
});

fn is_version_text(text: &str) -> bool {
    (1..=AGENT_VERSION_BYTES).contains(&text.len()) && text.is_ascii() && is_plain_text(text)
}

/// A node's X25519 key, to which secrets are sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealKeyRecord {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// The key.
    pub key: SealKey,
    /// Rises with every new key.
    pub seq: u64,
    /// When it ends.
    pub not_after: Millis,
}

statement!(SealKeyRecord, SealKey, 256, |r| node_key(r.node), |r| {
    rule(r.key.0 != [0; 32], "key is zero")
});

/// A node's TLS key: SHA-256 of its SubjectPublicKeyInfo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsKeyRecord {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki_sha256: Digest,
    /// Rises with every new key.
    pub seq: u64,
    /// When it ends.
    pub not_after: Millis,
}

statement!(TlsKeyRecord, TlsKey, 256, |r| node_key(r.node), |_| Ok(()));

/// A node uses a join token (security rules 4). Signed by the token's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The node that enters.
    pub node: NodeId,
    /// The voter that hears it.
    pub voter: NodeId,
    /// The voter's challenge.
    pub nonce: Nonce,
}

statement!(TokenUse, TokenUse, 256, |_| None, |_| Ok(()));

/// What a voter heard of a node that uses a join token, with the intent that minted it: all that
/// anybody needs to verify the entry, but the charter and the trust log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The voter that heard the node.
    pub voter: NodeId,
    /// The node's [`TokenUse`], signed by the token's key.
    pub token_use: SignedBytes,
    /// The host name in the node's signed knock.
    pub host: HostName,
    /// Where the voter saw the node: an IP address.
    pub address: String,
    /// Digest of the node's knock.
    pub knock: Digest,
    /// The record of the audit chain that minted the token.
    pub mint_index: u64,
    /// When that was, by log time.
    pub minted_at: Millis,
    /// Envelope of the `token.mint` intent.
    pub mint: Vec<u8>,
}

statement!(TokenEntry, TokenEntry, MINT_BYTES + 1024, |e| node_key(e.voter), |e| {
    rule(e.mint.len() <= MINT_BYTES, "mint is over 32 KiB")?;
    rule(e.address.parse::<std::net::IpAddr>().is_ok(), "address is no IP address")
});

/// A node reports the result of a stage that others depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCommand {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The site's epoch.
    pub epoch: u64,
    /// The node.
    pub node: NodeId,
    /// How often the node's agent was started.
    pub incarnation: u64,
    /// Rises within an incarnation.
    pub sequence: u64,
    /// The assignment it is about.
    pub assignment: Digest,
    /// The stage that ended.
    pub stage: u8,
    /// What came of it, as the assignment module encodes it.
    pub result: Vec<u8>,
}

statement!(NodeCommand, Command, COMMAND_RESULT_BYTES + 512, |c| node_key(c.node), |c| {
    rule(c.result.len() <= COMMAND_RESULT_BYTES, "result is over 64 KiB")
});

/// Vouches for a report outside the authenticated stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// How often the node's agent was started.
    pub incarnation: u64,
    /// Rises within an incarnation.
    pub sequence: u64,
    /// SHA-256 of the report's bytes.
    pub body_hash: Digest,
}

statement!(Report, Report, 256, |r| node_key(r.node), |_| Ok(()));

/// A voter attests that it is not before a time (security rules 3.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The site's epoch.
    pub epoch: u64,
    /// The voter.
    pub node: NodeId,
    /// Its clock.
    pub ms: Millis,
    /// The newest tick that it knows: its index in the log.
    pub previous_tick: u64,
}

statement!(Clock, Clock, 256, |c| node_key(c.node), |_| Ok(()));

/// A set of voters, signed by a majority of the set before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voters {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The site's epoch.
    pub epoch: u64,
    /// Its number: rises by one.
    pub seq: u64,
    /// The voters, sorted, 1 to 7.
    pub set: Vec<NodeId>,
    /// The digest of the set before.
    pub previous: Digest,
}

statement!(Voters, Voters, 512, |_| None, |v| {
    rule((1..=VOTERS).contains(&v.set.len()), "set has not 1 to 7 voters")?;
    rule(v.set.windows(2).all(|p| p[0] < p[1]), "set is not sorted and unique")
});

/// A voter attests a state. The body names no node, so that voters of one mind sign the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The site's epoch.
    pub epoch: u64,
    /// The last applied entry of the log.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The site's time.
    pub log_time: Millis,
    /// The head of the audit chain.
    pub chain_head: Digest,
    /// The head of the trust log.
    pub trust_head: Digest,
    /// The hash of the whole state.
    pub state_hash: Digest,
    /// The number of the set of voters.
    pub voters_seq: u64,
}

statement!(Checkpoint, Checkpoint, 512, |_| None, |_| Ok(()));

/// A node's word on what became of an intent, for the one who waits for it (security rules 5.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The node that says so.
    pub node: NodeId,
    /// The intent.
    pub intent: Digest,
    /// What became of it.
    pub outcome: Outcome,
    /// Its record in the audit chain.
    pub index: u64,
    /// The head of the audit chain after it.
    pub head: Digest,
}

statement!(Receipt, Receipt, 4096, |r| node_key(r.node), |_| Ok(()));

/// A gossip message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipBody {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The node that says it.
    pub node: NodeId,
    /// What it is about.
    pub topic: String,
    /// How often the node's agent was started.
    pub incarnation: u64,
    /// Rises within an incarnation.
    pub sequence: u64,
    /// The message.
    pub payload: Vec<u8>,
}

statement!(GossipBody, Gossip, GOSSIP_BYTES + 512, |g| node_key(g.node), |g| {
    rule(g.payload.len() <= GOSSIP_BYTES, "payload is over 64 KiB")?;
    rule((1..=GOSSIP_TOPIC_BYTES).contains(&g.topic.len()) && is_plain_text(&g.topic), "topic is no topic")
});

/// What a sealed secret is bound to (security rules 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealAad {
    /// The site.
    pub site: SiteId,
    /// The site's epoch.
    pub epoch: u64,
    /// What the secret is for.
    pub purpose: String,
    /// The cluster, if it is for one.
    pub cluster: Option<Name>,
    /// The assignment's generation.
    pub generation: Generation,
    /// The node that seals.
    pub sender: NodeId,
    /// The node's or the admin's signing key.
    pub recipient: PublicKey,
    /// The number of the recipient's seal key.
    pub recipient_seal_seq: u64,
    /// When it ends.
    pub expires: Millis,
}

impl SealAad {
    /// The PAE that enters the cipher as associated data.
    pub fn to_bytes(&self) -> Vec<u8> {
        pae(SEAL_TYPE, &postcard::to_stdvec(self).unwrap_or_default())
    }
}
