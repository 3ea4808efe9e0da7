//! Steps that make keys and certificates.

use std::net::IpAddr;

use qb_drivers::{RelPath, TlsFiles};
use qb_model::ids::Name;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::dir::Dir;
use crate::pki;
use crate::progress::StepError;
use crate::stage::Context;

/// Bytes of a key or certificate file.
const PEM_BYTES: u64 = 64 * 1024;

/// What the authority of a cluster is called.
pub(crate) fn authority_name(cluster: &Name) -> String {
    format!("{cluster} (rehearsal)")
}

/// Reads a private key.
pub(crate) fn read_key(dir: &Dir, at: &RelPath) -> Result<Option<SecretString>, StepError> {
    let bytes = dir.read(at, PEM_BYTES).map_err(|e| StepError::disk(at, &e))?.map(Zeroizing::new);
    Ok(bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok().map(SecretString::from)))
}

/// Reads a certificate.
pub(crate) fn read_certificate(dir: &Dir, at: &RelPath) -> Result<Option<Vec<u8>>, StepError> {
    dir.read(at, PEM_BYTES).map_err(|e| StepError::disk(at, &e))
}

/// Writes a key with mode 0600, then its certificate: a certificate on disk always has its key.
pub(crate) fn write_pair(
    dir: &Dir,
    at: &TlsFiles,
    key: &SecretString,
    certificate: &str,
) -> Result<(), StepError> {
    dir.write(&at.key, key.expose_secret().as_bytes(), 0o600).map_err(|e| StepError::disk(&at.key, &e))?;
    dir.write(&at.certificate, certificate.as_bytes(), 0o644)
        .map_err(|e| StepError::disk(&at.certificate, &e))
}

pub(super) fn has_authority(context: &Context, at: &TlsFiles) -> Result<bool, StepError> {
    let key = read_key(&context.dir, &at.key)?;
    let certificate = read_certificate(&context.dir, &at.certificate)?;
    Ok(key.is_some() && certificate.is_some_and(|pem| pki::is_authority(&pem)))
}

pub(super) fn make_authority(context: &Context, name: &str, at: &TlsFiles) -> Result<(), StepError> {
    // A key without a certificate is what a crash left: nothing was issued by it yet.
    let key = pki::new_key().map_err(failed)?;
    let certificate = pki::authority(name, &key).map_err(failed)?;
    context.dir.remove(&at.certificate).map_err(|e| StepError::disk(&at.certificate, &e))?;
    write_pair(&context.dir, at, &key, &certificate)
}

pub(super) fn has_serving(
    context: &Context,
    authority: &TlsFiles,
    serving: &TlsFiles,
    address: &str,
) -> Result<bool, StepError> {
    let key = read_key(&context.dir, &serving.key)?;
    let certificate = read_certificate(&context.dir, &serving.certificate)?;
    let authority = read_certificate(&context.dir, &authority.certificate)?;
    let (Some(key), Some(certificate), Some(authority)) = (key, certificate, authority) else {
        return Ok(false);
    };
    let fits = pki::server(&certificate, key.expose_secret().as_bytes()).is_ok();
    Ok(fits && pki::is_valid(&certificate, &authority, parse(address)?))
}

pub(super) fn issue_serving(
    context: &Context,
    authority: &TlsFiles,
    serving: &TlsFiles,
    address: &str,
) -> Result<(), StepError> {
    let key = read_key(&context.dir, &authority.key)?.ok_or_else(|| StepError::damaged(&authority.key))?;
    let name = authority_name(&context.order.cluster);
    let pair = pki::serving(&name, &key, parse(address)?).map_err(failed)?;
    write_pair(&context.dir, serving, &pair.key, &pair.certificate)
}

fn parse(address: &str) -> Result<IpAddr, StepError> {
    address.parse().map_err(|_| StepError::damaged(address))
}

fn failed(error: pki::PkiError) -> StepError {
    StepError::new(error.to_string(), "run the order again; if it stays, `qb support bundle`")
}
