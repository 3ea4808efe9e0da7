//! What a node needs to be let into a cluster: made on the control plane node that holds the
//! registry, sealed to the one node that may use it, once, for a quarter of an hour.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use qb_drivers::RelPath;
use qb_drivers::config::ApiServerConfig;
use qb_model::action::NodeRole;
use qb_model::assignment::Member;
use qb_model::ids::{Generation, Millis, Name, NodeId, SealKey, SiteId};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::clock;
use crate::dir::Dir;
use crate::exec::{Inner, cluster_dir};
use crate::pki;
use crate::progress::StepError;
use crate::seal::{self, SealContext, SealError, SealedSecret};
use crate::standin::identity::{credential_digest, random_credential};
use crate::standin::registry::offer_path;
use crate::standin::wire::{Bootstrap, Offer};
use crate::steps::certificates::{authority_name, read_certificate, read_key};

/// What a join secret is for, in its context.
pub const PURPOSE: &str = "join";
/// How long a join secret lives.
pub const JOIN_LIFE_MS: u64 = 15 * 60_000;
/// Bytes of an offer or a configuration.
const FILE_BYTES: u64 = 1 << 20;

/// Why no join secret was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// This node does not hold the cluster's registry.
    #[error("this node does not hold the registry of {0}: ask its first control plane node")]
    NotHere(Name),
    /// The member's address is not an IP address.
    #[error("{0} has no IP address: set `address` in its agent's configuration")]
    Address(String),
    /// Something in the cluster's directory is not as it should be.
    #[error("{text}; {remedy}")]
    Step {
        /// What failed.
        text: String,
        /// What to do.
        remedy: String,
    },
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<StepError> for MintError {
    fn from(error: StepError) -> Self {
        Self::Step { text: error.text, remedy: error.remedy }
    }
}

/// For whom a join secret is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintRequest {
    /// The site.
    pub site: SiteId,
    /// Its epoch.
    pub epoch: u64,
    /// The cluster.
    pub cluster: Name,
    /// Generation of the member's join assignment.
    pub generation: Generation,
    /// Who joins.
    pub member: Member,
    /// Its seal key, from its signed record in the state, never from gossip.
    pub seal_key: SealKey,
    /// That record's number.
    pub seal_seq: u64,
}

/// The secret itself. It cannot be printed, and is erased when dropped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Plain {
    v: u16,
    credential: String,
    authority: String,
    /// Key and certificate of a control plane node's API server.
    serving: Option<(String, String)>,
}

/// A join secret as it was opened.
pub(crate) struct JoinSecret {
    plain: Plain,
    key: Option<SecretString>,
}

impl JoinSecret {
    /// Reads what was sealed; none if it is of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let plain: Plain = postcard::from_bytes(bytes).ok()?;
        let key = plain.serving.as_ref().map(|(key, _)| SecretString::from(key.as_str()));
        (plain.v == 1).then_some(Self { plain, key })
    }

    /// The authority's certificate, PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.plain.authority
    }

    /// Key and certificate of the API server.
    pub(crate) fn serving(&self) -> Option<(&SecretString, &str)> {
        Some((self.key.as_ref()?, self.plain.serving.as_ref()?.1.as_str()))
    }

    /// The credential that works once.
    pub(crate) fn bootstrap(&self) -> BootstrapCredential {
        BootstrapCredential(Zeroizing::new(self.plain.credential.clone()))
    }
}

/// A credential that works once.
pub(crate) struct BootstrapCredential(Zeroizing<String>);

impl fmt::Debug for BootstrapCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BootstrapCredential")
    }
}

impl BootstrapCredential {
    /// Writes it for the node service, with mode 0600.
    pub(crate) fn write(&self, dir: &Dir, at: &RelPath) -> Result<(), StepError> {
        let mut file = Bootstrap { v: 1, credential: (*self.0).clone() };
        let bytes = serde_json::to_vec(&file).map(Zeroizing::new);
        file.credential.zeroize();
        let written = bytes.map_err(io::Error::from).and_then(|bytes| dir.write(at, &bytes, 0o600));
        written.map_err(|e| StepError::disk(at, &e))
    }
}

/// Makes a credential for a node and offers it at the API server here. An earlier offer to the same
/// node ends; others that have expired are cleared away.
pub(crate) fn write_offer(
    dir: &Dir,
    offers: &RelPath,
    node: NodeId,
) -> Result<BootstrapCredential, StepError> {
    let error = |e: io::Error| StepError::disk(offers, &e);
    let folder = dir.sub(offers).map_err(error)?;
    clear_expired(&folder).map_err(error)?;
    let credential = Zeroizing::new(random_credential().map_err(error)?);
    let offer = Offer {
        v: 1,
        node,
        credential: credential_digest(&credential),
        expires_ms: clock::now().plus(JOIN_LIFE_MS),
    };
    let at = offer_path(node).map_err(StepError::damaged)?;
    let name = at
        .parts()
        .last()
        .unwrap_or_default()
        .parse()
        .map_err(|e: qb_drivers::PathError| StepError::damaged(e))?;
    let bytes = serde_json::to_vec(&offer).map_err(|e| error(e.into()))?;
    folder.write(&name, &bytes, 0o600).map_err(error)?;
    Ok(BootstrapCredential(credential))
}

fn clear_expired(offers: &Dir) -> io::Result<()> {
    let now = clock::now();
    for name in offers.names()? {
        let bytes = offers.read(&name, FILE_BYTES)?.unwrap_or_default();
        let live = serde_json::from_slice::<Offer>(&bytes).is_ok_and(|offer| offer.expires_ms > now);
        if !live {
            offers.remove(&name)?;
        }
    }
    Ok(())
}

/// Makes and seals a join secret. Touches the disk: not for an async thread.
pub(crate) fn mint(inner: &Inner, request: &MintRequest) -> Result<SealedSecret, MintError> {
    let not_here = || MintError::NotHere(request.cluster.clone());
    let at = cluster_dir(&request.cluster).map_err(StepError::damaged)?;
    let dir = inner.root.sub(&at).map_err(|_| not_here())?;
    let config =
        dir.read(&path("config/api-server.json")?, FILE_BYTES).ok().flatten().ok_or_else(not_here)?;
    let config: ApiServerConfig = serde_json::from_slice(&config).map_err(|_| not_here())?;
    if !config.first.is_empty() {
        return Err(not_here());
    }
    let certificate = path("pki/ca.crt")?;
    let authority = read_certificate(&dir, &certificate)?.ok_or_else(|| StepError::damaged(&certificate))?;
    let authority = String::from_utf8(authority).map_err(|_| StepError::damaged(&certificate))?;
    let serving = match request.member.role {
        NodeRole::Worker => None,
        NodeRole::ControlPlane => Some(serving(&dir, request)?),
    };
    let credential = write_offer(&dir, &path("data/offers")?, request.member.node)?;
    let plain = Plain { v: 1, credential: (*credential.0).clone(), authority, serving };
    let bytes =
        postcard::to_stdvec(&plain).map(Zeroizing::new).map_err(|_| StepError::damaged("the join secret"))?;
    Ok(seal::seal(context(inner, request)?, &request.seal_key, &bytes)?)
}

fn serving(dir: &Dir, request: &MintRequest) -> Result<(String, String), MintError> {
    let address: IpAddr =
        request.member.address.parse().map_err(|_| MintError::Address(request.member.host.to_string()))?;
    let at = path("pki/ca.key")?;
    let key = read_key(dir, &at)?.ok_or_else(|| StepError::damaged(&at))?;
    let pair = pki::serving(&authority_name(&request.cluster), &key, address)
        .map_err(|e| StepError::new(e.to_string(), "the order is tried again"))?;
    Ok((pair.key.expose_secret().to_owned(), pair.certificate))
}

fn context(inner: &Inner, request: &MintRequest) -> Result<SealContext, StepError> {
    Ok(SealContext {
        site: request.site,
        epoch: request.epoch,
        purpose: PURPOSE.parse().map_err(StepError::damaged)?,
        cluster: request.cluster.clone(),
        generation: request.generation,
        sender: inner.config.node,
        recipient: request.member.node,
        seal_seq: request.seal_seq,
        expires_ms: Millis(clock::now().0).plus(JOIN_LIFE_MS),
    })
}

fn path(text: &str) -> Result<RelPath, StepError> {
    text.parse().map_err(|e: qb_drivers::PathError| {
        StepError::damaged(format!("{} ({e})", Path::new(text).display()))
    })
}
