//! The stand-ins: small processes on the ports of Kubernetes, which the rehearsal runs in its
//! place. They label themselves in every answer.
//!
//! The agent's executable starts them as `qb-agent stand-in api-server|node-service --config FILE
//! --parent PID`, in the cluster's directory. They die with the thread that started them.

mod api_server;
pub(crate) mod identity;
mod node_service;
pub(crate) mod registry;
mod tls_listener;
pub(crate) mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use qb_drivers::config::CONFIG_VERSION;
use qb_drivers::{PathError, RelPath};
use rustix::process::{DumpableBehavior, Signal};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

pub(crate) use identity::{Identity, read_status};

use crate::dir::Dir;
use crate::pki::PkiError;
use crate::probe::bind_tcp;

/// Bytes of any file that a stand-in reads.
pub(crate) const FILE_BYTES: u64 = 1 << 20;
/// How long a port may stay taken by a process of an earlier life that is just ending.
const BIND_LIMIT: Duration = Duration::from_secs(5);
const BIND_PAUSE: Duration = Duration::from_millis(50);

/// Why a stand-in ended.
#[derive(Debug, thiserror::Error)]
pub enum StandInError {
    /// Wrong arguments.
    #[error("usage: stand-in api-server|node-service --config FILE --parent PID (the agent starts it)")]
    Usage,
    /// The process that started it is gone.
    #[error("the agent that started this process is gone")]
    Orphan,
    /// A file cannot be read, written or understood.
    #[error("{path}: {source}; give the order again, which writes it anew")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A port cannot be bound.
    #[error("{address} cannot be bound: {source}; `ss -lntup` on this machine shows who has it")]
    Bind {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("certificates: {0}; give the order again")]
    Pki(#[from] PkiError),
    /// The system refuses something.
    #[error("the system refuses: {0}")]
    Io(#[from] io::Error),
    /// A constant path is not one.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Runs a stand-in until it is asked to end. `args` follow the word `stand-in`.
///
/// # Errors
/// Wrong arguments, a missing file or a taken port.
pub fn main(args: &[String]) -> Result<(), StandInError> {
    let [name, config_flag, config, parent_flag, parent] = args else {
        return Err(StandInError::Usage);
    };
    if config_flag != "--config" || parent_flag != "--parent" {
        return Err(StandInError::Usage);
    }
    let parent: i32 = parent.parse().map_err(|_| StandInError::Usage)?;
    let config: RelPath = config.parse()?;
    die_with(parent)?;
    let dir = Dir::open(Path::new("."))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            ended = start(name, &dir, &config) => ended,
            _ = terminate.recv() => Ok(()),
        }
    };
    let result = runtime.block_on(run);
    // What is on its way is worth nothing without this process.
    runtime.shutdown_background();
    result
}

async fn start(name: &str, dir: &Dir, config: &RelPath) -> Result<(), StandInError> {
    match name {
        "api-server" => api_server::run(dir, read(dir, config)?).await,
        "node-service" => node_service::run(dir, read(dir, config)?).await,
        _ => Err(StandInError::Usage),
    }
}

/// Ends this process when the thread that started it ends, also if that happened just now.
fn die_with(parent: i32) -> Result<(), StandInError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return Err(StandInError::Orphan);
    }
    // Keys are in memory: no core file, no reading by others of the same user.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)?;
    Ok(())
}

/// Reads a JSON file of version 1.
fn read<T: DeserializeOwned>(dir: &Dir, at: &RelPath) -> Result<T, StandInError> {
    let bytes = read_bytes(dir, at)?;
    let file = |source| StandInError::File { path: at.to_string(), source };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| file(e.into()))?;
    if value.get("v").and_then(serde_json::Value::as_u64) != Some(u64::from(CONFIG_VERSION)) {
        return Err(file(io::Error::other("not of version 1")));
    }
    serde_json::from_value(value).map_err(|e| file(e.into()))
}

fn read_bytes(dir: &Dir, at: &RelPath) -> Result<Vec<u8>, StandInError> {
    let read = dir.read(at, FILE_BYTES).and_then(|bytes| bytes.ok_or(io::ErrorKind::NotFound.into()));
    read.map_err(|source| StandInError::File { path: at.to_string(), source })
}

fn address(text: &str) -> Result<SocketAddr, StandInError> {
    text.parse().map_err(|e| StandInError::Bind { address: text.to_owned(), source: io::Error::other(e) })
}

/// Binds a TCP port, with patience for one that is just being given up.
async fn listen(at: SocketAddr) -> Result<TcpListener, StandInError> {
    patiently(at, || std::future::ready(bind_tcp(at))).await
}

async fn patiently<T, F: Future<Output = io::Result<T>>>(
    at: SocketAddr,
    bind: impl Fn() -> F,
) -> Result<T, StandInError> {
    let give_up = Instant::now() + BIND_LIMIT;
    loop {
        match bind().await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                sleep(BIND_PAUSE).await;
            }
            result => {
                return result.map_err(|source| StandInError::Bind { address: at.to_string(), source });
            }
        }
    }
}
