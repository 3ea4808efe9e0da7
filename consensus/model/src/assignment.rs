//! The order to one node: what the leader plans, what the log holds, what the executor verifies.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::action::{Action, NodeRole, Placement};
use crate::charter::Charter;
use crate::grant::AccessRecord;
use crate::ids::{Digest, Generation, HostName, Millis, Name, NodeId, PublicKey, SiteId, Version};
use crate::intent::Intent;
use crate::judge::verify_logged;
use crate::settings::Settings;
use crate::state::names_other;
use crate::trust::{TrustEntry, TrustState, replay_log};

/// The driver of real clusters: its members have networks by slot and are released before they leave.
pub const KUBEADM: &str = "kubeadm";

/// What a node does for its cluster, one after the other. Numbers are wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Unpack the bundle, render files.
    Prepare,
    /// The first control plane node makes the cluster.
    Initialize,
    /// Every other node enters it.
    Join,
    /// The node takes everything away again.
    Leave,
    /// The node brings its part of the cluster to another version.
    Upgrade,
    /// The node brings the cluster's store back to a backup that it holds.
    Restore,
}

impl Stage {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Initialize => "initialize",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Upgrade => "upgrade",
            Self::Restore => "restore",
        }
    }
}

/// A member of the cluster as an assignment names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its host name.
    pub host: HostName,
    /// The IP address that it serves the cluster on.
    pub address: String,
    /// Its role.
    pub role: NodeRole,
    /// Its place in the cluster's networks: lowest free when it was seated, its own until it has left.
    pub slot: u16,
}

/// An intent that is cited: its digest and the index at which it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    /// Digest of the intent.
    pub digest: Digest,
    /// Log index at which it was accepted: which entries of the trust log it was judged under.
    pub index: u64,
}

/// The order to one node. Immutable; a newer one has a greater generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The site.
    pub site: SiteId,
    /// The node that is ordered.
    pub node: NodeId,
    /// Rises with every assignment of this node.
    pub generation: Generation,
    /// The cluster.
    pub cluster: Name,
    /// Its driver.
    pub driver: Name,
    /// The driver's software version.
    pub version: Version,
    /// The manifest of the bundle.
    pub bundle: Digest,
    /// The cluster's networks and endpoints.
    pub settings: Settings,
    /// The node's role.
    pub role: NodeRole,
    /// What to do.
    pub stage: Stage,
    /// All members of the cluster, sorted by node, this one included.
    pub members: Vec<Member>,
    /// The member that initializes, or did.
    pub first: NodeId,
    /// The intent that implies this order: `cluster.attach`, `cluster.detach`, `cluster.delete` or
    /// `cluster.upgrade`.
    pub cites: Citation,
    /// The intent that names driver, version, bundle and settings: `cluster.create`, or the `cluster.upgrade` that
    /// brought the cluster to that version.
    pub created_by: Citation,
}

impl Assignment {
    /// SHA-256 over the postcard form, after a domain prefix.
    pub fn digest(&self) -> Digest {
        let bytes = postcard::to_stdvec(self).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(b"qb/assignment/1\0");
        hash.update(&bytes);
        Digest(hash.finalize().into())
    }

    /// This node among the members.
    pub fn member(&self) -> Option<&Member> {
        self.members.iter().find(|m| m.node == self.node)
    }
}

/// How a stage ended on a node; the `result` of a node's signed command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeResult {
    /// First command of a node: where to seal secrets to, and where it is.
    Hello {
        /// The signed [`crate::statement`] seal key record.
        seal_key: Vec<u8>,
        /// The address of its mesh listener.
        address: String,
    },
    /// The stage is done.
    Done {
        /// What others need to know, public: for `initialize` the cluster's CA certificate (PEM).
        public: Vec<u8>,
    },
    /// A secret for another node waits at this one.
    SecretOffered {
        /// Who it is sealed to.
        to: NodeId,
        /// What for: `join`.
        purpose: String,
        /// SHA-256 of the ciphertext.
        ciphertext: Digest,
        /// When it ends.
        expires_ms: Millis,
    },
    /// Answers an agent order: the node runs the version that was ordered, and is ready.
    AgentUpgraded {
        /// The version that runs.
        version: Version,
        /// The feature level that it knows: [`crate::limits::FEATURE_LEVEL`].
        level: u32,
    },
    /// Answers an agent order: the node returned to the version before, or never left it.
    AgentReturned {
        /// The version that runs.
        version: Version,
        /// Why, one line of at most 512 bytes with the remedy.
        why: String,
    },
    /// Another node that leaves is out of the cluster; said by the control plane member that did it, as
    /// no answer to an order of its own.
    Released {
        /// The node that leaves.
        node: NodeId,
        /// Generation of its order to leave.
        generation: Generation,
    },
    /// Who reached a cluster through this node: 1 to [`crate::limits::ACCESS_RECORDS`] records, oldest
    /// first. Changes nothing but the audit.
    Access(Vec<AccessRecord>),
    /// Answers an order to upgrade: the node returned to the version before.
    UpgradeReturned {
        /// Why, one line of at most 512 bytes with the remedy.
        why: String,
    },
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// For another node or site.
    #[error("the order is for another node or site")]
    NotForMe,
    /// Older than one that was carried out.
    #[error("the order has generation {got}, this node has carried out {floor}")]
    Stale {
        /// Its generation.
        got: Generation,
        /// The newest carried out.
        floor: Generation,
    },
    /// The trust log is broken or shorter than the one held.
    #[error("the trust log does not stand: {0}")]
    Trust(String),
    /// A cited intent is missing or not signed by an admin of its time.
    #[error("the {what} intent does not stand: {why}")]
    Intent {
        /// Which one.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// The intents do not order this.
    #[error("no signed intent implies the order: {0}")]
    NotImplied(&'static str),
}

/// An order whose signed intents were verified. Only [`verify`] makes one, and the executor takes
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAssignment {
    assignment: Assignment,
    publishers: Vec<PublicKey>,
    backup: Option<Digest>,
}

impl VerifiedAssignment {
    /// The order.
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// SHA-256 of the snapshot that is restored; none of an order that restores nothing.
    pub fn backup(&self) -> Option<Digest> {
        self.backup
    }

    /// Keys of the publishers that the site trusts, by the trust log that the order was verified
    /// under.
    pub fn publishers(&self) -> &[PublicKey] {
        &self.publishers
    }
}

/// What an order rests on, as it is handed to the executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grounds {
    /// The charter's envelope.
    pub charter: Vec<u8>,
    /// The trust log.
    pub trust_log: Vec<TrustEntry>,
    /// Envelope of the intent that implies the order, and when it was accepted.
    pub order: (Vec<u8>, Millis),
    /// Envelope of the `cluster.create` or `cluster.upgrade` intent, and when it was accepted.
    pub create: (Vec<u8>, Millis),
}

/// What the executor remembers by itself: neither may go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// Generation of the newest order that was begun.
    pub generation: Generation,
    /// Head of the newest trust log seen.
    pub trust_head: Digest,
}

/// What a node trusts by a charter of its site and a log that contains the head it has seen.
///
/// # Errors
/// Charter or log does not stand, is another site's, or lacks that head.
pub fn trusted(
    charter: &[u8],
    log: &[TrustEntry],
    site: SiteId,
    seen: &Digest,
) -> Result<TrustState, AssignmentError> {
    let trust_error = |e: String| AssignmentError::Trust(e);
    let charter = Charter::verify(charter).map_err(|e| trust_error(e.to_string()))?;
    if charter.site_id() != site {
        return Err(AssignmentError::NotForMe);
    }
    let trust = replay_log(&charter, log).map_err(|e| trust_error(e.to_string()))?;
    if !trust.contains(seen) {
        return Err(trust_error("it does not contain the one that this node has seen".into()));
    }
    Ok(trust)
}

/// Verifies an order against signed intents alone: nothing that the agent says is believed. Returns it
/// with the head of the trust log, which is the floor from now on.
///
/// # Errors
/// The first thing that does not stand.
pub fn verify(
    assignment: Assignment,
    grounds: &Grounds,
    floor: &Floor,
) -> Result<(VerifiedAssignment, Digest), AssignmentError> {
    if assignment.site != floor.site || assignment.node != floor.node {
        return Err(AssignmentError::NotForMe);
    }
    if assignment.generation < floor.generation {
        let (got, floor) = (assignment.generation, floor.generation);
        return Err(AssignmentError::Stale { got, floor });
    }
    let trust = trusted(&grounds.charter, &grounds.trust_log, floor.site, &floor.trust_head)?;
    let order = cited("ordering", &grounds.order, &trust, &assignment.cites)?;
    let create = cited("creating", &grounds.create, &trust, &assignment.created_by)?;
    implied(&assignment, &order.action, &create.action)?;
    let publishers = trust.publishers().keys().copied().collect();
    let backup = match order.action {
        Action::ClusterRestore { backup, .. } => Some(backup),
        _ => None,
    };
    Ok((VerifiedAssignment { assignment, publishers, backup }, trust.head()))
}

pub(crate) fn cited(
    what: &'static str,
    (envelope, at): &(Vec<u8>, Millis),
    trust: &TrustState,
    cites: &Citation,
) -> Result<Intent, AssignmentError> {
    signed_intent(envelope, trust, cites, *at).map_err(|why| AssignmentError::Intent { what, why })
}

/// Whether the intents order this.
pub(crate) fn implied(a: &Assignment, order: &Action, create: &Action) -> Result<(), AssignmentError> {
    let fail = |why| Err(AssignmentError::NotImplied(why));
    installs(a, create)?;
    let Some(me) = a.member() else { return fail("the node is not among the members") };
    if me.role != a.role {
        return fail("the role is not the member's");
    }
    match (a.stage, order) {
        (Stage::Leave, Action::ClusterDelete { cluster }) if *cluster == a.cluster => Ok(()),
        (Stage::Leave, Action::ClusterDetach { cluster, nodes })
            if *cluster == a.cluster && nodes.contains(&a.node) =>
        {
            Ok(())
        }
        (Stage::Upgrade, Action::ClusterUpgrade { cluster, .. })
            if *cluster == a.cluster && a.cites == a.created_by =>
        {
            Ok(())
        }
        (Stage::Restore, Action::ClusterRestore { cluster, node, .. })
            if *cluster == a.cluster && *node == a.node && a.role == NodeRole::ControlPlane =>
        {
            Ok(())
        }
        (Stage::Restore, _) => fail("the order is not a restore of this cluster on this node"),
        // Reset for it, and in again after it.
        (Stage::Leave | Stage::Prepare | Stage::Join, order)
            if a.role == NodeRole::ControlPlane && names_other(order, &a.cluster, &a.node) =>
        {
            Ok(())
        }
        (Stage::Upgrade, _) => fail("the order is not an upgrade of this cluster"),
        (Stage::Leave, _) => fail("leaving needs an intent that names the node or deletes the cluster"),
        (_, Action::ClusterAttach { cluster, placement }) if *cluster == a.cluster => match placement {
            Placement::Auto { .. } => Ok(()),
            Placement::Named { nodes, .. } if nodes.contains(&a.node) => Ok(()),
            Placement::Explicit { nodes } if nodes.iter().any(|n| n.node == a.node && n.role == a.role) => {
                Ok(())
            }
            _ => fail("the attach does not name this node in this role"),
        },
        _ => fail("the order is not an attach of this cluster"),
    }
}

/// Whether the intent names what the order installs.
pub(crate) fn installs(a: &Assignment, create: &Action) -> Result<(), AssignmentError> {
    match create {
        Action::ClusterCreate { cluster, driver, version, bundle, settings }
        | Action::ClusterUpgrade { cluster, driver, version, bundle, settings, .. }
            if *cluster == a.cluster
                && *driver == a.driver
                && *version == a.version
                && *bundle == a.bundle
                && Settings::of(settings.as_ref()).is_ok_and(|signed| signed == a.settings) =>
        {
            Ok(())
        }
        _ => Err(AssignmentError::NotImplied(
            "cluster, driver, version, bundle or settings are not those that were signed",
        )),
    }
}

/// The intent in an envelope, if it is the cited one and admins of its time signed it.
pub fn signed_intent(
    envelope: &[u8],
    trust: &TrustState,
    cites: &Citation,
    at: Millis,
) -> Result<Intent, String> {
    // Trust as it was then: only where it has changed since, it is derived again.
    let replayed;
    let then = if trust.log().last().is_none_or(|last| last.index < cites.index) {
        trust
    } else {
        let charter = Charter::verify(trust.charter()).map_err(|e| e.to_string())?;
        let before: Vec<TrustEntry> = trust.log().iter().filter(|e| e.index < cites.index).cloned().collect();
        replayed = replay_log(&charter, &before).map_err(|e| e.to_string())?;
        &replayed
    };
    // A founding intent is judged at the beginning, where there is no time yet.
    let verified = verify_logged(then, envelope, if cites.index == 1 { Millis(0) } else { at })
        .map_err(|e| e.to_string())?;
    if verified.digest() == cites.digest {
        Ok(verified.intent().clone())
    } else {
        Err("its digest is not the one cited".into())
    }
}
