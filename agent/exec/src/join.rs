//! What a node needs to be let into a cluster: made on the control plane node that holds the
//! registry, sealed to the one node that may use it, once, for a quarter of an hour.

pub(crate) mod kube;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use qb_drivers::RelPath;
use qb_drivers::config::ApiServerConfig;
use qb_model::action::NodeRole;
use qb_model::assignment::{Assignment, Grounds, KUBEADM, Member, Stage};
use qb_model::ids::{Generation, Millis, Name, NodeId, SealKey, SiteId};
use qb_model::statement::{SealKeyRecord, SignedBytes};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::clock;
use crate::dir::Dir;
use crate::errors::OrderError;
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
/// The epoch that a join secret is bound to. A site's epoch rises with a document that recovers it,
/// which its trust log holds; no such document is taken yet, so every verified log proves this one. It
/// is nobody's word.
pub(crate) const EPOCH: u64 = 0;
/// How long a join secret lives.
pub const JOIN_LIFE_MS: u64 = 15 * 60_000;
/// Bytes of an offer or a configuration.
const FILE_BYTES: u64 = 1 << 20;

/// Why no join secret was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// This node does not hold the cluster's registry, or the authority of a real one.
    #[error("this node does not hold the registry of {0}: ask its first control plane node")]
    NotHere(Name),
    /// The order of the recipient does not stand.
    #[error("the order of the one who joins: {0}")]
    Order(#[from] OrderError),
    /// It is not one to join here, or the key is not the recipient's.
    #[error("no join secret is made: {0}")]
    Refused(&'static str),
    /// A newer order of the recipient had its secret here before.
    #[error("the order to join has generation {got}, one of generation {floor} had its secret before")]
    Older {
        /// Of the order.
        got: Generation,
        /// The newest that had one.
        floor: Generation,
    },
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

/// For whom a join secret is asked: nothing of it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintRequest {
    /// The recipient's own order to join.
    pub order: Assignment,
    /// What it rests on.
    pub grounds: Grounds,
    /// The recipient's [`SealKeyRecord`], signed by itself.
    pub seal: SignedBytes,
}

/// For whom a join secret is made: what was verified of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub(crate) site: SiteId,
    pub(crate) cluster: Name,
    /// Whether the cluster is a real one: then any control plane node lets members in.
    pub(crate) real: bool,
    /// Generation of the member's join assignment.
    pub(crate) generation: Generation,
    pub(crate) member: Member,
    pub(crate) seal_key: SealKey,
    /// That record's number.
    pub(crate) seal_seq: u64,
}

impl Recipient {
    /// From a verified order and the recipient's signed record, for this node.
    pub(crate) fn of(order: &Assignment, me: NodeId, seal: &SignedBytes) -> Result<Self, MintError> {
        if order.stage != Stage::Join || order.node == me {
            return Err(MintError::Refused("its order is not one to join"));
        }
        let real = order.driver.as_str() == KUBEADM;
        let rules = |m: &Member| m.node == me && m.role == NodeRole::ControlPlane;
        let here = if real { order.members.iter().any(rules) } else { order.first == me };
        if !here {
            return Err(MintError::NotHere(order.cluster.clone()));
        }
        let member = order.member().ok_or(MintError::Refused("it is not among the members"))?.clone();
        let record = seal
            .open::<SealKeyRecord>()
            .map_err(|_| MintError::Refused("its seal key record is not valid"))?
            .into_value();
        if record.node != order.node || record.site != order.site {
            return Err(MintError::Refused("the seal key record is another node's"));
        }
        if record.not_after <= clock::now() {
            return Err(MintError::Refused("its seal key has ended: restart its agent"));
        }
        let (seal_key, seal_seq) = (record.key, record.seq);
        let (site, cluster, generation) = (order.site, order.cluster.clone(), order.generation);
        Ok(Self { site, cluster, real, generation, member, seal_key, seal_seq })
    }
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
pub(crate) fn mint(inner: &Inner, request: &Recipient) -> Result<SealedSecret, MintError> {
    let not_here = || MintError::NotHere(request.cluster.clone());
    let at = cluster_dir(&request.cluster).map_err(StepError::damaged)?;
    let dir = inner.root.sub(&at).map_err(|_| not_here())?;
    if request.real {
        return mint_kube(inner, &dir, Path::new(kube::PKI), request);
    }
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
    not_older(&dir, request)?;
    let credential = write_offer(&dir, &path("data/offers")?, request.member.node)?;
    let plain = Plain { v: 1, credential: (*credential.0).clone(), authority, serving };
    let bytes =
        postcard::to_stdvec(&plain).map(Zeroizing::new).map_err(|_| StepError::damaged("the join secret"))?;
    Ok(seal::seal(context(inner, request)?, &request.seal_key, &bytes)?)
}

/// The same for a real cluster: on any node on which kubeadm came to its end for it, with the identity
/// that it left there.
pub(crate) fn mint_kube(
    inner: &Inner,
    dir: &Dir,
    pki: &Path,
    request: &Recipient,
) -> Result<SealedSecret, MintError> {
    let not_here = || MintError::NotHere(request.cluster.clone());
    let mut ended = false;
    for name in crate::host::ENDED {
        ended |= dir.mode(&path(name)?).map_err(|e| StepError::disk(name, &e))?.is_some();
    }
    if !ended {
        return Err(not_here());
    }
    let secret = kube::make(pki, request)?.ok_or_else(not_here)?;
    dir.make_dirs(&path("data")?).map_err(|e| StepError::disk("data", &e))?;
    not_older(dir, request)?;
    Ok(seal::seal(context(inner, request)?, &request.seal_key, &secret.encode()?)?)
}

/// Keeps the newest order of each recipient: an older one of a member that has left gets nothing.
fn not_older(dir: &Dir, request: &Recipient) -> Result<(), MintError> {
    let at = path("data/minted.json")?;
    let error = |e: io::Error| StepError::disk(&at, &e);
    let mut newest: BTreeMap<NodeId, Generation> = match dir.read(&at, FILE_BYTES).map_err(error)? {
        None => BTreeMap::new(),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| StepError::damaged(&at))?,
    };
    let got = request.generation;
    match newest.insert(request.member.node, got) {
        Some(floor) if floor > got => Err(MintError::Older { got, floor }),
        Some(floor) if floor == got => Ok(()),
        _ => {
            let bytes = serde_json::to_vec(&newest).map_err(|e| error(e.into()))?;
            Ok(dir.write(&at, &bytes, 0o600).map_err(error)?)
        }
    }
}

fn serving(dir: &Dir, request: &Recipient) -> Result<(String, String), MintError> {
    let address: IpAddr =
        request.member.address.parse().map_err(|_| MintError::Address(request.member.host.to_string()))?;
    let at = path("pki/ca.key")?;
    let key = read_key(dir, &at)?.ok_or_else(|| StepError::damaged(&at))?;
    let pair = pki::serving(&authority_name(&request.cluster), &key, address)
        .map_err(|e| StepError::new(e.to_string(), "the order is tried again"))?;
    Ok((pair.key.expose_secret().to_owned(), pair.certificate))
}

fn context(inner: &Inner, request: &Recipient) -> Result<SealContext, StepError> {
    Ok(SealContext {
        site: request.site,
        epoch: EPOCH,
        purpose: PURPOSE.parse().map_err(StepError::damaged)?,
        cluster: request.cluster.clone(),
        generation: request.generation,
        sender: inner.node().ok_or_else(|| StepError::damaged("the executor's floor"))?,
        recipient: request.member.node,
        seal_seq: request.seal_seq,
        expires_ms: Millis(clock::now().0).plus(JOIN_LIFE_MS),
    })
}

pub(crate) fn path(text: &str) -> Result<RelPath, StepError> {
    text.parse().map_err(|e: qb_drivers::PathError| {
        StepError::damaged(format!("{} ({e})", Path::new(text).display()))
    })
}
