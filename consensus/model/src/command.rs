//! A command: an entry of the Raft log.
//!
//! Frame: kind (u16, little endian), version (u8), then postcard of the body. Rules for changing
//! this: kinds are never reused, bodies of a version never change, an unknown kind or version
//! stops the replica (skipping one would be a silent divergence).

use serde::{Deserialize, Serialize};

use crate::action::PlacedNode;
use crate::assignment::Stage;
use crate::ids::{Digest, Generation, Millis, Name, NodeId, RaftId};
use crate::preflight::Finding;

/// Largest encoded command in bytes: an envelope of 96 KiB and room for the charter.
pub const MAX_COMMAND: usize = 256 * 1024;

/// What the log orders the state machine to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The first entry: the charter and the founding intent.
    Found(Found),
    /// An admin's signed intent.
    Intent(Vec<u8>),
    /// A node's signed command.
    Node(Vec<u8>),
    /// The leader's choice of nodes for an attach that left it open.
    Place(Place),
    /// The leader's order to one node; its content follows from the state.
    Assign(Assign),
    /// What preflight found for an attach.
    Preflight(PreflightDone),
    /// Gives a node a Raft id, which is the index of this entry.
    Seat(NodeId),
    /// Takes a Raft id away for good.
    Unseat(RaftId),
    /// Time went on: signed clock stamps. At this feature level the leader's; later a majority's.
    Tick(Vec<u8>),
    /// The leader's order to one node to upgrade its agent; its content follows from the state.
    AgentOrder(AgentOrdered),
    /// The leader gives up a node whose agent was upgraded, and with it the upgrade.
    AgentHalt(AgentHalt),
    /// A node comes in by a join token: the envelope of a voter's [`crate::statement::TokenEntry`].
    TokenUse(Vec<u8>),
}

/// Body of [`Command::Found`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Envelope of the charter.
    pub charter: Vec<u8>,
    /// Envelope of the `site.found` intent.
    pub envelope: Vec<u8>,
}

/// Body of [`Command::Place`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The cluster.
    pub cluster: Name,
    /// The attach intent.
    pub intent: Digest,
    /// The nodes and their roles, sorted by node.
    pub nodes: Vec<PlacedNode>,
}

/// Body of [`Command::Assign`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// The node.
    pub node: NodeId,
    /// The stage.
    pub stage: Stage,
    /// The assignment's generation: the node's last plus one.
    pub generation: Generation,
}

/// Body of [`Command::Preflight`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightDone {
    /// The cluster.
    pub cluster: Name,
    /// The attach intent.
    pub intent: Digest,
    /// Findings, errors first.
    pub findings: Vec<Finding>,
}

/// Body of [`Command::AgentOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOrdered {
    /// The `agent.upgrade` intent.
    pub upgrade: Digest,
    /// The node.
    pub node: NodeId,
    /// The order's generation: the node's last agent order plus one.
    pub generation: Generation,
}

/// Body of [`Command::AgentHalt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHalt {
    /// The `agent.upgrade` intent.
    pub upgrade: Digest,
    /// The node that failed.
    pub node: NodeId,
    /// Why: at most 512 bytes of text.
    pub why: String,
}

/// A command with the leader's stamp. `log_time` becomes the greater of itself and the stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The leader's clock.
    pub stamp: Millis,
    /// The command.
    pub command: Command,
}

/// Why bytes are not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Longer than [`MAX_COMMAND`].
    #[error("command has {0} bytes, at most {MAX_COMMAND} are allowed")]
    TooLarge(usize),
    /// Kind or version of a newer agent.
    #[error("command kind {kind} version {version} is not known to this agent: install a newer one")]
    Unknown {
        /// The kind.
        kind: u16,
        /// The version.
        version: u8,
    },
    /// Body does not decode.
    #[error("command of kind {kind} does not decode: {why}")]
    Malformed {
        /// The kind.
        kind: u16,
        /// The decoder's words.
        why: String,
    },
}

const VERSION: u8 = 1;

impl Entry {
    /// The bytes that the log holds.
    pub fn encode(&self) -> Result<Vec<u8>, CommandError> {
        fn body<T: Serialize>(kind: u16, stamp: Millis, body: &T) -> Result<Vec<u8>, CommandError> {
            let mut out = Vec::with_capacity(64);
            out.extend_from_slice(&kind.to_le_bytes());
            out.push(VERSION);
            postcard::to_extend(&(stamp, body), out)
                .map_err(|e| CommandError::Malformed { kind, why: e.to_string() })
        }
        let bytes = match &self.command {
            Command::Found(b) => body(1, self.stamp, b),
            Command::Intent(b) => body(2, self.stamp, b),
            Command::Node(b) => body(3, self.stamp, b),
            Command::Place(b) => body(4, self.stamp, b),
            Command::Assign(b) => body(5, self.stamp, b),
            Command::Preflight(b) => body(6, self.stamp, b),
            Command::Seat(b) => body(7, self.stamp, b),
            Command::Unseat(b) => body(8, self.stamp, b),
            Command::Tick(b) => body(9, self.stamp, b),
            Command::AgentOrder(b) => body(10, self.stamp, b),
            Command::AgentHalt(b) => body(11, self.stamp, b),
            Command::TokenUse(b) => body(12, self.stamp, b),
        }?;
        if bytes.len() > MAX_COMMAND { Err(CommandError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads what [`Self::encode`] wrote; bounded before it is decoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        if bytes.len() > MAX_COMMAND {
            return Err(CommandError::TooLarge(bytes.len()));
        }
        let [k0, k1, version, body @ ..] = bytes else {
            return Err(CommandError::Malformed { kind: 0, why: "shorter than its head".into() });
        };
        let kind = u16::from_le_bytes([*k0, *k1]);
        if *version != VERSION {
            return Err(CommandError::Unknown { kind, version: *version });
        }
        fn read<'a, T: Deserialize<'a>>(kind: u16, body: &'a [u8]) -> Result<(Millis, T), CommandError> {
            let malformed = |why: String| CommandError::Malformed { kind, why };
            let (value, rest) = postcard::take_from_bytes(body).map_err(|e| malformed(e.to_string()))?;
            if rest.is_empty() { Ok(value) } else { Err(malformed("trailing bytes".into())) }
        }
        let (stamp, command) = match kind {
            1 => read(kind, body).map(|(s, b)| (s, Command::Found(b))),
            2 => read(kind, body).map(|(s, b)| (s, Command::Intent(b))),
            3 => read(kind, body).map(|(s, b)| (s, Command::Node(b))),
            4 => read(kind, body).map(|(s, b)| (s, Command::Place(b))),
            5 => read(kind, body).map(|(s, b)| (s, Command::Assign(b))),
            6 => read(kind, body).map(|(s, b)| (s, Command::Preflight(b))),
            7 => read(kind, body).map(|(s, b)| (s, Command::Seat(b))),
            8 => read(kind, body).map(|(s, b)| (s, Command::Unseat(b))),
            9 => read(kind, body).map(|(s, b)| (s, Command::Tick(b))),
            10 => read(kind, body).map(|(s, b)| (s, Command::AgentOrder(b))),
            11 => read(kind, body).map(|(s, b)| (s, Command::AgentHalt(b))),
            12 => read(kind, body).map(|(s, b)| (s, Command::TokenUse(b))),
            _ => Err(CommandError::Unknown { kind, version: *version }),
        }?;
        Ok(Self { stamp, command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of version 1. A change here is a change of the log's format.
    #[test]
    fn golden_bytes() {
        let entry = Entry {
            stamp: Millis(300),
            command: Command::Assign(Assign {
                node: NodeId([7; 32]),
                stage: Stage::Join,
                generation: Generation(2),
            }),
        };
        let mut want = vec![5, 0, 1, 0xac, 2];
        want.extend_from_slice(&[7; 32]);
        want.extend_from_slice(&[2, 2]);
        assert_eq!(entry.encode().unwrap(), want);
        assert_eq!(Entry::decode(&want).unwrap(), entry);
    }

    #[test]
    fn golden_bytes_of_agent_orders() {
        let (upgrade, node) = (Digest([9; 32]), NodeId([7; 32]));
        let order = Command::AgentOrder(AgentOrdered { upgrade, node, generation: Generation(2) });
        let mut want = vec![10, 0, 1, 1];
        want.extend_from_slice(&[9; 32]);
        want.extend_from_slice(&[7; 32]);
        want.push(2);
        assert_eq!(Entry { stamp: Millis(1), command: order }.encode().unwrap(), want);
        let halt = Entry {
            stamp: Millis(1),
            command: Command::AgentHalt(AgentHalt { upgrade, node, why: "ab".into() }),
        };
        want[0] = 11;
        want.pop();
        want.extend_from_slice(&[2, b'a', b'b']);
        assert_eq!(halt.encode().unwrap(), want);
        assert_eq!(Entry::decode(&want).unwrap(), halt);
    }

    #[test]
    fn golden_bytes_of_a_token_use() {
        let entry = Entry { stamp: Millis(1), command: Command::TokenUse(vec![9, 8]) };
        assert_eq!(entry.encode().unwrap(), [12, 0, 1, 1, 2, 9, 8]);
        assert_eq!(Entry::decode(&[12, 0, 1, 1, 2, 9, 8]).unwrap(), entry);
    }

    #[test]
    fn unknown_kinds_and_trailing_bytes_are_errors() {
        assert!(matches!(Entry::decode(&[13, 0, 1, 0]), Err(CommandError::Unknown { kind: 13, .. })));
        assert!(matches!(Entry::decode(&[2, 0, 2, 0]), Err(CommandError::Unknown { version: 2, .. })));
        assert!(Entry::decode(&[8, 0, 1, 0, 1, 1]).is_err());
        assert!(Entry::decode(&[]).is_err());
    }
}
