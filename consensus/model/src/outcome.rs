//! What became of an intent, and why: the reasons are data, with a code, a sentence and a remedy.

use serde::{Deserialize, Serialize};

use crate::action::{KeyClass, Role};
use crate::ids::{Digest, Generation, IntentId, Millis, Name, NodeId, PublicKey, SiteId};
use crate::intent::ObjectRef;
use crate::trust::KeyUse;

/// What became of a validly signed intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Applied. The generation is that of the object it changed.
    Accepted {
        /// The object's generation afterwards.
        generation: Generation,
    },
    /// Waits for more admins to sign.
    Pending {
        /// Admins who signed.
        have: u8,
        /// Admins who must sign.
        need: u8,
    },
    /// Refused for good: it cannot be replayed when it would pass.
    Rejected(Reason),
    /// Seen before.
    Duplicate {
        /// What became of it the first time.
        first: Box<Outcome>,
        /// Where in the audit chain that is.
        index: u64,
    },
}

impl Outcome {
    /// The byte that enters the audit chain. 0 is for records that have no outcome.
    pub fn chain_code(&self) -> u8 {
        match self {
            Self::Accepted { .. } => 1,
            Self::Pending { .. } => 2,
            Self::Rejected(_) => 3,
            Self::Duplicate { .. } => 4,
        }
    }

    /// The generation that enters the audit chain: 0 unless accepted.
    pub fn generation(&self) -> Generation {
        match self {
            Self::Accepted { generation } => *generation,
            _ => Generation(0),
        }
    }

    /// Whether nothing can change it any more.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Pending { .. })
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $code:literal $text:literal $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty),* $(,)? },)*) => {
        /// Why an intent was refused. Codes are stable; sentences are for people.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[$doc])* #[error($text)] $name { $($(#[$fdoc])* $field: $ty),* },)*
            /// A refusal with words of its own.
            #[error("{text}")]
            Precondition {
                /// The code, in snake case.
                code: String,
                /// The sentence, with its values.
                text: String,
                /// What helps.
                remedy: Option<String>,
            },
        }

        impl Reason {
            /// The stable code.
            pub fn code(&self) -> &str {
                match self {
                    $(Self::$name { .. } => $code,)*
                    Self::Precondition { code, .. } => code,
                }
            }
        }
    };
}

reasons! {
    /// Signed for another site.
    "wrong_site" "the intent is for site {site}" WrongSite { /** The site named. */ site: SiteId },
    /// Its time is over.
    "expired" "the intent expired at {expires} ms, site time is {log_time} ms"
        Expired { /** When it ended. */ expires: Millis, /** Site time. */ log_time: Millis },
    /// Its time has not come.
    "not_yet_valid" "the intent was issued at {issued} ms, which is ahead of site time {log_time} ms"
        NotYetValid { /** When it was issued. */ issued: Millis, /** Site time. */ log_time: Millis },
    /// Issued before a restore or a reset of time.
    "issued_floor" "the intent was issued at {issued} ms, before the site's floor {floor} ms"
        IssuedFloor { /** When it was issued. */ issued: Millis, /** The floor. */ floor: Millis },
    /// Lives too short or too long.
    "lifetime" "the intent lives {ms} ms, allowed are {min_ms} to {max_ms} ms"
        Lifetime { /** Its life. */ ms: u64, /** Shortest. */ min_ms: u64, /** Longest. */ max_ms: u64 },
    /// Names a chain head that this site does not remember.
    "anchor_unknown" "the anchor at index {index} is not a head of this site's audit chain"
        AnchorUnknown { /** The index named. */ index: u64 },
    /// Names a chain head of long before it was issued.
    "anchor_too_old" "the anchor at index {index} is {age_ms} ms older than the intent, allowed are {max_ms} ms"
        AnchorTooOld { /** The index named. */ index: u64, /** Its age at issue. */ age_ms: u64, /** The policy. */ max_ms: u64 },
    /// Another intent of the same key has the same id.
    "id_reused" "the same key signed another intent with id {id}"
        IdReused { /** The id. */ id: IntentId, /** The other intent. */ first: Digest },
    /// Cancelled, possibly before it arrived.
    "cancelled" "the intent was cancelled by {by}" Cancelled { /** Who cancelled it. */ by: Name },
    /// It waits for an intent that has no outcome.
    "after" "the intent comes after {missing}, which has no outcome yet"
        After { /** The first one missing. */ missing: Digest },
    /// The author's role is too low.
    "role" "admin {admin} is {have:?}, the action needs {need:?}"
        Role { /** The author. */ admin: Name, /** Their role. */ have: Role, /** The role needed. */ need: Role },
    /// No signing key's class may sign this.
    "key_class" "a key of class {class:?} may not sign {action}"
        KeyClass { /** The action. */ action: String, /** The class. */ class: KeyClass },
    /// Too few owners with a lasting key would be left.
    "last_owner" "{left} owners with a key that does not expire and is not in a browser would be left, {need} are needed"
        LastOwner { /** How many would be left. */ left: u32, /** How many are needed. */ need: u32 },
    /// The object changed since the signer looked.
    "stale_generation" "{object} is at generation {actual}, the intent expects {expected}"
        StaleGeneration { /** The object. */ object: ObjectRef, /** As signed. */ expected: Generation, /** As it is. */ actual: Generation },
    /// The trust log went on, or never had this head.
    "stale_trust" "{hash} is not a recent head of this site's trust log"
        StaleTrust { /** The head named. */ hash: Digest },
    /// There is no such object.
    "unknown_object" "{object} does not exist" UnknownObject { /** The object. */ object: ObjectRef },
    /// The form is wrong in a way that only the state shows.
    "malformed" "the intent is malformed: {what}" Malformed { /** What is wrong. */ what: String },
    /// There is no such admin.
    "unknown_admin" "there is no admin {admin}" UnknownAdmin { /** The admin. */ admin: Name },
    /// There is such an admin already.
    "exists" "there is an admin {admin} already" AdminExists { /** The admin. */ admin: Name },
    /// The admin has no such key.
    "unknown_key" "key {key} is not known for this" UnknownKey { /** The key. */ key: PublicKey },
    /// The key is used already, here or for something else.
    "key_in_use" "key {key} is in use as {used_as} key" KeyInUse { /** The key. */ key: PublicKey, /** As what. */ used_as: KeyUse },
    /// The key was revoked as compromised.
    "key_revoked" "key {key} was revoked as compromised" KeyRevoked { /** The key. */ key: PublicKey },
    /// The key is weak.
    "weak_key" "{what}" WeakKey { /** The rule it breaks. */ what: String },
    /// There is nothing to change.
    "no_change" "{what} is so already" NoChange { /** What. */ what: String },
    /// A bound of the site is reached.
    "cap" "the site has {max} {what} and takes no more" Cap { /** What. */ what: String, /** The bound. */ max: u64 },
    /// A table is full for now.
    "busy" "{what} is full for now" Busy { /** What. */ what: String },
    /// Only the signer or an owner may cancel.
    "not_signer" "admin {admin} neither signed that intent nor is an owner" NotSigner { /** Who asked. */ admin: Name },
    /// The site is founded.
    "already_founded" "the site is founded already" AlreadyFounded {},
    /// The site is not founded.
    "not_founded" "the site is not founded yet" NotFounded {},
    /// There is no such node.
    "unknown_node" "there is no node {node}" UnknownNode { /** The node. */ node: NodeId },
    /// There is no such cluster.
    "unknown_cluster" "there is no cluster {cluster}" UnknownCluster { /** The cluster. */ cluster: Name },
    /// The node is in no pool.
    "not_in_pool" "node {node} is not in the pool: it is {status}"
        NodeNotInPool { /** The node. */ node: NodeId, /** What it is. */ status: String },
    /// The node is not in that cluster.
    "not_in_cluster" "node {node} is not in cluster {cluster}"
        NodeNotInCluster { /** The node. */ node: NodeId, /** The cluster. */ cluster: Name },
    /// The name is taken.
    "name_taken" "there is a cluster {cluster} already" ClusterExists { /** The cluster. */ cluster: Name },
    /// The host name is taken by another node.
    "host_taken" "host name {host} is taken by node {node}" HostTaken { /** The name. */ host: String, /** By whom. */ node: NodeId },
    /// The pool is too small.
    "not_enough_nodes" "{want} nodes are asked for, {have} in the pool fit"
        NotEnoughNodes { /** Asked for. */ want: u32, /** There are. */ have: u32 },
    /// The cluster is at work.
    "cluster_busy" "cluster {cluster} is {doing}" ClusterBusy { /** The cluster. */ cluster: Name, /** What it does. */ doing: String },
    /// The node was revoked; its key never comes back.
    "tombstone" "node {node} was revoked and cannot return with the same key" NodeRevoked { /** The node. */ node: NodeId },
    /// The node is authorized.
    "already_member" "node {node} is authorized already" AlreadyMember { /** The node. */ node: NodeId },
    /// The node is on probation.
    "probation" "node {node} is on probation: no vote, no control plane"
        Probation { /** The node. */ node: NodeId },
    /// The last control plane or voter would go.
    "last_control_plane" "node {node} is the last control plane of cluster {cluster}"
        LastControlPlane { /** The node. */ node: NodeId, /** The cluster. */ cluster: Name },
    /// Bundles of unknown publishers are not installed.
    "unknown_publisher" "no publisher with key {key} is accepted" UnknownPublisher { /** The key. */ key: PublicKey },
    /// There is no such relay.
    "unknown_relay" "no relay with key {key} is trusted" UnknownRelay { /** The key. */ key: PublicKey },
    /// There is no such intent.
    "unknown_intent" "there is no intent {digest}" UnknownIntent { /** The intent. */ digest: Digest },
}

impl Reason {
    /// What clears it: a command of `qb`, or a sentence.
    pub fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::WrongSite { .. } => "choose the site that the intent is for: qb site list".into(),
            Self::Expired { .. }
            | Self::IssuedFloor { .. }
            | Self::AnchorTooOld { .. }
            | Self::Lifetime { .. } => "sign it again: run the same command once more".into(),
            Self::NotYetValid { .. } => "set the clock of the machine that signs".into(),
            Self::AnchorUnknown { .. } => "what you looked at is not this site: qb audit verify".into(),
            Self::IdReused { .. } => "sign it again: every intent has an id of its own".into(),
            Self::Role { need, .. } => {
                format!("ask an admin with the role {need:?} to sign it").to_lowercase()
            }
            Self::KeyClass { .. } => "sign it in a terminal with a key of class cli: qb key list".into(),
            Self::LastOwner { .. } => "first add an owner with a cli or hardware key: qb admin add ADMIN --role owner --public-key KEY".into(),
            Self::StaleGeneration { object, .. } => format!("look at {object} again, then sign again"),
            Self::StaleTrust { .. } => "look at the admins again, then sign again: qb admin list".into(),
            Self::UnknownAdmin { .. }
            | Self::AdminExists { .. }
            | Self::UnknownKey { .. }
            | Self::KeyInUse { .. } => "qb admin list".into(),
            Self::KeyRevoked { .. } | Self::WeakKey { .. } => "make a new key: qb key new NAME".into(),
            Self::Busy { .. } => "wait for some intents to expire, then try again".into(),
            Self::Cap { what, .. } => format!("remove some {what} first"),
            Self::UnknownNode { .. } | Self::NodeNotInPool { .. } | Self::NotEnoughNodes { .. } => {
                "qb node list".into()
            }
            Self::UnknownCluster { .. } | Self::ClusterExists { .. } => "qb cluster list".into(),
            Self::NodeNotInCluster { cluster, .. } | Self::ClusterBusy { cluster, .. } => {
                format!("qb cluster show {cluster}")
            }
            Self::NodeRevoked { .. } => {
                "qb-agent identity reset on that host, then authorize it again".into()
            }
            Self::Probation { node } => format!("sign with a cli or hardware key: qb node authorize {node}"),
            Self::LastControlPlane { cluster, .. } => {
                format!("attach another control plane first, or qb cluster delete {cluster}")
            }
            Self::NotFounded {} => "qb node authorize --waiting".into(),
            Self::Precondition { remedy, .. } => return remedy.clone(),
            _ => return None,
        };
        Some(text)
    }
}
