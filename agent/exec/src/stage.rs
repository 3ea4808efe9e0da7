//! Runs the steps of one order, one after the other: check, apply, verify.
//!
//! ```text
//!   held? -> check --done already--> done
//!              | no
//!            apply -> verify --> done        killed anywhere: the next run begins at the first
//!                       | no                 step again, and the checks pass what is done
//!                     failed
//! ```

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use qb_drivers::host_step::HostAction;
use qb_drivers::{Observed, RelPath, Step, StepAction, driver};
use qb_model::assignment::{Assignment, KUBEADM, Stage};
use qb_model::ids::{Digest, PublicKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bundle::{Bundle, TakeError};
use crate::clock;
use crate::dir::Dir;
use crate::exec::{Inner, Supplies, cluster_dir};
use crate::progress::{StageDone, StageError, StepError, StepProgress, StepState};
use crate::{steps, unpack};

/// Everything that steps need.
pub(crate) struct Context {
    pub(crate) inner: Arc<Inner>,
    pub(crate) order: Assignment,
    pub(crate) supplies: Supplies,
    pub(crate) bundle: Option<Bundle>,
    /// The cluster's directory.
    pub(crate) dir: Arc<Dir>,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: watch::Sender<Vec<StepProgress>>,
    /// Files in the cluster's directory that hold secrets while they are there.
    pub(crate) hidden: Vec<RelPath>,
    /// What the stage makes public.
    pub(crate) public: Vec<u8>,
    /// In tests: how many points are passed before the run ends as if the process were killed.
    #[cfg(test)]
    pub(crate) points_left: Option<std::sync::atomic::AtomicUsize>,
}

/// Where a run takes its order, supplies and signals from.
pub(crate) struct Run {
    pub(crate) order: Assignment,
    /// Of the trust log that the order was verified under.
    pub(crate) publishers: Vec<PublicKey>,
    /// The backup that the order's signed intent names.
    pub(crate) backup: Option<Digest>,
    pub(crate) supplies: Supplies,
    pub(crate) progress: watch::Sender<Vec<StepProgress>>,
    pub(crate) cancel: CancellationToken,
    #[cfg(test)]
    pub(crate) points_left: Option<usize>,
}

/// Runs an order to its end. One at a time: a run that was given up still holds the lock until its
/// step has stopped.
pub(crate) async fn run(inner: Arc<Inner>, run: Run) -> Result<StageDone, StageError> {
    let lock = Arc::clone(&inner.running);
    let _running = lock.lock().await;
    let before = |e: StepError| StageError {
        step: 0,
        title: "take the order".to_owned(),
        text: e.text,
        remedy: e.remedy,
        returned: false,
    };
    let (mut context, steps) = begin(inner, run).map_err(before)?;
    context.progress.send_replace(steps.iter().map(waiting).collect());
    for step in &steps {
        let begun = Instant::now();
        let ran = context.step(step).await;
        let told = Took { order: &context.order, step, begun };
        if let Err(error) = ran {
            told.say(&error.text);
            let stopped = context.point().is_err();
            let back = if stopped { Ok(false) } else { context.go_back(step.id, &error.text).await };
            let (text, remedy, returned) = match back {
                Ok(returned) => (error.text, error.remedy, returned),
                // What the node is now is neither: it is tried again, and said to be so.
                Err(back) => (format!("{}; going back: {}", error.text, back.text), back.remedy, false),
            };
            context.note(step.id, StepState::Failed, &text);
            return Err(StageError { step: step.id, title: step.title.clone(), text, remedy, returned });
        }
        told.say("");
        context.note(step.id, StepState::Done, "");
    }
    Ok(StageDone { public: context.public })
}

/// A step that has ended, for the journal: who looks at a slow or failed stage later finds each step there.
struct Took<'a> {
    order: &'a Assignment,
    step: &'a Step,
    begun: Instant,
}

impl Took<'_> {
    /// `why` it failed; empty if it is done.
    fn say(&self, why: &str) {
        let Assignment { cluster, stage, .. } = self.order;
        let (stage, number) = (stage.word(), self.step.id);
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let title = &self.step.title;
        if why.is_empty() {
            tracing::info!(%cluster, stage, step = number, ms, "{stage} of {cluster}: {title}: done after {ms} ms");
        } else {
            tracing::warn!(%cluster, stage, step = number, ms, "{stage} of {cluster}: {title}: {why}");
        }
    }
}

fn waiting(step: &Step) -> StepProgress {
    StepProgress {
        step: step.id,
        title: step.title.clone(),
        state: StepState::Waiting,
        since: clock::now(),
        detail: String::new(),
    }
}

/// Takes the order: held, floor, bundle, steps.
fn begin(inner: Arc<Inner>, run: Run) -> Result<(Context, Vec<Step>), StepError> {
    let order = run.order;
    inner.free()?;
    if order.driver.as_str() == KUBEADM {
        inner.helpers()?;
    }
    if inner.node() != Some(order.node) {
        return Err(StepError::new("the order is for another node", "run `qb doctor` on this machine"));
    }
    inner
        .floor()
        .take(&inner.root, &order)
        .map_err(|e| StepError::new(e.to_string(), "nothing was changed"))?;
    let refused = |e: TakeError| StepError::new(e.to_string(), "nothing was installed");
    let open = |file: &Arc<File>| Bundle::open(Arc::clone(file), &run.publishers, &order.bundle);
    let bundle = run.supplies.bundle.as_ref().map(open).transpose().map_err(refused)?;
    // What lies here already must be of a publisher that is trusted now, too: only leaving needs none.
    let known = match &bundle {
        Some(bundle) => Some(bundle.head().manifest().clone()),
        None if matches!(order.stage, Stage::Leave | Stage::Restore) => None,
        None => unpack::head_of(&inner.root, &order, &run.publishers).map_err(refused)?,
    };
    let (cgroup, nested) = crate::facts::ground(Path::new("/"));
    let observed = Observed {
        arch: std::env::consts::ARCH.to_owned(),
        bundle: known,
        cgroup,
        nested,
        backup: run.backup,
    };
    let driver = driver(&order.driver).ok_or_else(|| {
        let text = format!("this agent has no driver {}", order.driver);
        StepError::new(text, format!("drivers here: {}", qb_drivers::names().join(", ")))
    })?;
    let steps = driver
        .compile(&order, &observed)
        .map_err(|e| StepError::new(e.to_string(), "nothing was changed"))?;
    let at = cluster_dir(&order.cluster).map_err(|e| StepError::new(e.to_string(), "nothing was changed"))?;
    let open = inner.root.make_dirs(&at).and_then(|()| inner.root.sub(&at));
    let dir = open.map_err(|e| StepError::disk("the cluster's directory cannot be made", &e))?;
    let context = Context {
        inner,
        order,
        supplies: run.supplies,
        bundle,
        dir: Arc::new(dir),
        cancel: run.cancel,
        progress: run.progress,
        hidden: steps.iter().flat_map(|step| hidden(&step.action)).cloned().collect(),
        public: Vec::new(),
        #[cfg(test)]
        points_left: run.points_left.map(Into::into),
    };
    Ok((context, steps))
}

/// Where a step puts secrets of a real cluster.
fn hidden(action: &StepAction) -> Vec<&RelPath> {
    match action {
        StepAction::OpenKubeSecret { into } => vec![into],
        StepAction::Host { host: HostAction::PlaceSecret { secret, discovery } } => vec![secret, discovery],
        _ => Vec::new(),
    }
}

impl Context {
    async fn step(&mut self, step: &Step) -> Result<(), StepError> {
        self.point()?;
        self.note(step.id, StepState::Checking, "");
        if steps::check(self, &step.action).await? {
            return Ok(());
        }
        self.point()?;
        self.note(step.id, StepState::Applying, "");
        steps::apply(self, step.id, &step.action).await?;
        if steps::is_verified(&step.action) {
            return Ok(());
        }
        self.point()?;
        self.note(step.id, StepState::Verifying, "");
        if steps::check(self, &step.action).await? {
            return Ok(());
        }
        Err(StepError::new(
            "it was done, but the check afterwards fails",
            "run the order again; if it stays, `qb doctor`",
        ))
    }

    /// Takes back what the order changed, where its driver has a way back. Whether it has.
    async fn go_back(&self, id: u16, why: &str) -> Result<bool, StepError> {
        let Some(driver) = driver(&self.order.driver) else { return Ok(false) };
        let way = driver.way_back(&self.order);
        let Some(way) = way.map_err(|e| StepError::new(e.to_string(), "nothing was changed"))? else {
            return Ok(false);
        };
        tracing::warn!(cluster = %self.order.cluster, "going back to how the node was: {why}");
        steps::go_back(self, id, &way).await.map(|()| true)
    }

    /// A place where a run may end: held, given up, or killed.
    fn point(&self) -> Result<(), StepError> {
        #[cfg(test)]
        if let Some(left) = &self.points_left {
            use std::sync::atomic::Ordering::Relaxed;
            let passed = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            passed.map_err(|_| StepError::cancelled())?;
        }
        if self.cancel.is_cancelled() {
            return Err(StepError::cancelled());
        }
        self.inner.free()
    }

    /// Tells where a step is.
    pub(crate) fn note(&self, id: u16, state: StepState, detail: &str) {
        self.progress.send_if_modified(|all| {
            let Some(step) = all.iter_mut().find(|step| step.step == id) else {
                return false;
            };
            if step.state == state && step.detail == detail {
                return false;
            }
            if step.state != state {
                step.since = clock::now();
            }
            step.state = state;
            step.detail = detail.to_owned();
            true
        });
    }
}
