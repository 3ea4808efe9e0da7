//! Which site this machine is of. Where the executor is a process of its own, nobody's word is taken:
//! an enrolment file that only root can write says it, once, and it is written down.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use qb_drivers::RelPath;
use qb_model::enrolment::{Enrolment, EnrolmentError};
use qb_model::ids::SiteId;
use qb_model::limits::ENROLMENT_BYTES;
use qb_model::words::words;
use serde::{Deserialize, Serialize};

use crate::dir::Dir;

/// Bytes of the file: a version and a digest.
const FILE_BYTES: u64 = 1024;
const FILE: &str = "site.json";

/// From where the executor knows its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteSource {
    /// From the agent in whose process it runs.
    Told(SiteId),
    /// From the first of these enrolment files that is there.
    Enrolled(Vec<PathBuf>),
}

/// Why no order of any site is taken.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// There is no enrolment file.
    #[error(
        "this machine is enrolled in no site: there is no enrolment file at {0}; get it from your site's administrator and put it at the first of these places"
    )]
    Missing(String),
    /// It cannot be read.
    #[error("the enrolment file {path} cannot be read: {source}; check owner and disk")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody besides root can write it.
    #[error(
        "the enrolment file {path} can be written by others than root: chown root {path}; chmod 0644 {path}"
    )]
    Writable {
        /// Which.
        path: PathBuf,
    },
    /// It is not one.
    #[error("the enrolment file {path} is not valid: {why}; get it again from your site's administrator")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: EnrolmentError,
    },
    /// It is of another site than the one that this machine is bound to.
    #[error(
        "this machine is bound to site {} ({}), the enrolment file {path} is of site {} ({}): put the file of the first one back; if the machine is to change sites, detach it from its clusters, then remove site.json and floor.json from the executor's directory and restart qb-exec",
        sites.0, spoken(sites.0), sites.1, spoken(sites.1)
    )]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The site that it is bound to, and the file's.
        sites: Box<(SiteId, SiteId)>,
    },
    /// What was written down cannot be used.
    #[error(
        "{FILE} in the executor's directory cannot be {0}: {1}; check the disk, then restart the executor"
    )]
    Kept(&'static str, #[source] io::Error),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u16,
    site: SiteId,
}

/// The site, as it is known.
#[derive(Debug)]
pub(crate) struct Binding {
    source: SiteSource,
    /// What was written down, since it was read.
    held: Mutex<Option<SiteId>>,
}

impl Binding {
    /// A binding from a source. What cannot be read yet is told when it is asked for.
    pub(crate) fn open(source: &SiteSource, root: &Dir) -> Self {
        let held = match source {
            SiteSource::Told(_) => None,
            SiteSource::Enrolled(_) => stored(root).ok().flatten(),
        };
        Self { source: source.clone(), held: Mutex::new(held) }
    }

    /// The site; at its first use it is written down. The file is looked at each time: one that was put
    /// there meanwhile counts, and one of another site is told.
    pub(crate) fn get(&self, root: &Dir) -> Result<SiteId, SiteError> {
        let files = match &self.source {
            SiteSource::Told(site) => return Ok(*site),
            SiteSource::Enrolled(files) => files,
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = stored(root)?;
        }
        let read = enrolled(files);
        match (*held, read) {
            (Some(held), Ok((path, got))) if got != held => {
                Err(SiteError::Foreign { path, sites: Box::new((held, got)) })
            }
            // It is known already: the file is not needed for that any more.
            (Some(held), Ok(_) | Err(SiteError::Missing(_))) => Ok(held),
            (Some(held), Err(error)) => {
                tracing::warn!("{error}; this machine stays bound to its site");
                Ok(held)
            }
            (None, Err(error)) => Err(error),
            (None, Ok((path, got))) => {
                let bytes = serde_json::to_vec(&Stored { v: 1, site: got });
                let kept = bytes.map_err(io::Error::from).and_then(|b| root.write(&at(), &b, 0o644));
                kept.map_err(|e| SiteError::Kept("written", e))?;
                tracing::info!(file = %path.display(), "this machine is bound to site {got} ({})", spoken(got));
                *held = Some(got);
                Ok(got)
            }
        }
    }
}

fn at() -> RelPath {
    FILE.parse().expect("a constant clean path")
}

fn stored(root: &Dir) -> Result<Option<SiteId>, SiteError> {
    let bytes = root.read(&at(), FILE_BYTES).map_err(|e| SiteError::Kept("read", e))?;
    let read = |bytes: Vec<u8>| serde_json::from_slice::<Stored>(&bytes);
    let stored = bytes.map(read).transpose();
    Ok(stored.map_err(|e| SiteError::Kept("understood", e.into()))?.map(|stored| stored.site))
}

fn spoken(site: SiteId) -> String {
    words(&site.0.0).join(" ")
}

fn enrolled(files: &[PathBuf]) -> Result<(PathBuf, SiteId), SiteError> {
    for path in files {
        match read(path) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                let enrolment = Enrolment::parse(&bytes);
                let why = |why| SiteError::Malformed { path: path.clone(), why };
                return Ok((path.clone(), enrolment.map_err(why)?.site));
            }
            Err(error) => return Err(error),
        }
    }
    let tried: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    Err(SiteError::Missing(tried.join(", ")))
}

/// The file's bytes, if it is there and nobody but root, or the user that runs this, can write it.
fn read(path: &Path) -> Result<Option<Vec<u8>>, SiteError> {
    let error = |source| SiteError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e)),
    };
    let meta = file.metadata().map_err(error)?;
    let own = rustix::process::geteuid().as_raw();
    if (meta.uid() != 0 && meta.uid() != own) || meta.mode() & 0o022 != 0 {
        return Err(SiteError::Writable { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(ENROLMENT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(error)?;
    Ok(Some(bytes))
}
