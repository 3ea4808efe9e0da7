//! A seat: a Raft id bound to one storage on one node, and the Raft core that runs on it.
//!
//! On disk: `seat` names the id and the storage and is written last; `log-<storage>` is the log. A
//! seat whose log is gone or damaged is lost for good: its id must never meet an empty log. So the highest id that
//! this node ever took stands beside the directory, where it outlives it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use openraft::{Config, SnapshotPolicy};
use qb_model::RaftId;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::failover::Suspicion;
use crate::limits::{KEEP_ENTRIES, PURGE_SLICE, SNAPSHOT_ENTRIES};
use crate::log::disk::{RealDisk, install_file, sync_dir};
use crate::log::{LogError, LogStore};
use crate::network::Network;
use crate::server::Assembly;
use crate::state::MachineStore;
use crate::types::{Metrics, Raft};
use crate::wire::{StoreUuid, WireMember, decode, encode};

const MARKER: &str = "seat";
/// Ending of the file beside the directory that has the highest seat that was taken: ids only rise.
const TAKEN: &str = "seat-taken";

/// Why a seat cannot be taken or opened.
#[derive(Debug, thiserror::Error)]
pub enum SeatError {
    /// The disk failed.
    #[error("cannot {what} the seat: {source}; check the disk")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The marker cannot be read.
    #[error("seat marker is damaged: {0}; the seat is lost: ask for a new one")]
    Marker(String),
    /// The seat belongs to another site or epoch.
    #[error("seat belongs to another site or epoch; move {0} aside")]
    OtherSite(PathBuf),
    /// This node took it before, and has lost it.
    #[error("this node held seat {0} before, and its log is gone: it votes again under a new seat")]
    Used(RaftId),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The Raft core does not start on what is stored.
    #[error("raft does not start: {0}")]
    Raft(String),
}

impl SeatError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// Whether the seat is lost: the node must give it up and ask for a new one.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Marker(_) => true,
            Self::Log(error) => !matches!(error, LogError::Io { .. }),
            _ => false,
        }
    }
}

/// What the marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) seat: u64,
    pub(crate) store: StoreUuid,
    tag: [u8; 32],
}

impl Marker {
    /// The marker in `dir`, if this node holds a seat.
    pub(crate) fn load(dir: &Path, tag: &[u8; 32]) -> Result<Option<Self>, SeatError> {
        let bytes = match fs::read(dir.join(MARKER)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(SeatError::io("read"))?,
        };
        let marker: Self = decode(&bytes).map_err(|e| SeatError::Marker(e.to_string()))?;
        if marker.tag != *tag {
            return Err(SeatError::OtherSite(dir.to_owned()));
        }
        Ok(Some(marker))
    }

    /// Makes an empty log on a new storage, then the marker. A seat that was taken before is refused: whoever
    /// voted under its id may have forgotten it.
    pub(crate) fn create(dir: &Path, seat: u64, tag: [u8; 32]) -> Result<Self, SeatError> {
        if taken(dir, &tag)?.is_some_and(|highest| highest >= seat) {
            return Err(SeatError::Used(RaftId(seat)));
        }
        note_taken(dir, seat, &tag)?;
        let mut store = [0; 16];
        getrandom::fill(&mut store)
            .map_err(|e| SeatError::Io { what: "draw a storage id for", source: io::Error::other(e) })?;
        let marker = Self { seat, store, tag };
        let disk = RealDisk::new(marker.log_dir(dir)).map_err(SeatError::io("create"))?;
        LogStore::create(&disk, store)?;
        let bytes = encode(&marker);
        install_file(dir, MARKER, |mut file| file.write_all(&bytes)).map_err(SeatError::io("create"))?;
        Ok(marker)
    }

    /// Notes the seat as taken, where it was taken before that was noted.
    pub(crate) fn note(&self, dir: &Path) -> Result<(), SeatError> {
        if taken(dir, &self.tag)?.is_some_and(|highest| highest >= self.seat) {
            return Ok(());
        }
        note_taken(dir, self.seat, &self.tag)
    }

    fn log_dir(&self, dir: &Path) -> PathBuf {
        dir.join(format!("log-{}", hex(&self.store)))
    }
}

/// The folder and the name of the file that outlives `dir`.
fn beside(dir: &Path) -> (PathBuf, String) {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    (parent.unwrap_or(Path::new(".")).to_owned(), format!("{name}.{TAKEN}"))
}

/// The highest seat that this machine ever took of the site with this tag.
fn taken(dir: &Path, tag: &[u8; 32]) -> Result<Option<u64>, SeatError> {
    let (parent, name) = beside(dir);
    let text = match fs::read_to_string(parent.join(&name)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(SeatError::io("read what was noted of"))?,
    };
    let (seat, of) = text.trim().split_once(' ').unwrap_or_default();
    if of.len() == hex(tag).len() && of != hex(tag) {
        // Numbers of another site say nothing here.
        return Ok(None);
    }
    // Installed whole or not at all: what is in it otherwise is nobody's number, and every seat is refused.
    Ok(Some(seat.parse().unwrap_or(u64::MAX)))
}

fn note_taken(dir: &Path, seat: u64, tag: &[u8; 32]) -> Result<(), SeatError> {
    let (parent, name) = beside(dir);
    let written = install_file(&parent, &name, |mut file| writeln!(file, "{seat} {}", hex(tag)));
    written.map(drop).map_err(SeatError::io("note"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Gives up the seat in `dir`: its marker is moved aside and its log kept for inspection. The node
/// follows from then on, and takes part in votes again only with a new Raft id.
pub fn give_up_seat(dir: &Path) -> Result<(), SeatError> {
    match fs::rename(dir.join(MARKER), dir.join("seat-given-up")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.and_then(|()| sync_dir(dir)).map_err(SeatError::io("give up")),
    }
}

/// A running seat.
pub(crate) struct Seat {
    pub(crate) context: Arc<Context>,
    pub(crate) marker: Marker,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) assembly: Mutex<Option<Assembly>>,
    pub(crate) suspicion: Mutex<Suspicion>,
    /// Ends the tasks that belong to this seat.
    pub(crate) cancel: CancellationToken,
}

impl Seat {
    /// Opens the log and starts the Raft core.
    pub(crate) async fn open(context: Arc<Context>, marker: Marker) -> Result<Self, SeatError> {
        let dir = marker.log_dir(&context.dir);
        if !dir.exists() {
            return Err(LogError::Missing.into());
        }
        let disk = Arc::new(RealDisk::new(dir).map_err(SeatError::io("open"))?);
        let log = tokio::task::spawn_blocking(move || LogStore::open(disk, marker.store))
            .await
            .map_err(|e| SeatError::Raft(e.to_string()))??;
        let config = Arc::new(config(&context)?);
        let network = Network { context: context.clone(), seat: marker.seat };
        let machine = MachineStore::new(context.state.clone(), Some(log.clone()));
        let started = Raft::new(marker.seat, config, network, log.clone(), machine).await;
        let raft = match started {
            Ok(raft) => raft,
            Err(error) => {
                log.close().await;
                return Err(SeatError::Raft(error.to_string()));
            }
        };
        Ok(Self {
            context,
            marker,
            raft,
            log,
            assembly: Mutex::new(None),
            suspicion: Mutex::default(),
            cancel: CancellationToken::new(),
        })
    }

    /// This node as a member.
    pub(crate) fn member(&self) -> WireMember {
        WireMember { node: self.context.me.0, store: self.marker.store }
    }

    /// Founds the group with this node alone. Done already is done.
    pub(crate) async fn found(&self) -> Result<(), String> {
        use openraft::errors::{InitializeError, RaftError};
        let members = BTreeMap::from([(self.marker.seat, self.member())]);
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The library's metrics, now.
    pub(crate) fn metrics(&self) -> Metrics {
        use openraft::async_runtime::WatchReceiver;
        self.raft.metrics().borrow_watched().clone()
    }

    /// Ends the core and the log, in this order: what was accepted is written.
    pub(crate) async fn stop(&self) {
        self.cancel.cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft core did not end cleanly");
        }
        self.log.close().await;
    }
}

fn config(context: &Context) -> Result<Config, SeatError> {
    let millis = |d: std::time::Duration| d.as_millis() as u64;
    let election_max = millis(context.timing.election_max);
    let config = Config {
        cluster_name: "qb".into(),
        heartbeat_interval: millis(context.timing.heartbeat),
        election_timeout_min: millis(context.timing.election_min),
        election_timeout_max: election_max,
        install_snapshot_timeout: millis(crate::limits::INSTALL_DEADLINE),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: KEEP_ENTRIES,
        purge_batch_size: PURGE_SLICE,
        backoff: "20ms 40ms ...100ms".into(),
        // A node that cannot win must not raise the term.
        enable_pre_vote: Some(true),
        // A leader that comes back asks for votes like everybody: others may have moved on.
        enable_leader_restore: Some(false),
        // A leader that nobody answers falls silent, so that the others can elect.
        quorum_loss_probe_interval: Some(2 * election_max),
        broadcast_submitted_on_append: Some(true),
        ..Config::default()
    };
    config.validate().map_err(|e| SeatError::Raft(e.to_string()))
}
