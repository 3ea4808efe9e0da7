//! A client certificate for a cluster: made when it is needed, kept until five minutes before its end.

use std::path::PathBuf;

use qb_link::tunnel::TunnelAnswer;
use qb_model::document::GrantTarget;
use qb_model::{Digest, Millis, Name, PublicKey};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::tunnel;
use crate::ctx::{Ctx, Here, Session};
use crate::error::CliError;
use crate::files;
use crate::out::text::now;

/// A certificate that ends sooner is made anew, in milliseconds: kubectl may use it for a while.
const FRESH_MS: u64 = 5 * 60_000;
/// Longest file of a credential in bytes: a key, a certificate, an authority.
const MAX: u64 = 128 * 1024;

/// A key with its certificate, and whom it is good for. Erased when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// 1.
    pub v: u8,
    /// The key, PEM. A secret.
    pub key: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The cluster's authority, PEM.
    pub authority: String,
    /// When the certificate ends, ms since 1970.
    pub expires_ms: u64,
    /// The admin's key that it was made with.
    pub by: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// Where a credential of a cluster is kept.
pub fn place(ctx: &Ctx, here: &Here, cluster: &Name, key: &Name) -> PathBuf {
    ctx.paths.runtime().join(format!("credential-{}-{cluster}-{key}.json", here.config.id))
}

/// The credential that is kept, if it is good for a while.
///
/// # Errors
/// Others can read its file.
pub fn kept(ctx: &Ctx, here: &Here, cluster: &Name) -> Result<Option<Credential>, CliError> {
    let path = place(ctx, here, cluster, &ctx.key_name(here)?);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let bytes = files::read_private(&path, MAX)?;
    let read: Option<Credential> = serde_json::from_slice(&bytes).ok();
    // What cannot be read is made anew: it is no more than a cache.
    Ok(read.filter(|c| c.v == 1 && Millis(c.expires_ms) > now().plus(FRESH_MS)))
}

/// Makes a key, has it certified, and keeps both.
///
/// # Errors
/// The site does not certify it, or it cannot be kept.
pub async fn make(session: &mut Session<'_>, cluster: &Name) -> Result<Credential, CliError> {
    let failed = |e: rcgen::Error| CliError::failed(format!("No key could be made: {e}."));
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    // Name and groups are the site's to say.
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(failed)?.der().to_vec();
    let target = GrantTarget::Certificate(Digest(Sha256::digest(&request).into()));
    let opened = tunnel::open(session, cluster, target, request).await?;
    let TunnelAnswer::Certificate(given) = opened.answer else {
        return Err(CliError::failed("The node opened a tunnel where it was asked for a certificate."));
    };
    let by: PublicKey = session.key()?.public;
    let credential = Credential {
        v: 1,
        key: key.serialize_pem(),
        certificate: given.certificate,
        authority: given.authority,
        expires_ms: given.expires_ms,
        by: by.to_string(),
    };
    let path = place(session.ctx, &session.here, cluster, &session.ctx.key_name(&session.here)?);
    let mut bytes =
        serde_json::to_vec(&credential).map_err(|e| CliError::failed(format!("Cannot write JSON: {e}.")))?;
    let written = files::write(&path, &bytes, 0o600, false);
    bytes.zeroize();
    written.map(|()| credential)
}

/// The credential that is kept, else a new one.
///
/// # Errors
/// As of [`kept`] and [`make`].
pub async fn get(session: &mut Session<'_>, cluster: &Name) -> Result<Credential, CliError> {
    match kept(session.ctx, &session.here, cluster)? {
        Some(credential) => Ok(credential),
        None => make(session, cluster).await,
    }
}
