//! The intent (security rules 2.3): one action that an admin wants, bound to a site, a time, a chain
//! head that the signer saw, and the generations that the signer looked at.
//!
//! Rules for changing this file: these are signed bytes. A new member or meaning is a new payload
//! type; old verifiers refuse it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::action::Action;
use crate::dsse::{Purpose, Signer, digest_of};
use crate::envelope::Envelope;
use crate::ids::{Digest, Generation, IdError, IntentId, Millis, Name, NodeId, SiteId};
use crate::limits::{AFTER, EXPECT, NOTE_BYTES, PAYLOAD_BYTES};
use crate::strict::{self, Rules, StrictError};
use crate::trust::required;
use crate::validate::{self, sorted_unique};

/// Why bytes are not an intent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntentError {
    /// Not strict JSON of the exact form.
    #[error("intent: {0}")]
    Strict(#[from] StrictError),
    /// A member's value is out of its bounds.
    #[error("intent: {0}")]
    Value(#[from] validate::ValueError),
}

/// An object that has a generation, or the trust log. Text: `cluster/NAME`, `node/NODEID`,
/// `admin/NAME`, `trust`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectRef {
    /// An admin.
    Admin(Name),
    /// A cluster.
    Cluster(Name),
    /// A node.
    Node(NodeId),
    /// The trust log.
    Trust,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(name) => write!(f, "admin/{name}"),
            Self::Cluster(name) => write!(f, "cluster/{name}"),
            Self::Node(node) => write!(f, "node/{node}"),
            Self::Trust => f.write_str("trust"),
        }
    }
}

impl FromStr for ObjectRef {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once('/') {
            Some(("admin", name)) => name.parse().map(Self::Admin),
            Some(("cluster", name)) => name.parse().map(Self::Cluster),
            Some(("node", node)) => node.parse().map(Self::Node),
            None if text == "trust" => Ok(Self::Trust),
            _ => Err(IdError::new("object", text, "admin/NAME, cluster/NAME, node/NODEID or trust")),
        }
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A head of the audit chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Its number: 0 for the beginning, whose hash is the site's digest.
    pub index: u64,
    /// The head.
    pub hash: Digest,
}

impl Anchor {
    /// The beginning of a site's chain: what its founding intent is anchored at.
    pub fn founding(site: SiteId) -> Self {
        Self { index: 0, hash: site.0 }
    }
}

/// What the signer looked at. Generations are exact, 0 for an object that does not exist; the trust
/// head may have descendants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireExpect", into = "WireExpect")]
pub enum Expect {
    /// This object is at this generation.
    Generation {
        /// An admin, cluster or node.
        object: ObjectRef,
        /// Its generation.
        generation: Generation,
    },
    /// This is a recent head of the trust log.
    Trust {
        /// The head.
        hash: Digest,
    },
}

impl Expect {
    /// The object it speaks of.
    pub fn object(&self) -> ObjectRef {
        match self {
            Self::Generation { object, .. } => object.clone(),
            Self::Trust { .. } => ObjectRef::Trust,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireExpect {
    object: ObjectRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Digest>,
}

impl TryFrom<WireExpect> for Expect {
    type Error = &'static str;
    fn try_from(wire: WireExpect) -> Result<Self, Self::Error> {
        match (wire.object, wire.generation, wire.hash) {
            (ObjectRef::Trust, None, Some(hash)) => Ok(Self::Trust { hash }),
            (ObjectRef::Trust, ..) => Err("an expectation of trust has exactly object and hash"),
            (object, Some(generation), None) => Ok(Self::Generation { object, generation }),
            _ => Err("an expectation of an object has exactly object and generation"),
        }
    }
}

impl From<Expect> for WireExpect {
    fn from(expect: Expect) -> Self {
        match expect {
            Expect::Generation { object, generation } => {
                Self { object, generation: Some(generation), hash: None }
            }
            Expect::Trust { hash } => Self { object: ObjectRef::Trust, generation: None, hash: Some(hash) },
        }
    }
}

/// One action that an admin wants. JSON only: what is kept is the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// 1.
    pub v: u8,
    /// The site it is for.
    pub site: SiteId,
    /// A label for people; not what tells intents apart.
    pub id: IntentId,
    /// The admin who is its author.
    pub by: Name,
    /// When it was signed, by the signer's clock.
    pub issued_ms: Millis,
    /// When it ends.
    pub expires_ms: Millis,
    /// A chain head that the signer has seen.
    pub anchor: Anchor,
    /// Intents that must have outcomes first: sorted, unique, at most 8. Absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<Digest>>,
    /// What the signer looked at: sorted by the object's text, unique, at most 64.
    pub expect: Vec<Expect>,
    /// What is wanted.
    pub action: Action,
    /// A remark for the audit, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Intent {
    /// Reads a payload and checks every bound that needs no state.
    ///
    /// # Errors
    /// Anything that is not the exact form.
    pub fn parse(payload: &[u8]) -> Result<Self, IntentError> {
        let rules = Rules { max_bytes: PAYLOAD_BYTES, null: true };
        let intent: Self = strict::parse(payload, rules, "an intent")?;
        intent.check()?;
        Ok(intent)
    }

    /// Checks every bound that needs no state.
    ///
    /// # Errors
    /// The first member that is out of its bounds.
    pub fn check(&self) -> Result<(), IntentError> {
        if self.v != 1 {
            return Err(validate::ValueError::new("v", "is not 1").into());
        }
        if self.expires_ms <= self.issued_ms {
            return Err(validate::ValueError::new("expires_ms", "is not after issued_ms").into());
        }
        validate::count("after", self.after().len(), 0, AFTER)?;
        sorted_unique("after", self.after())?;
        validate::count("expect", self.expect.len(), 0, EXPECT)?;
        let objects: Vec<String> = self.expect.iter().map(|e| e.object().to_string()).collect();
        sorted_unique("expect", &objects)?;
        if let Some(note) = &self.note {
            validate::text("note", note, 0, NOTE_BYTES)?;
        }
        let class = required(&self.action);
        let of_trust = self.expect.iter().any(|e| matches!(e, Expect::Trust { .. }));
        if class.names_trust && !of_trust {
            let what = "lacks the trust head that every action on trust names";
            return Err(validate::ValueError::new("expect", what).into());
        }
        if class.removal && self.expect.iter().any(|e| matches!(e, Expect::Generation { .. })) {
            let what = "holds a generation, which a removal must not name";
            return Err(validate::ValueError::new("expect", what).into());
        }
        validate::action(&self.action)?;
        Ok(())
    }

    /// The intents that must have outcomes first.
    pub fn after(&self) -> &[Digest] {
        self.after.as_deref().unwrap_or_default()
    }

    /// How long it lives, in milliseconds.
    pub fn lifetime(&self) -> u64 {
        self.expires_ms.since(self.issued_ms)
    }

    /// The payload: compact JSON, members in the order of this struct.
    pub fn to_payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256 over the PAE of [`Self::to_payload`].
    pub fn digest(&self) -> Digest {
        digest_of(Purpose::Intent.media_type(), &self.to_payload())
    }

    /// Checks the intent and signs it.
    ///
    /// # Errors
    /// A bound is broken: nobody would accept it.
    pub fn sign(&self, signers: &[&dyn Signer]) -> Result<Envelope, IntentError> {
        let payload = self.to_payload();
        Self::parse(&payload)?;
        Ok(Envelope::sign(Purpose::Intent, payload, signers))
    }
}
