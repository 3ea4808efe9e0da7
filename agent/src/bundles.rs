//! Bundles between nodes. Every node that wants one fetches it in chunks from whoever has them, each
//! verified before it is written; [`choose`] decides whom to ask. They are kept by more nodes than the one
//! that they were pushed to, and deleted when nothing names them any more.
//!
//! | file | what |
//! |---|---|
//! | `bundles/fetch.rs` | one bundle on its way here |
//! | `bundles/push.rs` | one that comes through the door |
//! | `bundles/origin.rs` | a mirror, a folder, a file on a stick |

mod fetch;
mod origin;
pub(crate) mod push;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use qb_model::assignment::KUBEADM;
use qb_model::state::{NodePhase, SiteState};
use qb_model::{Digest, PublicKey};
use tokio::sync::{Semaphore, watch};

use crate::blobs::bitmap::Bitmap;
use crate::blobs::kept::{self, Named, Who};
use crate::daemon::SMALL_SITE;
use crate::node::Node;
use crate::rpc::{self, BlobHave, BlobPart, BlobRequest};
use origin::Inbox;

/// Longest wait for a bundle before its state is told: who waits asks again.
const WAIT: Duration = Duration::from_secs(20);
/// Pause before a bundle that nobody had is asked for again.
const AGAIN: Duration = Duration::from_secs(2);
/// Pause between two looks into the folder of files that somebody brings.
const LOOK: Duration = Duration::from_secs(5);
/// Pause between two looks at what may be deleted.
const SWEEP: Duration = Duration::from_secs(600);

/// Chunks that are read for others at a time: each is a MiB in memory and on the line. Who comes on top
/// waits within its deadline.
const SERVED: usize = 6;
/// Chunks that came and are verified and written at a time: that takes a processor for some milliseconds,
/// and a machine may have two.
const WRITTEN: usize = 1;

/// Bundles that are on their way here, and how far they are.
#[derive(Debug)]
pub struct Fetches {
    running: Mutex<BTreeMap<Digest, Arc<Fetching>>>,
    /// Turns to read a chunk for another node.
    serves: Arc<Semaphore>,
    /// Turns to verify and write a chunk.
    writes: Arc<Semaphore>,
}

impl Default for Fetches {
    fn default() -> Self {
        let turns = |count| Arc::new(Semaphore::new(count));
        Self { running: Mutex::default(), serves: turns(SERVED), writes: turns(WRITTEN) }
    }
}

/// A bundle on its way.
#[derive(Debug)]
pub struct Fetching {
    /// How far it is, in words; none when it ended.
    said: watch::Sender<Option<String>>,
    /// What others should know of it.
    told: Mutex<Told>,
}

/// What nodes tell each other of a bundle on its way.
#[derive(Debug, Clone)]
struct Told {
    /// Whether a node that has it whole, or a mirror, is reached; yes until it was looked.
    reaches: bool,
    /// What was asked of such.
    coming: Bitmap,
}

impl Fetching {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        // Replaced as a whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetches {
    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Arc<Fetching>>> {
        // Handles go in and out whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bundle, if it is on its way.
    fn get(&self, digest: &Digest) -> Option<Arc<Fetching>> {
        self.all().get(digest).cloned()
    }

    /// Which are on their way.
    fn digests(&self) -> BTreeSet<Digest> {
        self.all().keys().copied().collect()
    }
}

/// The keys of publishers that the site accepts.
pub(crate) fn publishers(node: &Node) -> Vec<PublicKey> {
    node.site().trust().publishers().keys().copied().collect()
}

/// Says that a bundle is here as a whole: this door shows it from now on.
fn arrived(node: &Node, digest: &Digest) {
    let head = node.blobs.head(digest).ok().flatten();
    // It was finished a moment ago; where somebody deletes files beside the agent, its digest names it.
    let name = head.and_then(|(head, _)| qb_drivers::bundle::peek(&head).ok());
    let name = name.map_or_else(|| digest.to_string(), |(_, m)| format!("{} {}", m.name, m.version));
    tracing::info!(%digest, "a bundle is here and verified");
    node.events.say(crate::events::now(), "bundle", &name, "is here and verified");
}

/// The bundle's file, from this node or from whoever has it.
///
/// # Errors
/// How far it is, or why it does not come.
pub async fn get(node: &Arc<Node>, digest: &Digest) -> Result<Arc<File>, String> {
    let open = || node.blobs.open_file(digest).map_err(|e| e.to_string());
    if let Some(file) = open()? {
        return Ok(file);
    }
    let fetching = begin(node, digest);
    let mut said = fetching.said.subscribe();
    let ended = tokio::time::timeout(WAIT, said.wait_for(Option::is_none)).await.is_ok();
    if let Some(file) = open()? {
        return Ok(file);
    }
    let words = if ended { None } else { said.borrow().clone() };
    Err(words.unwrap_or_else(|| "it was cut short".to_owned()))
}

/// Fetches a bundle on a task of its own; one that is on its way is not begun again.
fn begin(node: &Arc<Node>, digest: &Digest) -> Arc<Fetching> {
    let mut all = node.fetches.all();
    if let Some(fetching) = all.get(digest) {
        return Arc::clone(fetching);
    }
    let said = watch::Sender::new(Some("nobody was asked yet".to_owned()));
    let told = Mutex::new(Told { reaches: true, coming: Bitmap::default() });
    let fetching = Arc::new(Fetching { said, told });
    all.insert(*digest, Arc::clone(&fetching));
    let (held, digest, fetched) = (node.clone(), *digest, Arc::clone(&fetching));
    node.tasks.spawn(async move {
        tokio::select! {
            () = fetch::run(&held, &digest, &fetched) => {}
            () = held.cancel.cancelled() => {}
        }
        held.fetches.all().remove(&digest);
        fetched.said.send_replace(None);
    });
    fetching
}

/// The encoded answer to another node: few at a time, and on no thread that others wait for.
///
/// # Errors
/// The chunk is not here, or cannot be read.
pub async fn serve(node: &Arc<Node>, request: BlobRequest) -> Result<Bytes, String> {
    let turn = match request.part {
        BlobPart::Have => None,
        // It is never closed.
        _ => node.fetches.serves.clone().acquire_owned().await.ok(),
    };
    let node = node.clone();
    let read = move || {
        let _turn = turn;
        rpc::encode(&answer(&node, &request)?).map_err(|e| e.to_string())
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())?
}

/// What this node has of a bundle. Reads the disk.
///
/// # Errors
/// The chunk is not here, or cannot be read.
fn answer(node: &Node, request: &BlobRequest) -> Result<BlobHave, String> {
    let fetching = node.fetches.get(&request.bundle);
    let held = node.blobs.held(&request.bundle);
    let bytes = match (request.part, &held) {
        (BlobPart::Have, _) => Vec::new(),
        (_, None) => return Err("the bundle is not here".into()),
        (BlobPart::Head, Some(held)) => held.head_bytes().map_err(|e| e.to_string())?,
        (BlobPart::Chunk(chunk), Some(held)) => {
            let chunk = held.chunk(chunk).map_err(|e| e.to_string())?;
            chunk.ok_or("the chunk is not here")?
        }
    };
    let wants = fetching.is_some();
    let told = fetching.map(|fetching| fetching.told().clone());
    let (reaches, coming) = told.map_or((false, Bitmap::default()), |told| (told.reaches, told.coming));
    Ok(BlobHave { have: held.map(|held| held.have()).unwrap_or_default(), coming, wants, reaches, bytes })
}

/// Fetches what this node will need ahead of its orders, so that the death of the node that a bundle was
/// pushed to strands no cluster: [`kept::wanted`]. And deletes bundles that nothing names.
pub async fn keep(node: Arc<Node>) {
    let mut state = node.state.clone();
    let (mut inbox, mut last_sweep, mut swept) = (Inbox::default(), Instant::now(), false);
    loop {
        let site = node.site();
        let votes = node.raft().raft_id.is_some();
        let mut missing = false;
        if let Some(record) = site.nodes().get(&node.id()) {
            let mine = match &record.phase {
                NodePhase::Attached { cluster, .. } => Some(cluster),
                NodePhase::Pool | NodePhase::Detaching { .. } => None,
            };
            let wanted = kept::wanted(&named(&site), mine, votes || site.nodes().len() <= SMALL_SITE);
            let held = node.blobs.list();
            for bundle in wanted.into_iter().filter(|bundle| !held.contains(bundle)) {
                begin(&node, &bundle);
                missing = true;
            }
        }
        if site.nodes().contains_key(&node.id()) {
            inbox.take(&node).await;
            if last_sweep.elapsed() >= SWEEP || !swept {
                (last_sweep, swept) = (Instant::now(), true);
                sweep(&node);
            }
        }
        let pause = if missing { AGAIN } else { LOOK };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

/// What names a bundle now: each cluster, its upgrade that is ordered or halted, and an upgrade of agents
/// that rolls.
fn named(site: &SiteState) -> Vec<Named> {
    let mut all = Vec::new();
    for cluster in site.clusters().values() {
        let large = cluster.driver.as_str() == KUBEADM;
        let upgrade = cluster.upgrade.as_ref().filter(|upgrade| upgrade.bundle != cluster.bundle);
        all.push(Named { who: Who::Cluster(cluster.name.clone()), bundle: cluster.bundle, large });
        all.extend(upgrade.map(|upgrade| Named {
            who: Who::Upgrade(cluster.name.clone()),
            bundle: upgrade.bundle,
            large,
        }));
    }
    let agents = site.agent_upgrade().filter(|upgrade| upgrade.rolling());
    all.extend(agents.map(|upgrade| Named { who: Who::Agents, bundle: upgrade.bundle, large: false }));
    all
}

/// Deletes what nothing names any more, but for the bundle before each that is named.
fn sweep(node: &Node) {
    let mut uses = node.blobs.uses();
    if uses.note(&named(&node.site()))
        && let Err(error) = node.blobs.note_uses(&uses)
    {
        // Not known to be before another: then nothing is deleted.
        tracing::warn!("{error}");
        return;
    }
    for digest in kept::superfluous(&node.blobs.ages(), &uses, &node.fetches.digests()) {
        match node.blobs.remove(&digest) {
            Ok(()) => tracing::info!(%digest, "a bundle that no cluster names was deleted"),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}
