//! The executor's side of the socket: every question is answered by [`Exec`], which verifies. A caller
//! that lies, stalls or floods ends its own connection.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use qb_drivers::bundle::{BundleError, HEAD_BYTES};
use qb_model::assignment::Assignment;
use qb_model::ids::{Digest, PublicKey};
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bindings::BindingsRequest;
use crate::bundle::{Bundle, Spool, TakeError};
use crate::exec::{Exec, Supplies};
use crate::keep::KeepRequest;
use crate::limits::{
    ALIVE, ANSWER_BYTES, BUNDLE_BYTES, BUNDLE_LIMIT, CONNECTIONS, FRAME_LIMIT, KEPT_TRIES, ORDERS,
    PART_BYTES, REQUEST_BYTES,
};
use crate::progress::StepProgress;
use crate::release::ReleaseRequest;
use crate::upkeep::BackupRequest;
use crate::versions::{Begun, Upgrade, Versions, VersionsView};
use crate::wire::{self, About, Answer, Order, Part, Request, WireError};

/// The server. Clones share everything.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    exec: Exec,
    /// Versions of qb's programs, where they can be swapped.
    versions: OnceLock<Versions>,
    /// The user that may ask, besides root.
    agent: u32,
    connections: Arc<Semaphore>,
    orders: Semaphore,
    /// A bundle whose order did not come to unpacking it: its next try needs it again.
    kept: Mutex<Option<Kept>>,
    stop: CancellationToken,
}

/// A bundle that was taken, verified, and not unpacked.
struct Kept {
    bundle: Bundle,
    tries: u32,
}

impl Server {
    /// A server for callers of one user, and root. `stop` ends it: an order in hand comes to its safe
    /// point.
    pub fn new(exec: Exec, agent: u32, stop: CancellationToken) -> Self {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let versions = OnceLock::new();
        let (orders, kept) = (Semaphore::new(ORDERS), Mutex::default());
        Self(Arc::new(Inner { exec, versions, agent, connections, orders, kept, stop }))
    }

    /// Takes orders to bring in other versions of qb's own programs, too.
    #[must_use]
    pub fn with_versions(self, versions: Versions) -> Self {
        // Set once: nothing else does.
        let _ = self.0.versions.set(versions);
        self
    }

    /// Answers until it is stopped; returns when nothing is in hand any more.
    ///
    /// # Errors
    /// The socket cannot be listened at any more.
    pub async fn run(&self, listener: &UnixListener) -> std::io::Result<()> {
        let tasks = TaskTracker::new();
        let ended = loop {
            // Taken before a connection is: further ones wait in the system's queue, unread.
            let permit = Arc::clone(&self.0.connections).acquire_owned();
            let next = async {
                let permit = permit.await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                next = next => next,
                () = self.0.stop.cancelled() => break Ok(()),
            };
            match accepted {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tasks.spawn(async move {
                        server.session(stream).await;
                        drop(permit);
                    });
                }
                // The caller is gone again, or descriptors are short: the next one may do better.
                Err(e) if matches!(e.kind(), std::io::ErrorKind::ConnectionAborted) => {}
                Err(e) => break Err(e),
            }
        };
        tasks.close();
        tasks.wait().await;
        ended
    }

    /// One connection, to its end.
    pub async fn session(&self, stream: UnixStream) {
        match self.answer(stream).await {
            // A caller that has what it wants, or has lost interest.
            Ok(()) | Err(WireError::Closed) => {}
            Err(error) => tracing::warn!("a caller at the socket: {error}"),
        }
    }

    async fn answer(&self, mut stream: UnixStream) -> Result<(), WireError> {
        let credentials = stream.peer_cred()?;
        let peer = credentials.uid();
        if peer != 0 && peer != self.0.agent {
            return Err(WireError::Peer(peer));
        }
        wire::greet(&mut stream).await?;
        let request: Request = wire::receive(&mut stream, REQUEST_BYTES, FRAME_LIMIT).await?;
        let exec = &self.0.exec;
        let answer = match request {
            Request::About => Answer::About(Box::new(self.about())),
            Request::CarryOut(order) => return self.carry_out(stream, *order).await,
            Request::Mint(request) => match exec.mint_join(*request).await {
                Ok(sealed) => Answer::Sealed(Box::new(sealed)),
                Err(error) => refused(&error),
            },
            Request::Certify(request) => match exec.certify(*request).await {
                Ok(credential) => Answer::Certificate(Box::new(credential)),
                Err(error) => refused(&error),
            },
            Request::Health(cluster) => Answer::Health(exec.health(&cluster).await),
            Request::Nodes(cluster) => Answer::Nodes(exec.nodes(&cluster).await),
            Request::Versions => match self.0.versions.get() {
                Some(versions) => known(versions.view()),
                None => Answer::Refused(NO_VERSIONS.to_owned()),
            },
            Request::Release(request) => return self.release(stream, *request).await,
            Request::Bindings(request) => return self.bindings(stream, *request).await,
            Request::BackUp(request) => return self.back_up(stream, *request).await,
            Request::Upkeep(cluster) => {
                let exec = exec.clone();
                let look = tokio::task::spawn_blocking(move || exec.upkeep(&cluster)).await;
                look.map_or_else(|e| refused(&e), |found| Answer::Upkeep(found.map(Box::new)))
            }
            Request::Keep(request) => return self.keep_inside(stream, *request).await,
            Request::Peers(peers) => match exec.peers(&peers) {
                Ok(()) => Answer::Well,
                Err(why) => Answer::Refused(why),
            },
            Request::Upgrade(asked) => return self.upgrade(stream, *asked).await,
            Request::Confirm(version) => match self.0.versions.get() {
                Some(versions) => {
                    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
                    known(versions.confirm(pid, &version).await)
                }
                None => Answer::Refused(NO_VERSIONS.to_owned()),
            },
        };
        wire::send(&mut stream, &answer, ANSWER_BYTES).await
    }

    /// Brings in another version: the order is verified before its bundle is taken.
    async fn upgrade(&self, mut stream: UnixStream, asked: Upgrade) -> Result<(), WireError> {
        let answer = match self.0.versions.get() {
            Some(versions) => {
                upgraded(&self.0.exec, versions.clone(), &self.0.orders, &mut stream, asked).await?
            }
            None => Answer::Refused(NO_VERSIONS.to_owned()),
        };
        wire::send(&mut stream, &answer, ANSWER_BYTES).await
    }

    fn about(&self) -> About {
        let exec = &self.0.exec;
        About {
            version: crate::VERSION.to_owned(),
            site: exec.site().map_err(|e| e.to_string()),
            node: exec.node(),
            seal_key: exec.seal_key(),
            held: exec.is_held(),
            clusters: exec.clusters().unwrap_or_default(),
            waits: exec.waits(),
        }
    }

    async fn carry_out(&self, mut stream: UnixStream, order: Order) -> Result<(), WireError> {
        let Order { assignment, grounds, own, join, bundle } = order;
        let exec = self.0.exec.clone();
        // A long trust log takes its time: not on a thread that others wait for.
        let verify = move || exec.verify(exec.claim(&own)?, assignment, &grounds);
        let verified = match tokio::task::spawn_blocking(verify).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(error)) => return wire::send(&mut stream, &refused(&error), ANSWER_BYTES).await,
            Err(error) => return wire::send(&mut stream, &refused(&error), ANSWER_BYTES).await,
        };
        // It is never closed.
        let Ok(_one) = self.0.orders.acquire().await else { return Ok(()) };
        let (order, publishers) = (verified.assignment().clone(), verified.publishers().to_vec());
        let kept = self.take_kept(&order);
        let bundle = match (bundle, kept) {
            // What was unpacked once is there: its tree got its name when it was complete.
            (Some(_), _) if self.0.exec.has_tree(&order, &publishers) => None,
            (None, _) => None,
            (Some(_), Some(kept)) => Some(kept),
            (Some(size), None) => {
                let wanted = Wanted { ordered: order.bundle, publishers: publishers.clone(), size };
                match take_bundle(&mut stream, &self.0.exec, wanted).await? {
                    Ok(bundle) => Some(Kept { bundle, tries: 0 }),
                    Err(why) => return wire::send(&mut stream, &refused(&why), ANSWER_BYTES).await,
                }
            }
        };
        let (progress, shown) = watch::channel(Vec::new());
        let file = bundle.as_ref().map(|kept| kept.bundle.file());
        let run = self.0.exec.run(verified, Supplies { bundle: file, join }, progress, &self.0.stop);
        let run = async { run.await.map_or_else(Answer::Stopped, Answer::Done) };
        let ended = told(&mut stream, run, shown).await;
        if let Some(kept) = bundle
            && !self.0.exec.has_tree(&order, &publishers)
        {
            self.keep(kept);
        }
        ended
    }

    /// What an earlier try of an order left of its bundle. Another order needs none of it.
    fn take_kept(&self, order: &Assignment) -> Option<Kept> {
        let mut slot = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take().filter(|kept| kept.bundle.head().digest() == order.bundle)
    }

    /// Keeps a bundle for the next try. Nothing of the file is believed then, either: its head is verified
    /// under the publishers of that day, and its chunks as they are read.
    fn keep(&self, kept: Kept) {
        let tries = kept.tries + 1;
        let kept = (tries < KEPT_TRIES).then_some(Kept { tries, ..kept });
        *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// Takes another node out of a cluster: beside the orders of this node, which have nothing to do with
    /// it.
    async fn release(&self, mut stream: UnixStream, request: ReleaseRequest) -> Result<(), WireError> {
        let exec = self.0.exec.clone();
        let verified = match tokio::task::spawn_blocking(move || exec.verify_release(request)).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(error)) => return wire::send(&mut stream, &refused(&error), ANSWER_BYTES).await,
            Err(error) => return wire::send(&mut stream, &refused(&error), ANSWER_BYTES).await,
        };
        let (progress, shown) = watch::channel(Vec::new());
        let run = self.0.exec.release(verified, progress, &self.0.stop);
        let run = async { run.await.map_or_else(Answer::Stopped, |()| Answer::Well) };
        told(&mut stream, run, shown).await
    }

    /// Keeps role bindings: beside the orders of this node too.
    async fn bindings(&self, mut stream: UnixStream, request: BindingsRequest) -> Result<(), WireError> {
        let exec = self.0.exec.clone();
        let verified = match tokio::task::spawn_blocking(move || exec.verify_bindings(&request)).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(error)) => return wire::send(&mut stream, &refused(&error), ANSWER_BYTES).await,
            Err(error) => return wire::send(&mut stream, &refused(&error), ANSWER_BYTES).await,
        };
        // Nothing is told meanwhile, but that it lives.
        let (_progress, shown) = watch::channel(Vec::new());
        let run = self.0.exec.keep_bindings(verified, &self.0.stop);
        let run = async { run.await.map_or_else(Answer::Stopped, |()| Answer::Well) };
        told(&mut stream, run, shown).await
    }

    /// Takes a backup: beside the orders of this node as well.
    async fn back_up(&self, mut stream: UnixStream, request: BackupRequest) -> Result<(), WireError> {
        let (_progress, shown) = watch::channel(Vec::new());
        let run = self.0.exec.back_up(request, &self.0.stop);
        let run = async { run.await.map_or_else(Answer::Stopped, |()| Answer::Well) };
        told(&mut stream, run, shown).await
    }

    /// Keeps labels, taints and add-ons: the same.
    async fn keep_inside(&self, mut stream: UnixStream, request: KeepRequest) -> Result<(), WireError> {
        let exec = self.0.exec.clone();
        let verified = match tokio::task::spawn_blocking(move || exec.verify_keep(&request)).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(error)) => return wire::send(&mut stream, &refused(&error), ANSWER_BYTES).await,
            Err(error) => return wire::send(&mut stream, &refused(&error), ANSWER_BYTES).await,
        };
        // Nothing is told meanwhile, but that it lives.
        let (_progress, shown) = watch::channel(Vec::new());
        let run = self.0.exec.keep(verified, &self.0.stop);
        let run = async { run.await.map_or_else(Answer::Stopped, |()| Answer::Well) };
        told(&mut stream, run, shown).await
    }
}

/// Shows the progress of what runs, and how it ended. Dropping it gives it up; the caller has nothing
/// more to say, so that any word or the end of the connection does that.
async fn told(
    stream: &mut UnixStream,
    run: impl Future<Output = Answer>,
    mut shown: watch::Receiver<Vec<StepProgress>>,
) -> Result<(), WireError> {
    tokio::pin!(run);
    let (mut from, mut to) = stream.split();
    let mut next = Instant::now() + ALIVE;
    let mut telling = true;
    let ended = loop {
        tokio::select! {
            ended = &mut run => break ended,
            changed = shown.changed(), if telling => telling = changed.is_ok(),
            () = sleep_until(next) => {}
            _ = from.read_u8() => return Err(WireError::Closed),
        }
        let steps = shown.borrow_and_update().clone();
        wire::send(&mut to, &Answer::Progress(steps), ANSWER_BYTES).await?;
        next = Instant::now() + ALIVE;
    };
    let steps = shown.borrow_and_update().clone();
    wire::send(&mut to, &Answer::Progress(steps), ANSWER_BYTES).await?;
    wire::send(&mut to, &ended, ANSWER_BYTES).await
}

/// Why versions are not swapped here.
const NO_VERSIONS: &str = "nobody would start another version here, since this executor was not started with --units systemd: install the package of the new version";

fn known<E: std::fmt::Display>(view: Result<VersionsView, E>) -> Answer {
    match view {
        Ok(view) => Answer::Versions(Box::new(view)),
        Err(error) => refused(&error),
    }
}

fn refused(why: &dyn std::fmt::Display) -> Answer {
    Answer::Refused(why.to_string())
}

async fn upgraded(
    exec: &Exec,
    versions: Versions,
    orders: &Semaphore,
    stream: &mut UnixStream,
    asked: Upgrade,
) -> Result<Answer, WireError> {
    let (ordered, size, verifying) = (asked.order.bundle, asked.bundle, versions.clone());
    let order = match tokio::task::spawn_blocking(move || verifying.verify(asked)).await {
        Ok(Ok(Begun::Send(order))) => order,
        Ok(Ok(Begun::Known(view))) => return Ok(Answer::Versions(Box::new(view))),
        Ok(Err(error)) => return Ok(refused(&error)),
        Err(error) => return Ok(refused(&error)),
    };
    // It is never closed.
    let Ok(_one) = orders.acquire().await else { return Ok(Answer::Refused(String::new())) };
    let wanted = Wanted { ordered, publishers: order.publishers().to_vec(), size };
    let bundle = match take_bundle(stream, exec, wanted).await? {
        Ok(bundle) => bundle,
        Err(why) => return Ok(refused(&why)),
    };
    Ok(match tokio::task::spawn_blocking(move || versions.install(&order, &bundle)).await {
        Ok(view) => known(view),
        Err(error) => refused(&error),
    })
}

/// The bundle that an order waits for.
struct Wanted {
    ordered: Digest,
    publishers: Vec<PublicKey>,
    size: u64,
}

/// Takes an order's bundle to the disk, chunk by chunk. What it begins with must be the very manifest that
/// the order names, signed by a publisher, before more of it is taken; nothing is written that was not
/// verified.
async fn take_bundle(
    stream: &mut UnixStream,
    exec: &Exec,
    wanted: Wanted,
) -> Result<Result<Bundle, TakeError>, WireError> {
    let Wanted { ordered, publishers, size } = wanted;
    let most = BUNDLE_BYTES + HEAD_BYTES as u64;
    if size > most {
        return Ok(Err(BundleError::TooLarge { have: size, most }.into()));
    }
    let mut spool = match Spool::new(exec.root(), publishers, ordered, size) {
        Ok(spool) => spool,
        Err(error) => return Ok(Err(error)),
    };
    wire::send(stream, &Answer::Send, ANSWER_BYTES).await?;
    let take = async {
        let mut left = size;
        while left > 0 {
            let Part(part) = wire::receive(stream, PART_BYTES + 16, FRAME_LIMIT).await?;
            left = left.checked_sub(part.len() as u64).filter(|_| !part.is_empty()).ok_or(WireError::Form)?;
            // Hashing and writing: not on a thread that others wait for.
            let taken = tokio::task::spawn_blocking(move || spool.take(&part).map(|()| spool)).await;
            spool = match taken.map_err(std::io::Error::other)? {
                Ok(spool) => spool,
                Err(error) => return Ok(Err(error)),
            };
        }
        Ok(spool.finish())
    };
    timeout(BUNDLE_LIMIT, take).await.map_err(|_| WireError::Late(BUNDLE_LIMIT))?
}
