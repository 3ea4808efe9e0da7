//! Grants: what an admin's signed wish to reach a cluster opens, judged by one pure function that the
//! agent at the end of a tunnel and the executor that signs certificates share (security rules 7).
//!
//! A grant alone opens nothing: whoever shows it must prove the client key that it names, inside the
//! tunnel, and each is used once.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{KeyClass, Role};
use crate::document::{Document as _, DocumentError, Grant, GrantScope, GrantTarget, open};
use crate::dsse::Purpose;
use crate::envelope::Envelope;
use crate::ids::{Digest, Millis, Name, Nonce16, PublicKey, SiteId};
use crate::key::KeyKind;
use crate::limits::{GRANT_AHEAD_MS, GRANTS_USED, GRANTS_USED_ADMIN};
use crate::strict::{self, Rules};
use crate::trust::TrustState;

/// Why a grant opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not a grant.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Nobody who may sign has signed it.
    #[error("the grant is signed by no key of a current admin: see qb admin list")]
    Unsigned,
    /// For another site.
    #[error("the grant is for another site")]
    OtherSite,
    /// For another cluster than the one asked for.
    #[error("the grant is for another cluster: sign one for this one, see qb cluster list")]
    OtherCluster,
    /// The cluster is not there.
    #[error("there is no cluster {0}: see qb cluster list")]
    NoCluster(Name),
    /// For something else than what is asked for.
    #[error("the grant is for something else: it opens one thing only")]
    Target,
    /// The class of key may not.
    #[error(
        "a key of class browser opens no cluster: sign with a key of `qb`, qb key list shows those of this computer"
    )]
    KeyClass,
    /// Signed later than now.
    #[error("the grant begins {ahead_ms} ms from now: set the clock of the computer that signed it")]
    Early {
        /// How far ahead of the judge's clock.
        ahead_ms: u64,
    },
    /// Over.
    #[error("the grant ended {ago_ms} ms ago: sign a new one; if this stays, compare the clocks")]
    Expired {
        /// How long ago by the judge's clock.
        ago_ms: u64,
    },
    /// Used before.
    #[error("the grant was used before: each opens one thing once, sign a new one")]
    Used,
    /// Too many were used lately.
    #[error("{0} used as many grants as are remembered: try again in a few minutes")]
    Full(Name),
}

impl GrantError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Document(_) => "malformed",
            Self::Unsigned => "unsigned",
            Self::OtherSite => "other_site",
            Self::OtherCluster => "other_cluster",
            Self::NoCluster(_) => "no_cluster",
            Self::Target => "target",
            Self::KeyClass => "key_class",
            Self::Early { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::Used => "used",
            Self::Full(_) => "busy",
        }
    }
}

/// What a grant is judged against.
pub struct GrantContext<'a> {
    /// This site.
    pub site: SiteId,
    /// Who may do what.
    pub trust: &'a TrustState,
    /// The cluster that is asked for.
    pub cluster: &'a Name,
    /// Whether that cluster is there.
    pub exists: bool,
    /// The judge's clock.
    pub now: Millis,
}

/// A grant that stands. Only [`judge_grant`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    admin: Name,
    role: Role,
    class: KeyClass,
    cluster: Name,
    grant: Grant,
    digest: Digest,
}

impl Granted {
    /// Who is let in.
    pub fn admin(&self) -> &Name {
        &self.admin
    }

    /// What they may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The key that signed.
    pub fn key(&self) -> PublicKey {
        self.grant.admin_key
    }

    /// To which cluster.
    pub fn cluster(&self) -> &Name {
        &self.cluster
    }

    /// What it opens.
    pub fn target(&self) -> GrantTarget {
        self.grant.target
    }

    /// The X25519 key that the client must prove inside the tunnel.
    pub fn client_key(&self) -> [u8; 32] {
        self.grant.client_key.0
    }

    /// The grant's digest: what the audit names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether what it opened may stay open: the key is still this admin's and of this class, the role
    /// is the same, the cluster is there. The grant's own end does not count: it bounds the opening.
    pub fn still_stands(&self, trust: &TrustState, now: Millis, exists: bool) -> bool {
        let who = trust.signatory(&self.grant.admin_key, now);
        exists && who.is_some_and(|w| w.admin == self.admin && w.role == self.role && w.class == self.class)
    }
}

/// Judges a grant's envelope, but for its single use: [`UsedGrants::take`] is next. In this order:
/// form, signature by a current admin's key, site, cluster, key class, times.
///
/// # Errors
/// The first thing that does not stand.
pub fn judge_grant(ctx: &GrantContext<'_>, envelope: &[u8]) -> Result<Granted, GrantError> {
    let claimed = claimed_key(envelope)?;
    let who = ctx.trust.signatory(&claimed, ctx.now).ok_or(GrantError::Unsigned)?;
    let (grant, digest) = match open::<Grant>(envelope, KeyKind::of(who.class), &claimed) {
        Err(DocumentError::Unsigned(_)) => return Err(GrantError::Unsigned),
        opened => opened?,
    };
    if grant.site != ctx.site {
        return Err(GrantError::OtherSite);
    }
    match &grant.scope {
        GrantScope::Cluster(cluster) if cluster == ctx.cluster => {}
        GrantScope::Cluster(_) | GrantScope::Node(_) => return Err(GrantError::OtherCluster),
    }
    if grant.target == GrantTarget::AgentPortal {
        return Err(GrantError::Target);
    }
    if !ctx.exists {
        return Err(GrantError::NoCluster(ctx.cluster.clone()));
    }
    if who.class == KeyClass::Browser {
        return Err(GrantError::KeyClass);
    }
    let ahead_ms = grant.issued_ms.since(ctx.now);
    if ahead_ms > GRANT_AHEAD_MS {
        return Err(GrantError::Early { ahead_ms });
    }
    if ctx.now >= grant.expires_ms {
        return Err(GrantError::Expired { ago_ms: ctx.now.since(grant.expires_ms) });
    }
    let (admin, role, class) = (who.admin, who.role, who.class);
    Ok(Granted { admin, role, class, cluster: ctx.cluster.clone(), grant, digest })
}

/// Which key a grant says that it is signed by. Nothing is verified yet.
fn claimed_key(bytes: &[u8]) -> Result<PublicKey, GrantError> {
    let envelope = Envelope::parse(bytes).map_err(DocumentError::from)?;
    if envelope.purpose() != Purpose::Grant {
        return Err(DocumentError::Purpose(envelope.purpose()).into());
    }
    let rules = Rules { max_bytes: crate::limits::PAYLOAD_BYTES, null: false };
    let grant: Grant = strict::parse(envelope.payload(), rules, "the grant").map_err(DocumentError::from)?;
    grant.check().map_err(DocumentError::from)?;
    Ok(grant.admin_key)
}

/// The grants that were used: each is remembered until it would have ended anyway. Bounded, and never
/// forgets one that is live: who fills it waits.
#[derive(Debug, Default)]
pub struct UsedGrants {
    live: BTreeMap<Nonce16, (Millis, Name)>,
}

impl UsedGrants {
    /// Uses a grant up.
    ///
    /// # Errors
    /// It was used before, or too many are remembered.
    pub fn take(&mut self, granted: &Granted, now: Millis) -> Result<(), GrantError> {
        self.live.retain(|_, (end, _)| *end > now);
        let grant = &granted.grant;
        if self.live.contains_key(&grant.nonce) {
            return Err(GrantError::Used);
        }
        let own = self.live.values().filter(|(_, admin)| *admin == granted.admin).count();
        if own >= GRANTS_USED_ADMIN || self.live.len() >= GRANTS_USED {
            return Err(GrantError::Full(granted.admin.clone()));
        }
        self.live.insert(grant.nonce, (grant.expires_ms, granted.admin.clone()));
        Ok(())
    }
}

/// What came of a grant at the node where it was used: what stands in the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRecord {
    /// Whose grant.
    pub admin: Name,
    /// The key that signed it.
    pub key: PublicKey,
    /// To which cluster.
    pub cluster: Name,
    /// Digest of the grant.
    pub grant: Digest,
    /// What happened.
    pub what: Access,
}

/// What happened with a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// A tunnel to the API server was opened.
    Opened {
        /// When, by the node's clock.
        at: Millis,
    },
    /// A tunnel was closed.
    Closed {
        /// When it was opened.
        opened: Millis,
        /// When it was closed.
        closed: Millis,
        /// Bytes towards the API server.
        up: u64,
        /// Bytes from it.
        down: u64,
        /// Whether the node cut it: the admin, the key or the cluster was no longer what it was.
        cut: bool,
    },
    /// A client certificate was signed.
    Certificate {
        /// When.
        at: Millis,
        /// When it ends.
        expires: Millis,
    },
}

impl fmt::Display for AccessRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (admin, cluster) = (&self.admin, &self.cluster);
        match &self.what {
            Access::Opened { .. } => write!(f, "{admin} opened a tunnel to {cluster}"),
            Access::Closed { opened, closed, up, down, cut } => {
                let how = if *cut { "was cut off from" } else { "closed a tunnel to" };
                let s = closed.since(*opened) / 1_000;
                write!(f, "{admin} {how} {cluster} after {s} s, {up} bytes up, {down} down")
            }
            Access::Certificate { .. } => write!(f, "{admin} was given a certificate for {cluster}"),
        }
    }
}
