//! The helper's unit: one transient service that runs to its end, outside of the executor's sandbox and
//! beyond its life.

use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use qb_model::ids::Digest;
use tokio::time::{sleep, timeout};
use zbus::Variant;

use super::{
    ANSWER, MARK, Properties, SLICE, ServiceProxy, Systemd, SystemdError, UnitProxy, is_no_such_unit,
};
use crate::host::runner::{HelperUnit, Helpers};
use crate::progress::StepError;

/// How often one that an earlier life started is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What the job may take longer than the unit, whose limit systemd keeps.
const MARGIN: Duration = Duration::from_secs(30);

impl Helpers for Systemd {
    fn running<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Option<Digest>>, StepError>> {
        Box::pin(async move { Ok(self.helper(name).await?) })
    }

    fn run<'a>(&'a self, unit: &'a HelperUnit) -> BoxFuture<'a, Result<String, StepError>> {
        Box::pin(async move {
            let manager = self.manager().await?;
            let properties = properties(&self.program, unit);
            // One that failed may be kept to be looked at, which would be in the way of its successor.
            let _ = manager.reset_failed_unit(&unit.name).await;
            let begin = manager.start_transient_unit(&unit.name, "fail", &properties, &[]);
            Ok(self.job_within(&unit.name, &manager, begin, unit.limit + MARGIN).await?)
        })
    }

    fn ended<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            while self.helper(name).await?.is_some() {
                sleep(LOOK).await;
            }
            Ok(())
        })
    }

    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { Ok(self.stop_named(name).await?) })
    }
}

impl Systemd {
    /// Whether a helper runs, and its mark.
    async fn helper(&self, name: &str) -> Result<Option<Option<Digest>>, SystemdError> {
        let manager = self.manager().await?;
        let bus = manager.inner().connection().clone();
        let ask = async {
            let path = manager.get_unit(name).await?;
            let unit = UnitProxy::builder(&bus).path(path.clone()).build().await?;
            if !matches!(unit.active_state().await?.as_str(), "active" | "activating" | "deactivating") {
                return Ok(None);
            }
            let service = ServiceProxy::builder(&bus).path(path).build().await?;
            let environment = service.environment().await?;
            let mark = |line: &String| line.strip_prefix(MARK)?.strip_prefix('=')?.parse().ok();
            Ok(Some(environment.iter().find_map(mark)))
        };
        match timeout(ANSWER, ask).await {
            Err(_) => Err(SystemdError::Late(ANSWER)),
            Ok(Err(error)) if is_no_such_unit(&error) => Ok(None),
            Ok(Err(error)) => Err(self.broken(name, error).await),
            Ok(Ok(mark)) => Ok(mark),
        }
    }
}

/// What the unit is. Root with everything: mounts, links, rules and units are the host's own, so that no
/// option may be here that gives it a name space of its own.
fn properties<'a>(program: &Path, unit: &HelperUnit) -> Properties<'a> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let word = |word: &str| Variant::from(word.to_owned());
    let exec = vec![(text(program), vec![text(program), "host".to_owned(), text(&unit.file)], false)];
    let limit = u64::try_from(unit.limit.as_micros()).unwrap_or(u64::MAX);
    vec![
        ("Description", Variant::from(format!("qb: {}", unit.title))),
        // It has begun when it has ended: the job's end is its own.
        ("Type", word("oneshot")),
        ("ExecStart", Variant::from(exec)),
        ("Environment", Variant::from(vec![format!("{MARK}={}", unit.mark)])),
        ("Slice", word(SLICE)),
        ("TimeoutStartUSec", Variant::U64(limit)),
        // What it started goes with it.
        ("KillMode", word("control-group")),
        ("TimeoutStopUSec", Variant::U64(10_000_000)),
        ("StandardOutput", word("journal")),
        ("StandardError", word("journal")),
        ("NoNewPrivileges", Variant::Bool(true)),
        ("LimitCORE", Variant::U64(0)),
        ("UMask", Variant::U32(0o022)),
        ("CollectMode", word("inactive-or-failed")),
    ]
}
