//! The agent's side of the socket: an executor that is a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qb_model::board::Upkeep;
use qb_model::ids::{Name, Version};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::bindings::BindingsRequest;
use crate::bundle::parts;
use crate::exec::ClusterNode;
use crate::join::MintRequest;
use crate::keep::KeepRequest;
use crate::limits::{ANSWER_BYTES, ANSWER_LIMIT, FRAME_LIMIT, PART_BYTES, REQUEST_BYTES, SILENCE};
use crate::people::{Credential, CredentialRequest};
use crate::progress::{StageDone, StageError, StepProgress};
use crate::release::{Peers, ReleaseRequest};
use crate::seal::SealedSecret;
use crate::supervisor::UnitHealth;
use crate::upkeep::BackupRequest;
use crate::versions::{Upgrade, VersionsView};
use crate::wire::{self, About, Answer, Order, Part, Request, WireError};

/// Why an executor did not answer, or not as asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answers at its socket.
    #[error(
        "the executor does not answer at {path}: {source}; `systemctl status qb-exec` on this machine shows why"
    )]
    Away {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: WireError,
    },
    /// The connection ended before the answer.
    #[error("the executor: {0}; it is asked again, `systemctl status qb-exec` on this machine shows more")]
    Wire(#[from] WireError),
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// The stage stopped.
    #[error(transparent)]
    Stopped(StageError),
}

/// A handle to an executor at a socket. Each question has a connection of its own, so that an executor
/// that was started again is found by the next one.
#[derive(Debug, Clone)]
pub struct RemoteExec {
    socket: PathBuf,
}

impl RemoteExec {
    /// The executor at a socket. Nothing is asked yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who it is.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn about(&self) -> Result<About, RemoteError> {
        match self.question(Request::About).await? {
            Answer::About(about) => Ok(*about),
            other => Err(unexpected(other)),
        }
    }

    /// Carries out an order. Dropping the future gives it up.
    ///
    /// # Errors
    /// It does not answer, refuses the order, or the stage stopped.
    pub async fn carry_out(
        &self,
        mut order: Order,
        bundle: Option<Arc<File>>,
        progress: &watch::Sender<Vec<StepProgress>>,
    ) -> Result<StageDone, RemoteError> {
        order.bundle = bundle.as_deref().map(size).transpose()?;
        let mut stream = self.connect().await?;
        wire::send(&mut stream, &Request::CarryOut(Box::new(order)), REQUEST_BYTES).await?;
        loop {
            match wire::receive(&mut stream, ANSWER_BYTES, SILENCE).await? {
                Answer::Send => give(&mut stream, bundle.as_ref().ok_or(WireError::Form)?).await?,
                Answer::Progress(steps) => {
                    progress.send_if_modified(|shown| {
                        let news = *shown != steps;
                        *shown = steps;
                        news
                    });
                }
                Answer::Done(done) => return Ok(done),
                Answer::Stopped(error) => return Err(RemoteError::Stopped(error)),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Takes another node out of a cluster. Dropping the future gives it up.
    ///
    /// # Errors
    /// It does not answer, refuses, or did not succeed.
    pub async fn release(
        &self,
        request: ReleaseRequest,
        progress: &watch::Sender<Vec<StepProgress>>,
    ) -> Result<(), RemoteError> {
        let mut stream = self.connect().await?;
        wire::send(&mut stream, &Request::Release(Box::new(request)), REQUEST_BYTES).await?;
        loop {
            match wire::receive(&mut stream, ANSWER_BYTES, SILENCE).await? {
                Answer::Progress(steps) => {
                    progress.send_replace(steps);
                }
                Answer::Well => return Ok(()),
                Answer::Stopped(error) => return Err(RemoteError::Stopped(error)),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Tells who the members of a cluster are now.
    ///
    /// # Errors
    /// It does not answer, or does not take this for members.
    pub async fn peers(&self, peers: Peers) -> Result<(), RemoteError> {
        match self.question(Request::Peers(Box::new(peers))).await? {
            Answer::Well => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Keeps the role bindings of admins in a cluster. Dropping the future gives it up.
    ///
    /// # Errors
    /// It does not answer, refuses, or did not succeed.
    pub async fn keep_bindings(&self, request: BindingsRequest) -> Result<(), RemoteError> {
        self.until_well(Request::Bindings(Box::new(request))).await
    }

    /// Keeps labels, taints and add-ons in a cluster. Dropping the future gives it up.
    ///
    /// # Errors
    /// It does not answer, refuses, or did not succeed.
    pub async fn keep(&self, request: KeepRequest) -> Result<(), RemoteError> {
        self.until_well(Request::Keep(Box::new(request))).await
    }

    /// Takes a backup. Dropping the future gives it up.
    ///
    /// # Errors
    /// It does not answer, or did not succeed.
    pub async fn back_up(&self, request: BackupRequest) -> Result<(), RemoteError> {
        let mut stream = self.connect().await?;
        wire::send(&mut stream, &Request::BackUp(Box::new(request)), REQUEST_BYTES).await?;
        loop {
            match wire::receive(&mut stream, ANSWER_BYTES, SILENCE).await? {
                Answer::Progress(_) => {}
                Answer::Well => return Ok(()),
                Answer::Stopped(error) => return Err(RemoteError::Stopped(error)),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// How it stands with what the node does by itself for a cluster; none if it is no control plane node.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn upkeep(&self, cluster: &Name) -> Result<Option<Upkeep>, RemoteError> {
        match self.question(Request::Upkeep(cluster.clone())).await? {
            Answer::Upkeep(found) => Ok(found.map(|found| *found)),
            other => Err(unexpected(other)),
        }
    }

    /// Makes a join secret.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn mint_join(&self, request: MintRequest) -> Result<SealedSecret, RemoteError> {
        match self.question(Request::Mint(Box::new(request))).await? {
            Answer::Sealed(sealed) => Ok(*sealed),
            other => Err(unexpected(other)),
        }
    }

    /// Signs a client certificate.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn certify(&self, request: CredentialRequest) -> Result<Credential, RemoteError> {
        match self.question(Request::Certify(Box::new(request))).await? {
            Answer::Certificate(credential) => Ok(*credential),
            other => Err(unexpected(other)),
        }
    }

    /// The units of a cluster on this machine.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn health(&self, cluster: &Name) -> Result<Vec<UnitHealth>, RemoteError> {
        match self.question(Request::Health(cluster.clone())).await? {
            Answer::Health(units) => Ok(units),
            other => Err(unexpected(other)),
        }
    }

    /// Who joined a cluster, as its API server says.
    ///
    /// # Errors
    /// It does not answer, or the API server does not.
    pub async fn nodes(&self, cluster: &Name) -> Result<Vec<ClusterNode>, RemoteError> {
        match self.question(Request::Nodes(cluster.clone())).await? {
            Answer::Nodes(nodes) => nodes.map_err(RemoteError::Refused),
            other => Err(unexpected(other)),
        }
    }

    /// How it stands with versions of qb's programs.
    ///
    /// # Errors
    /// It does not answer, or swaps none.
    pub async fn versions(&self) -> Result<VersionsView, RemoteError> {
        versions(self.question(Request::Versions).await?)
    }

    /// Says that the agent of this version is well.
    ///
    /// # Errors
    /// It does not answer, or does not take this for the agent on trial.
    pub async fn confirm(&self, version: Version) -> Result<VersionsView, RemoteError> {
        versions(self.question(Request::Confirm(version)).await?)
    }

    /// Brings in another version. When this returns it is on trial, or was before.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn upgrade(&self, mut asked: Upgrade, bundle: Arc<File>) -> Result<VersionsView, RemoteError> {
        asked.bundle = size(&bundle)?;
        let mut stream = self.connect().await?;
        wire::send(&mut stream, &Request::Upgrade(Box::new(asked)), REQUEST_BYTES).await?;
        loop {
            match wire::receive(&mut stream, ANSWER_BYTES, ANSWER_LIMIT).await? {
                Answer::Send => give(&mut stream, &bundle).await?,
                answer => return versions(answer),
            }
        }
    }

    /// Asks for something whose progress nobody shows.
    async fn until_well(&self, request: Request) -> Result<(), RemoteError> {
        let mut stream = self.connect().await?;
        wire::send(&mut stream, &request, REQUEST_BYTES).await?;
        loop {
            match wire::receive(&mut stream, ANSWER_BYTES, SILENCE).await? {
                Answer::Progress(_) => {}
                Answer::Well => return Ok(()),
                Answer::Stopped(error) => return Err(RemoteError::Stopped(error)),
                other => return Err(unexpected(other)),
            }
        }
    }

    async fn question(&self, request: Request) -> Result<Answer, RemoteError> {
        let mut stream = self.connect().await?;
        wire::send(&mut stream, &request, REQUEST_BYTES).await?;
        Ok(wire::receive(&mut stream, ANSWER_BYTES, ANSWER_LIMIT).await?)
    }

    /// A connection on which both have greeted. Only root, or the user of this very process, may be at
    /// the other end.
    async fn connect(&self) -> Result<UnixStream, RemoteError> {
        let away = |source| RemoteError::Away { path: self.socket.clone(), source };
        let connect = timeout(FRAME_LIMIT, UnixStream::connect(&self.socket)).await;
        let late = |_: tokio::time::error::Elapsed| away(late(FRAME_LIMIT));
        let mut stream = connect.map_err(late)?.map_err(|e| away(e.into()))?;
        let peer = stream.peer_cred().map_err(|e| away(e.into()))?.uid();
        if peer != 0 && peer != rustix::process::geteuid().as_raw() {
            return Err(away(WireError::Peer(peer)));
        }
        wire::greet(&mut stream).await.map_err(away)?;
        Ok(stream)
    }
}

/// Sends a bundle from its file, a part at a time.
async fn give(stream: &mut UnixStream, bundle: &Arc<File>) -> Result<(), WireError> {
    let mut next = parts(bundle, PART_BYTES);
    loop {
        let read = move || next().map(|part| (part, next));
        let (part, later) = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
        if part.is_empty() {
            return Ok(());
        }
        next = later;
        match wire::send(stream, &Part(part), PART_BYTES + 16).await {
            // It has heard enough: what it said before it closed can still be read.
            Err(WireError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            sent => sent?,
        }
    }
}

fn size(file: &File) -> Result<u64, WireError> {
    Ok(file.metadata()?.len())
}

fn versions(answer: Answer) -> Result<VersionsView, RemoteError> {
    match answer {
        Answer::Versions(view) => Ok(*view),
        other => Err(unexpected(other)),
    }
}

fn late(limit: Duration) -> WireError {
    WireError::Late(limit)
}

fn unexpected(answer: Answer) -> RemoteError {
    match answer {
        Answer::Refused(why) => RemoteError::Refused(why),
        _ => RemoteError::Wire(WireError::Form),
    }
}
