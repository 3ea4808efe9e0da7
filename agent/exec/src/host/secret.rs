//! Puts an opened join secret where kubeadm looks for its parts, and takes away what a join needed once.

use qb_drivers::RelPath;
use secrecy::ExposeSecret as _;

use super::Host;
use super::kubeadm::has_joined;
use super::ours::Ours;
use super::place::clean;
use crate::join::kube::{FILES, KubeSecret};
use crate::progress::StepError;

/// Where the files of a cluster's identity lie.
const PKI: &str = "etc/kubernetes/pki";
/// Bytes of an opened secret.
const SECRET_BYTES: u64 = 64 * 1024;

fn read(host: &Host, at: &RelPath) -> Result<Option<KubeSecret>, StepError> {
    let bytes =
        host.dir.read(at, SECRET_BYTES).map_err(|e| StepError::disk(at, &e))?.map(zeroize::Zeroizing::new);
    bytes.map(|bytes| KubeSecret::decode(&bytes).ok_or_else(|| StepError::damaged(at))).transpose()
}

pub(super) fn is_placed(host: &Host, secret: &RelPath, discovery: &RelPath) -> Result<bool, StepError> {
    let Some(opened) = read(host, secret)? else { return has_joined(host) };
    let found = host.dir.read(discovery, SECRET_BYTES).map_err(|e| StepError::disk(discovery, &e))?;
    let kubeconfig = opened.kubeconfig()?;
    if found.is_none_or(|found| found != kubeconfig.expose_secret().as_bytes()) {
        return Ok(false);
    }
    let ours = Ours::open(&host.dir, &host.root)?;
    for (file, content) in opened.files() {
        if !ours.is(
            &clean(&format!("{PKI}/{}", file.path))?,
            content.expose_secret().as_bytes(),
            file.mode,
        )? {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn place(host: &Host, secret: &RelPath, discovery: &RelPath) -> Result<(), StepError> {
    let opened = read(host, secret)?.ok_or_else(|| StepError::damaged(secret))?;
    let mut ours = Ours::open(&host.dir, &host.root)?;
    for (file, content) in opened.files() {
        let at = clean(&format!("{PKI}/{}", file.path))?;
        ours.write(&at, content.expose_secret().as_bytes(), file.mode)?;
    }
    if let Some((above, _)) = discovery.as_str().rsplit_once('/') {
        host.dir.make_dirs(&clean(above)?).map_err(|e| StepError::disk(discovery, &e))?;
    }
    let kubeconfig = opened.kubeconfig()?;
    // Last: what is there can be used.
    host.dir
        .write(discovery, kubeconfig.expose_secret().as_bytes(), 0o600)
        .map_err(|e| StepError::disk(discovery, &e))
}

pub(super) fn is_dropped(host: &Host, paths: &[RelPath]) -> Result<bool, StepError> {
    for path in paths {
        if host.dir.mode(path).map_err(|e| StepError::disk(path, &e))?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn drop_all(host: &Host, paths: &[RelPath]) -> Result<(), StepError> {
    paths.iter().try_for_each(|path| host.dir.remove(path).map_err(|e| StepError::disk(path, &e)))
}

/// How many files there are: the compiler asks when one is forgotten.
const _: () = assert!(FILES.len() == 8);
