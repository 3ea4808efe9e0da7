//! What a control plane node of a real cluster does for itself, with no order: certificates are renewed
//! before they end, and its store is backed up. When is decided by the driver ([`upkeep`]) from dates alone;
//! how it stands is told to whoever asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qb_drivers::host_step::HostAction;
use qb_drivers::kubeadm::upkeep::{self, Certificates, Expiry};
use qb_drivers::{RelPath, Step, StepAction};
use qb_model::board::{Backup as Kept, Upkeep};
use qb_model::ids::{Digest, Millis, Name};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::dir::Dir;
use crate::exec::{Exec, Inner, cluster_dir};
use crate::host::backup::{self, Backup};
use crate::host::kubeadm::is_control_plane;
use crate::host::network;
use crate::host::order::{HostOrder, Lane, Work};
use crate::host::renewal;
use crate::host::runner::Task;
use crate::progress::{StageError, StepError};
use crate::{certificates, clock};

/// How often it is looked at what is due: several times in the part of a turn in which one may begin.
const LOOK: Duration = Duration::from_secs(60);
/// How far into a renewal a step of it may still begin: the end of the turn is not far.
const RENEWAL: Duration = Duration::from_secs(15 * 60);
/// How long a backup may take: a snapshot of the largest store, looked at, and put on the disk.
const BACKUP: Duration = Duration::from_secs(900);
/// How long after one that was asked for another may be.
const ASKED_APART_MS: u64 = 60_000;
/// Pause after a backup that did not succeed, until the schedule's next try.
const AGAIN: Duration = Duration::from_secs(600);
const RENEWING: &str = "renew certificates";
const BACKING_UP: &str = "back up the store";

/// A backup that is asked for now. Nothing of it is believed, and nothing has to be: the worst that it does is
/// to push out another one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The cluster.
    pub cluster: Name,
    /// The intent that asks.
    pub asked: Digest,
}

/// What did not succeed last, by cluster and by what it was.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    held: BTreeMap<(Name, &'static str), StepError>,
    /// When the schedule tries a backup again that failed.
    again: BTreeMap<Name, Instant>,
}

impl Troubles {
    /// Notes how it went; true if that is news.
    fn note(&mut self, cluster: &Name, what: &'static str, went: &Result<(), StepError>) -> bool {
        let key = (cluster.clone(), what);
        match went {
            Ok(()) => self.held.remove(&key).is_some(),
            Err(error) => self.held.insert(key, error.clone()).as_ref() != Some(error),
        }
    }

    fn of(&self, cluster: &Name) -> Option<(String, String)> {
        let of = |what| self.held.get(&(cluster.clone(), what)).map(|e: &StepError| (what, e));
        let (what, error) = of(RENEWING).or_else(|| of(BACKING_UP))?;
        Some((format!("cannot {what}: {}", error.text), error.remedy.clone()))
    }
}

/// What is to be done about certificates now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    Not,
    /// If the others are well: it is this node's turn.
    Gently,
    /// Whatever the others do: parts of this node do not work as it is.
    AtOnce,
}

/// Decides about certificates. `begun` is whether a renewal was begun and is not through, and if so, whether
/// since certificates had ended: parts of this node may still have those.
fn renewal_due(read: Result<&[Expiry], &StepError>, begun: Option<bool>, slot: u16, now: Millis) -> Renewal {
    let judged = match read {
        Ok(all) => upkeep::judge(all, now),
        // Without what was kept by one that was begun nothing can be put back.
        Err(_) if begun.is_some() => Certificates::Ended,
        Err(_) => return Renewal::Not,
    };
    match judged {
        _ if begun == Some(true) => Renewal::AtOnce,
        Certificates::Ended => Renewal::AtOnce,
        Certificates::Well if begun.is_none() => Renewal::Not,
        Certificates::Due | Certificates::Well if upkeep::is_turn(slot, now) => Renewal::Gently,
        Certificates::Due | Certificates::Well => Renewal::Not,
    }
}

/// What the network's form says of this node.
#[derive(Deserialize)]
struct Form {
    own: Own,
}

#[derive(Deserialize)]
struct Own {
    slot: u16,
    address: std::net::Ipv4Addr,
}

/// Bytes of that form: 256 members.
const FORM_BYTES: u64 = 64 * 1024;

/// A control plane node's places.
struct Place {
    cluster: Name,
    root: Dir,
    dir: Dir,
}

impl Place {
    fn own(&self) -> Result<Own, StepError> {
        let at = path(network::FILE)?;
        let bytes = self.dir.read(&at, FORM_BYTES).map_err(|e| StepError::disk(&at, &e))?.unwrap_or_default();
        serde_json::from_slice::<Form>(&bytes).map(|form| form.own).map_err(|_| StepError::damaged(&at))
    }

    /// How it stands.
    fn view(&self, trouble: Option<(String, String)>) -> Upkeep {
        let certificates = certificates::read(&self.root);
        let (certificate, ends) = match certificates.as_deref().map(|all| all.iter().min()) {
            Ok(Some(first)) => (first.name.clone(), first.ends),
            _ => (String::new(), Millis(0)),
        };
        let damage = certificates.err().map(|error| (error.text, error.remedy));
        let records = backup::records(&self.dir).unwrap_or_default();
        let kept = |r: qb_drivers::kubeadm::upkeep::BackupRecord| Kept {
            taken: r.taken,
            digest: r.digest,
            bytes: r.bytes,
            revision: r.revision,
            asked: r.asked,
        };
        let backups = records.into_iter().map(kept).collect();
        let trouble = damage.or(trouble).unwrap_or_default();
        Upkeep { cluster: self.cluster.clone(), certificate, ends, backups, trouble }
    }
}

impl Inner {
    fn troubles(&self) -> std::sync::MutexGuard<'_, Troubles> {
        // Each change of it is one insertion or removal.
        self.troubles.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The places of a cluster's control plane on this node; none if it has no part of one.
    fn control_plane(&self, cluster: &Name) -> Option<Place> {
        let at = cluster_dir(cluster).ok()?;
        let (root, dir) = (Dir::open(Path::new("/")).ok()?, self.root.sub(&at).ok()?);
        is_control_plane(&root, &dir).then(|| Place { cluster: cluster.clone(), root, dir })
    }

    fn note(&self, cluster: &Name, what: &'static str, went: &Result<(), StepError>) {
        let news = self.troubles().note(cluster, what, went);
        match went {
            Err(error) if news => tracing::warn!(%cluster, "cannot {what}: {}; {}", error.text, error.remedy),
            Ok(()) if news => tracing::info!(%cluster, "{what}: well again"),
            _ => {}
        }
    }
}

impl Exec {
    /// How it stands with what this node does by itself for a cluster; none if it has no control plane of it.
    pub fn upkeep(&self, cluster: &Name) -> Option<Upkeep> {
        let trouble = self.0.troubles().of(cluster);
        Some(self.0.control_plane(cluster)?.view(trouble))
    }

    /// Takes a backup that is asked for. Asked again it does nothing.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn back_up(&self, request: BackupRequest, stop: &CancellationToken) -> Result<(), StageError> {
        let BackupRequest { cluster, asked } = request;
        let done = self.backup_asked(&cluster, asked, stop).await;
        // Of clusters that are not here nothing is kept, whatever they are called.
        if self.0.control_plane(&cluster).is_some() {
            self.0.note(&cluster, BACKING_UP, &done);
        }
        done.map_err(|e| StageError::of_one_step(BACKING_UP, e))
    }

    async fn backup_asked(
        &self,
        cluster: &Name,
        asked: Digest,
        stop: &CancellationToken,
    ) -> Result<(), StepError> {
        let place = self.0.control_plane(cluster).ok_or_else(|| {
            StepError::new(
                format!("this machine is no control plane node of {cluster}"),
                "one of them is asked: see `qb cluster list`",
            )
        })?;
        let (records, now) = (backup::records(&place.dir)?, clock::now());
        if records.iter().any(|r| r.asked == Some(asked)) {
            return Ok(());
        }
        let last = records.iter().filter(|r| r.asked.is_some()).map(|r| r.taken).max();
        if last.is_some_and(|last| last <= now && now.since(last) < ASKED_APART_MS) {
            return Err(StepError::new("a backup was taken less than a minute ago", "it is tried again"));
        }
        self.backup_by_helper(cluster, Backup { taken: now, asked: Some(asked) }, stop).await
    }

    async fn backup_by_helper(
        &self,
        cluster: &Name,
        backup: Backup,
        stop: &CancellationToken,
    ) -> Result<(), StepError> {
        self.0.free()?;
        let task = Task {
            lane: Lane::Backup,
            title: BACKING_UP,
            order: HostOrder::new(cluster.clone(), Work::Backup(backup)),
            limit: BACKUP,
        };
        self.0.runner.run(self.0.helpers()?, task, stop, |_| ()).await.map(drop)
    }

    /// Looks again and again at what is due here, for as long as this executor lives.
    pub(crate) fn keep_up(&self) {
        if self.0.helpers().is_err() {
            // No real cluster can be here.
            return;
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                sleep(LOOK).await;
                let Some(inner) = inner.upgrade() else { return };
                let exec = Self(inner);
                for cluster in exec.clusters().unwrap_or_default() {
                    let Some(place) = exec.0.control_plane(&cluster) else { continue };
                    exec.look_at_certificates(&place).await;
                    exec.look_at_backups(&place).await;
                }
            }
        });
    }

    async fn look_at_certificates(&self, place: &Place) {
        let (read, begun, now) = (certificates::read(&place.root), renewal::begun(&place.dir), clock::now());
        let own = match place.own() {
            Ok(own) => own,
            Err(error) => return self.0.note(&place.cluster, RENEWING, &Err(error)),
        };
        let due = renewal_due(read.as_deref(), begun, own.slot, now);
        if due == Renewal::Not {
            return;
        }
        // An order of this node changes the same parts: it goes first.
        let Ok(_running) = Arc::clone(&self.0.running).try_lock_owned() else { return };
        let server = format!("{}:{}", own.address, qb_drivers::kubeadm::API_SERVER_PORT);
        let done = self.renew(place, &server, due).await;
        if done.is_ok() {
            tracing::info!(cluster = %place.cluster, "the certificates of the control plane are renewed");
        }
        self.0.note(&place.cluster, RENEWING, &done);
    }

    async fn renew(&self, place: &Place, server: &str, due: Renewal) -> Result<(), StepError> {
        self.0.free()?;
        let steps = upkeep::renewal(&backup::version(&place.root)?, server);
        let steps = steps.map_err(|e| StepError::new(e.to_string(), "it is tried again"))?;
        let began = Instant::now();
        for action in steps.iter().filter_map(|step| on_host(step, due)) {
            if began.elapsed() > RENEWAL {
                return Err(StepError::new("this node's turn is over", "it goes on in its next one"));
            }
            let task = Task {
                lane: Lane::Order,
                title: RENEWING,
                order: HostOrder::new(place.cluster.clone(), Work::Step(action.clone())),
                limit: crate::host::limit(action),
            };
            self.0.runner.run(self.0.helpers()?, task, &CancellationToken::new(), |_| ()).await?;
        }
        Ok(())
    }

    async fn look_at_backups(&self, place: &Place) {
        let cluster = &place.cluster;
        let (now, failed) = (clock::now(), self.0.troubles().again.get(cluster).copied());
        // Those that were asked for count for nothing: however many they are, a week of days is kept.
        let newest =
            backup::records(&place.dir).map(|all| all.iter().find(|r| r.asked.is_none()).map(|r| r.taken));
        let due = newest.as_ref().is_ok_and(|newest| upkeep::is_backup_due(*newest, now));
        if !due || failed.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let backup = Backup { taken: now, asked: None };
        let done = self.backup_by_helper(cluster, backup, &CancellationToken::new()).await;
        self.0.note(cluster, BACKING_UP, &done);
        let mut troubles = self.0.troubles();
        match done {
            Ok(()) => troubles.again.remove(cluster),
            Err(_) => troubles.again.insert(cluster.clone(), Instant::now() + AGAIN),
        };
    }
}

/// The action of a step, unless it asks how the others are and nobody needs to know.
fn on_host(step: &Step, due: Renewal) -> Option<&HostAction> {
    match &step.action {
        StepAction::Host { host: HostAction::OthersWell } if due == Renewal::AtOnce => None,
        StepAction::Host { host } => Some(host),
        _ => None,
    }
}

fn path(name: &str) -> Result<RelPath, StepError> {
    name.parse().map_err(|e: qb_drivers::PathError| StepError::damaged(e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use qb_model::limits::DAY_MS;

    use super::*;

    fn at_turn(slot: u16, turn: bool) -> Millis {
        let day = 20_000 * DAY_MS;
        let found = (0..).map(|n| Millis(day + n * 60_000)).find(|at| upkeep::is_turn(slot, *at) == turn);
        found.unwrap()
    }

    #[test]
    fn a_renewal_waits_for_its_turn_unless_it_is_too_late() {
        let error = StepError::damaged("x");
        for turn in [true, false] {
            let now = at_turn(3, turn);
            let ends = |days: u64| [Expiry { ends: now.plus(days * DAY_MS), name: String::new() }];
            let gently = if turn { Renewal::Gently } else { Renewal::Not };
            for (days, begun, wanted) in [
                (365, None, Renewal::Not),
                (89, None, gently),
                (89, Some(false), gently),
                // Renewed, but not every part was started anew.
                (365, Some(false), gently),
                (365, Some(true), Renewal::AtOnce),
                (0, None, Renewal::AtOnce),
            ] {
                assert_eq!(renewal_due(Ok(&ends(days)), begun, 3, now), wanted, "{days} {begun:?} {turn}");
            }
            assert_eq!(renewal_due(Err(&error), None, 3, now), Renewal::Not, "nothing to put back");
            assert_eq!(renewal_due(Err(&error), Some(false), 3, now), Renewal::AtOnce);
        }
    }

    #[tokio::test]
    async fn a_machine_that_rules_nothing_keeps_nothing_up() {
        let machine = crate::people::tests::Machine::new().await;
        let cluster = crate::people::tests::cluster();
        assert_eq!(machine.exec.upkeep(&cluster), None);
        let request = BackupRequest { cluster: cluster.clone(), asked: Digest([1; 32]) };
        let error = machine.exec.back_up(request, &CancellationToken::new()).await.unwrap_err();
        assert!(error.text.contains("no control plane node of") && !error.remedy.is_empty(), "{error}");
        assert_eq!(machine.exec.upkeep(&cluster), None, "and nobody is told of trouble here");
    }

    #[test]
    fn trouble_is_news_once_and_told_until_it_is_over() {
        let (mut all, c1): (_, Name) = (Troubles::default(), "c1".parse().unwrap());
        let full = Err(StepError::new("the disk is full", "make room"));
        assert!(all.note(&c1, BACKING_UP, &full) && !all.note(&c1, BACKING_UP, &full));
        assert_eq!(
            all.of(&c1),
            Some(("cannot back up the store: the disk is full".into(), "make room".into()))
        );
        let worse = Err(StepError::new("h2 is away", "wait"));
        assert!(all.note(&c1, RENEWING, &worse));
        assert!(all.of(&c1).unwrap().0.contains("renew certificates"), "what is more urgent");
        assert_eq!(all.of(&"c2".parse().unwrap()), None);
        assert!(all.note(&c1, RENEWING, &Ok(())) && all.note(&c1, BACKING_UP, &Ok(())));
        assert!(!all.note(&c1, BACKING_UP, &Ok(())) && all.of(&c1).is_none());
    }
}
