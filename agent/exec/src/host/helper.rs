//! The helper: `qb-exec host FILE`. Reads one piece of work, does it, writes what became of it. It takes
//! nothing else from anybody.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qb_drivers::RelPath;
use qb_drivers::host_step::HostAction;
use qb_model::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::order::{HostFailure, HostOrder, HostResult, Lane, ORDER_BYTES, Reported, Work};
use super::place::CURRENT;
use super::redact::Redactor;
use super::run::HostPrograms;
use super::tell::Tell;
use super::{Host, backup, bindings, keep, leaver, network};
use crate::dir::Dir;
use crate::exec::cluster_dir;
use crate::progress::StepError;
use crate::supervisor::Systemd;

/// Letters of base64 in a hidden file that are a secret of their own: a line of PEM has 64.
const SECRET_RUN: usize = 40;

/// Why the helper does nothing.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The file is not one that the executor wrote.
    #[error("{0} is not an order of this machine's executor: {1}; nobody runs this by hand")]
    Order(PathBuf, String),
    /// What became of it cannot be written.
    #[error("the result cannot be written: {0}; check the disk")]
    Result(#[source] io::Error),
}

/// Does the work in a file and writes the result beside it. Returns when it is written, whatever it is.
///
/// # Errors
/// The file is no order, or there is no result.
pub fn host(file: &Path) -> Result<(), HelperError> {
    let wrong = |why: &str| HelperError::Order(file.to_owned(), why.to_owned());
    let (lane, folder) = lane(file).ok_or_else(|| wrong("it has another name"))?;
    let dir = Dir::open(folder).map_err(|e| wrong(&e.to_string()))?;
    let bytes = read(&dir, lane).map_err(|e| wrong(&e.to_string()))?;
    let order: HostOrder = serde_json::from_slice(&bytes).map_err(|e| wrong(&e.to_string()))?;
    let mark = Digest(Sha256::digest(&bytes).into());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HelperError::Result)?;
    let root = folder.parent().ok_or_else(|| wrong("it lies nowhere"))?;
    let ended = runtime.block_on(async {
        let host = open(root, folder, lane, &order)?;
        carry_out(&host, &order.work).await
    });
    let ended = ended.map_err(|e| HostFailure { text: e.text, remedy: e.remedy });
    if let Err(failure) = &ended {
        eprintln!("{}; {}", failure.text, failure.remedy);
    }
    let bytes = serde_json::to_vec(&HostResult { mark, ended }).map_err(|e| HelperError::Result(e.into()))?;
    let at: RelPath = lane.result().parse().map_err(|e| HelperError::Result(io::Error::other(e)))?;
    dir.write(&at, &bytes, 0o600).map_err(HelperError::Result)
}

fn lane(file: &Path) -> Option<(Lane, &Path)> {
    let name = file.file_name()?.to_str()?;
    let lane = Lane::ALL.into_iter().find(|lane| lane.file() == name)?;
    Some((lane, file.parent()?))
}

/// The order's bytes: of a file that only its owner, who runs this, can write or read.
fn read(dir: &Dir, lane: Lane) -> io::Result<Vec<u8>> {
    let at: RelPath = lane.file().parse().map_err(io::Error::other)?;
    let file = dir.file(&at)?.ok_or(io::ErrorKind::NotFound)?;
    let meta = file.metadata()?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o777 != 0o600 {
        return Err(io::Error::other("others may write or read it"));
    }
    dir.read(&at, ORDER_BYTES)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn open(root: &Path, folder: &Path, lane: Lane, order: &HostOrder) -> Result<Host, StepError> {
    let error = |e: io::Error| StepError::disk("the cluster's directory", &e);
    if order.v != 1 {
        return Err(StepError::new("the order is of another version", "the step is tried again"));
    }
    let at = cluster_dir(&order.cluster).map_err(StepError::damaged)?;
    let dir = Dir::open(root).and_then(|root| root.sub(&at)).map_err(error)?;
    let tell = Tell::into(folder.join(lane.told()));
    let programs = HostPrograms {
        root: PathBuf::from("/"),
        bin: dir.path().join(CURRENT).join("bin"),
        cwd: dir.path().to_owned(),
        redactor: Arc::new(redactor(&dir, &order.hidden)),
        tell: tell.clone(),
    };
    Ok(Host {
        cluster: order.cluster.clone(),
        root: Dir::open(Path::new("/")).map_err(error)?,
        programs: Box::new(programs),
        units: Box::new(Systemd::new(PathBuf::new())),
        dir,
        tell,
    })
}

/// One that knows what is in the files that nobody may be shown: every long run of base64 in them.
fn redactor(dir: &Dir, hidden: &[RelPath]) -> Redactor {
    let inside = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
    let mut values = Vec::new();
    for path in hidden {
        // One that is not there yet, or no longer, hides nothing.
        let bytes = zeroize::Zeroizing::new(dir.read(path, ORDER_BYTES).ok().flatten().unwrap_or_default());
        let runs = bytes.split(|b| !inside(b)).filter(|run| run.len() >= SECRET_RUN);
        values.extend(runs.map(|run| String::from_utf8_lossy(run).into_owned().into()));
    }
    Redactor::new(values)
}

pub(super) async fn carry_out(host: &Host, work: &Work) -> Result<Reported, StepError> {
    if is_so(host, work).await? {
        return Ok(Reported::Already);
    }
    bring_about(host, work).await?;
    if is_once(work) || is_so(host, work).await? {
        return Ok(Reported::Done);
    }
    Err(StepError::new(
        "it was done, but the check afterwards fails",
        "run the order again; if it stays, `qb doctor`",
    ))
}

/// Work that leaves nothing to look at.
fn is_once(work: &Work) -> bool {
    matches!(
        work,
        Work::Restore
            | Work::Peers(_)
            | Work::Keep(_)
            | Work::Step(HostAction::Sync | HostAction::Compare | HostAction::CheckBackup { .. })
    )
}

async fn is_so(host: &Host, work: &Work) -> Result<bool, StepError> {
    match work {
        Work::Step(action) => super::check(host, action).await,
        // What is so already is left alone by it.
        Work::Restore | Work::Peers(_) | Work::Keep(_) => Ok(false),
        Work::Release(leaver) => leaver::is_out(host, leaver).await,
        Work::Bindings(admins) => bindings::are_kept(host, admins).await,
        Work::Backup(wanted) => backup::is_taken(host, wanted),
    }
}

async fn bring_about(host: &Host, work: &Work) -> Result<(), StepError> {
    match work {
        Work::Step(action) => super::apply(host, action).await,
        Work::Restore => network::restore(host).await,
        Work::Peers(peers) => network::set_peers(host, peers).await,
        Work::Release(leaver) => leaver::take_out(host, leaver).await,
        Work::Bindings(admins) => bindings::keep(host, admins).await,
        Work::Backup(wanted) => backup::take(host, wanted).await,
        Work::Keep(things) => keep::keep(host, things).await,
    }
}
