//! The executor as the rest of the agent sees it: in this process (demo, tests, no root), or a root
//! process of its own at a socket. Both take the same things and believe none of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use qb_exec::{
    BackupRequest, BindingsRequest, Credential, CredentialRequest, Exec, ExecConfig, KeepRequest,
    MintRequest, Order, Peers, ReleaseRequest, RemoteError, RemoteExec, SealSecret, SealedSecret, SiteSource,
    StageDone, StageError, StepProgress, Supplies, UnitHealth, Units,
};
use qb_model::assignment::{Assignment, Grounds};
use qb_model::board::Upkeep;
use qb_model::{Name, SealKey};
use tokio::sync::watch;

use crate::identity::Identity;
use crate::knock::client::seal_record;
use crate::node::Node;

/// Pauses between two looks at the executor's socket: while nobody answers there, and else.
const LOOK: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));

/// What is known of the executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The key to which others seal for this node, since the executor told it.
    pub seal_key: Option<SealKey>,
    /// Why it can do nothing; empty while it can.
    pub waits: String,
}

/// The executor.
pub struct Executor {
    kind: Kind,
    link: watch::Sender<Link>,
}

enum Kind {
    /// In this process.
    Inside(Exec),
    /// A process of its own.
    Apart(RemoteExec),
}

impl Executor {
    /// The executor in this process, with this node's identity.
    pub async fn inside(node: &Node) -> Result<Self> {
        let secret = Identity::seal_secret(&node.config.state.join("identity"))?;
        let exec = Exec::open(ExecConfig {
            root: node.config.state.join("exec"),
            hold: node.config.hold.clone(),
            node: Some(node.id()),
            site: SiteSource::Told(node.enrolment.site),
            seal_secret: SealSecret::from_bytes(secret),
            stand_in: std::env::current_exe().context("cannot find this program's own file")?,
            units: Units::Children,
        })
        .await?;
        let seal_key = Some(exec.seal_key());
        let (link, _) = watch::channel(Link { seal_key, waits: String::new() });
        Ok(Self { kind: Kind::Inside(exec), link })
    }

    /// The executor at a socket, whether it answers yet or not.
    pub fn apart(socket: PathBuf) -> Self {
        let waits = format!("the executor at {} was not asked yet", socket.display());
        let (link, _) = watch::channel(Link { seal_key: None, waits });
        Self { kind: Kind::Apart(RemoteExec::new(socket)), link }
    }

    /// What is known of it, and what changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Carries out an order; every word of it is verified there. Ends early when the agent does.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn carry_out(
        &self,
        node: &Node,
        order: (Assignment, Grounds),
        supplies: Supplies,
        progress: watch::Sender<Vec<StepProgress>>,
    ) -> Result<StageDone, StageError> {
        let (assignment, grounds) = order;
        match &self.kind {
            Kind::Inside(exec) => {
                let verified = exec
                    .verify(node.id(), assignment, &grounds)
                    .map_err(|e| before("verify the order", e, "qb audit verify"))?;
                exec.run(verified, supplies, progress, &node.cancel).await
            }
            Kind::Apart(exec) => {
                let own = seal_record(node).ok_or_else(|| {
                    before("ask the executor", self.link.borrow().waits.clone(), "it is asked again")
                })?;
                let order = Order { assignment, grounds, own, join: supplies.join, bundle: None };
                tokio::select! {
                    done = exec.carry_out(order, supplies.bundle, &progress) => done.map_err(told),
                    () = node.cancel.cancelled() => Err(before("stop", "the agent ends", "it goes on by itself")),
                }
            }
        }
    }

    /// Takes another node out of this node's cluster; every word of it is verified there. Ends early when
    /// the agent does.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn release(
        &self,
        node: &Node,
        request: ReleaseRequest,
        progress: watch::Sender<Vec<StepProgress>>,
    ) -> Result<(), StageError> {
        match &self.kind {
            Kind::Inside(exec) => {
                let verified = exec
                    .verify_release(request)
                    .map_err(|e| before("verify the order", e, "qb audit verify"))?;
                exec.release(verified, progress, &node.cancel).await
            }
            Kind::Apart(exec) => tokio::select! {
                done = exec.release(request, &progress) => done.map_err(told),
                () = node.cancel.cancelled() => Err(before("stop", "the agent ends", "it goes on by itself")),
            },
        }
    }

    /// Tells who the members of this node's cluster are.
    ///
    /// # Errors
    /// Why it does not take that, or does not answer.
    pub async fn peers(&self, peers: Peers) -> Result<(), String> {
        match &self.kind {
            Kind::Inside(exec) => exec.peers(&peers),
            Kind::Apart(exec) => exec.peers(peers).await.map_err(|e| e.to_string()),
        }
    }

    /// Keeps the role bindings of admins in this node's cluster; who they are is verified there. Ends early
    /// when the agent does.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn keep_bindings(&self, node: &Node, request: BindingsRequest) -> Result<(), StageError> {
        match &self.kind {
            Kind::Inside(exec) => {
                let verified = exec
                    .verify_bindings(&request)
                    .map_err(|e| before("verify the admins", e, "qb audit verify"))?;
                exec.keep_bindings(verified, &node.cancel).await
            }
            Kind::Apart(exec) => tokio::select! {
                done = exec.keep_bindings(request) => done.map_err(told),
                () = node.cancel.cancelled() => Err(before("stop", "the agent ends", "it goes on by itself")),
            },
        }
    }

    /// Keeps labels, taints and add-ons in this node's cluster; that admins signed them is verified there. Ends early
    /// when the agent does.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn keep(&self, node: &Node, request: KeepRequest) -> Result<(), StageError> {
        match &self.kind {
            Kind::Inside(exec) => {
                let verified = exec
                    .verify_keep(&request)
                    .map_err(|e| before("verify the intents", e, "qb audit verify"))?;
                exec.keep(verified, &node.cancel).await
            }
            Kind::Apart(exec) => tokio::select! {
                done = exec.keep(request) => done.map_err(told),
                () = node.cancel.cancelled() => Err(before("stop", "the agent ends", "it goes on by itself")),
            },
        }
    }

    /// Makes a join secret.
    ///
    /// # Errors
    /// Why not.
    pub async fn mint_join(&self, request: MintRequest) -> Result<SealedSecret, String> {
        match &self.kind {
            Kind::Inside(exec) => exec.mint_join(request).await.map_err(|e| e.to_string()),
            Kind::Apart(exec) => exec.mint_join(request).await.map_err(|e| e.to_string()),
        }
    }

    /// Signs a client certificate.
    ///
    /// # Errors
    /// Why not.
    pub async fn certify(&self, request: CredentialRequest) -> Result<Credential, String> {
        match &self.kind {
            Kind::Inside(exec) => exec.certify(request).await.map_err(|e| e.to_string()),
            Kind::Apart(exec) => exec.certify(request).await.map_err(|e| e.to_string()),
        }
    }

    /// Takes a backup of this node's cluster. Ends early when the agent does.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn back_up(&self, node: &Node, request: BackupRequest) -> Result<(), StageError> {
        match &self.kind {
            Kind::Inside(exec) => exec.back_up(request, &node.cancel).await,
            Kind::Apart(exec) => tokio::select! {
                done = exec.back_up(request) => done.map_err(told),
                () = node.cancel.cancelled() => Err(before("stop", "the agent ends", "it goes on by itself")),
            },
        }
    }

    /// What this node does by itself for a cluster; none if it is no control plane node of it, or while
    /// nobody answers.
    pub async fn upkeep(&self, cluster: &Name) -> Option<Upkeep> {
        match &self.kind {
            Kind::Inside(exec) => exec.upkeep(cluster),
            Kind::Apart(exec) => exec.upkeep(cluster).await.unwrap_or_else(|error| {
                tracing::debug!("upkeep: {error}");
                None
            }),
        }
    }

    /// The units of a cluster on this node; none while nobody answers.
    pub async fn health(&self, cluster: &Name) -> Vec<UnitHealth> {
        match &self.kind {
            Kind::Inside(exec) => exec.health(cluster).await,
            Kind::Apart(exec) => exec.health(cluster).await.unwrap_or_else(|error| {
                tracing::debug!("units: {error}");
                Vec::new()
            }),
        }
    }

    /// The executor's handle, where it is a process of its own.
    pub fn remote(&self) -> Option<&RemoteExec> {
        match &self.kind {
            Kind::Inside(_) => None,
            Kind::Apart(remote) => Some(remote),
        }
    }

    /// Stops the units of an executor in this process. One that is a process of its own goes on.
    pub async fn close(&self) {
        if let Kind::Inside(exec) = &self.kind {
            exec.close().await;
        }
    }
}

fn before(title: &str, text: impl std::fmt::Display, remedy: &str) -> StageError {
    let (title, text, remedy) = (title.to_owned(), text.to_string(), remedy.to_owned());
    StageError { step: 0, title, text, remedy, returned: false }
}

fn told(error: RemoteError) -> StageError {
    match error {
        RemoteError::Stopped(error) => error,
        RemoteError::Refused(why) => before("verify the order", why, "nothing was changed: qb audit verify"),
        RemoteError::Away { .. } | RemoteError::Wire(_) => {
            before("ask the executor", error, "`systemctl status qb-exec` on this machine; it is asked again")
        }
    }
}

impl Node {
    /// The key to which others seal for this node, once its executor told it.
    pub fn seal_key(&self) -> Option<SealKey> {
        self.exec.get().and_then(|exec| exec.link.borrow().seal_key)
    }

    /// Waits until the executor told its key, however long that takes.
    pub async fn wait_seal_key(&self) {
        let Some(exec) = self.exec.get() else { return };
        let mut link = exec.link();
        if link.borrow().seal_key.is_none() {
            tracing::info!("waiting for the executor: this node is known by its key as well");
        }
        tokio::select! {
            // The sender lives as long as the node.
            _ = link.wait_for(|link| link.seal_key.is_some()) => {}
            () = self.cancel.cancelled() => {}
        }
    }
}

/// Looks at an executor that is a process of its own, for as long as the agent runs.
pub async fn watch(node: Arc<Node>) {
    let Some(exec) = node.exec.get() else { return };
    let Kind::Apart(remote) = &exec.kind else { return };
    loop {
        let seen = match remote.about().await {
            Ok(about) => {
                let waits = match about.site {
                    Ok(site) if site != node.enrolment.site => format!(
                        "the executor takes orders of site {site}, this agent is of {}: give both the same enrolment file",
                        node.enrolment.site
                    ),
                    Ok(_) => about.waits,
                    Err(why) => why,
                };
                Link { seal_key: Some(about.seal_key), waits }
            }
            Err(error) => Link { seal_key: node.seal_key(), waits: error.to_string() },
        };
        let pause = if seen.waits.is_empty() { LOOK.1 } else { LOOK.0 };
        exec.link.send_if_modified(|link| {
            let news = *link != seen;
            if news && seen.waits.is_empty() {
                tracing::info!(socket = %remote.socket().display(), "the executor answers");
            } else if news {
                tracing::warn!("{}", seen.waits);
            }
            *link = seen;
            news
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}
