//! Admins, keys, policy, publishers and relays, and the log that they come from.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{KeyClass, NewKey, Policy, RevokeReason, Role};
use crate::charter::{Charter, Recovery};
use crate::ids::{Digest, Generation, Millis, Name, PublicKey, SiteId};
use crate::intent::ObjectRef;
use crate::trust::{Signatory, TrustEntry};

/// What a public key is used for. A key that is or was used for one thing is refused for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyUse {
    /// An admin's.
    Admin,
    /// A node's.
    Node,
    /// A relay's.
    Relay,
    /// A publisher's.
    Publisher,
    /// A join token.
    Token,
    /// A recovery key.
    Recovery,
}

impl fmt::Display for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Node => "node",
            Self::Relay => "relay",
            Self::Publisher => "publisher",
            Self::Token => "token",
            Self::Recovery => "recovery",
        })
    }
}

/// A key of an admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminKey {
    /// Where it lives.
    pub class: KeyClass,
    /// When it ends by itself.
    pub expires: Option<Millis>,
}

impl AdminKey {
    /// Whether it may still sign at this log time.
    pub fn is_live(&self, log_time: Millis) -> bool {
        self.expires.is_none_or(|end| log_time < end)
    }

    /// Whether it counts for the last-owner rule: it never ends and is not in a browser.
    pub fn is_lasting(&self) -> bool {
        self.expires.is_none() && self.class != KeyClass::Browser
    }
}

/// A person who may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    /// The person's name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Their keys.
    pub keys: BTreeMap<PublicKey, AdminKey>,
    /// How often this admin changed.
    pub generation: Generation,
}

impl Admin {
    /// Whether this is an owner who can sign for ever.
    pub fn is_lasting_owner(&self) -> bool {
        self.role == Role::Owner && self.keys.values().any(AdminKey::is_lasting)
    }
}

/// A publisher whose bundles may be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// Its name.
    pub name: Name,
}

/// A relay whose key is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Its address.
    pub url: String,
    /// The org that the site is tied to there.
    pub org: Option<Name>,
}

/// What a removed key was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Former {
    pub(super) used_as: KeyUse,
    pub(super) reason: RevokeReason,
}

/// Everything that actions on trust change. Apart from the log, so that a change can be tried on a
/// copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Members {
    pub(super) admins: BTreeMap<Name, Admin>,
    /// Generations of admins that are gone: a new one of that name goes on from there.
    pub(super) gone: BTreeMap<Name, Generation>,
    pub(super) policy: Policy,
    pub(super) publishers: BTreeMap<PublicKey, Publisher>,
    pub(super) relays: BTreeMap<PublicKey, Relay>,
    pub(super) recovery: Option<Recovery>,
    pub(super) former: BTreeMap<PublicKey, Former>,
}

/// Who may do what at a site, derived from its charter and its trust log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustState {
    pub(super) site: SiteId,
    pub(super) charter: Vec<u8>,
    pub(super) members: Members,
    pub(super) log: Vec<TrustEntry>,
    pub(super) log_bytes: u64,
    pub(super) head: Digest,
}

impl TrustState {
    /// The trust of a site whose log is empty.
    pub fn from_charter(charter: &Charter) -> Self {
        let body = charter.body();
        let founder = |f: &crate::charter::Founder| {
            let keys = f.keys.iter().map(|k| (k.key, AdminKey::from(k))).collect();
            let admin = Admin { name: f.name.clone(), role: Role::Owner, keys, generation: Generation(1) };
            (f.admin.clone(), admin)
        };
        let relay = |r: &crate::charter::CharterRelay| (r.key, Relay { url: r.url.clone(), org: None });
        let members = Members {
            admins: body.founders.iter().map(founder).collect(),
            gone: BTreeMap::new(),
            policy: Policy::default(),
            publishers: BTreeMap::new(),
            relays: body.relays.iter().map(relay).collect(),
            recovery: body.recovery.clone(),
            former: BTreeMap::new(),
        };
        Self {
            site: charter.site_id(),
            charter: charter.envelope().to_vec(),
            members,
            log: Vec::new(),
            log_bytes: 0,
            head: charter.site_id().0,
        }
    }

    /// The site.
    pub fn site(&self) -> SiteId {
        self.site
    }

    /// The charter's envelope.
    pub fn charter(&self) -> &[u8] {
        &self.charter
    }

    /// All admins, by id.
    pub fn admins(&self) -> &BTreeMap<Name, Admin> {
        &self.members.admins
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.members.policy
    }

    /// The publishers accepted now, by key.
    pub fn publishers(&self) -> &BTreeMap<PublicKey, Publisher> {
        &self.members.publishers
    }

    /// The relays trusted now, by key.
    pub fn relays(&self) -> &BTreeMap<PublicKey, Relay> {
        &self.members.relays
    }

    /// The recovery keys.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.members.recovery.as_ref()
    }

    /// The log, oldest entry first.
    pub fn log(&self) -> &[TrustEntry] {
        &self.log
    }

    /// The head of the log: the site's digest while it is empty.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// The admin with this key, and the key, unless it has expired.
    pub fn signatory(&self, key: &PublicKey, log_time: Millis) -> Option<Signatory> {
        self.members.admins.iter().find_map(|(admin, entry)| {
            let found = entry.keys.get(key).filter(|k| k.is_live(log_time))?;
            Some(Signatory { key: *key, class: found.class, admin: admin.clone(), role: entry.role })
        })
    }

    /// What this key is, or was, used for here.
    pub fn key_use(&self, key: &PublicKey) -> Option<KeyUse> {
        self.members.key_use(key).or_else(|| self.members.former.get(key).map(|f| f.used_as))
    }

    /// Whether this key was revoked as compromised.
    pub fn is_compromised(&self, key: &PublicKey) -> bool {
        self.members.former.get(key).is_some_and(|f| f.reason == RevokeReason::Compromised)
    }

    /// Whether `head` is this log's head, or was it at `oldest` or later: an ancestor that a signer
    /// may still name.
    pub fn is_recent(&self, head: &Digest, oldest: Millis) -> bool {
        *head == self.head || self.log.iter().any(|entry| entry.parent == *head && entry.log_time >= oldest)
    }

    /// Whether `head` is this log's head or any ancestor: what a node compares before it takes
    /// another's log for newer.
    pub fn contains(&self, head: &Digest) -> bool {
        *head == self.head || self.log.iter().any(|entry| entry.parent == *head)
    }

    /// The generation of an admin; 0 for one that never was.
    pub fn generation(&self, object: &ObjectRef) -> Option<Generation> {
        match object {
            ObjectRef::Admin(name) => {
                let live = self.members.admins.get(name).map(|a| a.generation);
                live.or_else(|| self.members.gone.get(name).copied())
            }
            ObjectRef::Trust => Some(Generation(self.log.len() as u64)),
            ObjectRef::Cluster(_) | ObjectRef::Node(_) => None,
        }
    }

    /// Whether losing one machine could still lose the company its site: true until two owner keys of
    /// different classes or a recovery key exist (security rules 3.3).
    pub fn is_provisional(&self) -> bool {
        let owners = self.members.admins.values().filter(|a| a.role == Role::Owner);
        let classes: std::collections::BTreeSet<KeyClass> =
            owners.flat_map(|a| a.keys.values()).map(|k| k.class).collect();
        self.members.recovery.is_none() && classes.len() < 2
    }
}

impl Members {
    /// What this key is used for now.
    pub(super) fn key_use(&self, key: &PublicKey) -> Option<KeyUse> {
        if self.admins.values().any(|a| a.keys.contains_key(key)) {
            Some(KeyUse::Admin)
        } else if self.relays.contains_key(key) {
            Some(KeyUse::Relay)
        } else if self.publishers.contains_key(key) {
            Some(KeyUse::Publisher)
        } else if self.recovery.as_ref().is_some_and(|r| r.keys.contains(key)) {
            Some(KeyUse::Recovery)
        } else {
            None
        }
    }
}

impl From<&NewKey> for AdminKey {
    fn from(key: &NewKey) -> Self {
        Self { class: key.class, expires: key.expires_ms }
    }
}
