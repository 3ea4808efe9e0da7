//! What a control plane node does for itself again and again: its certificates are renewed before they end,
//! and its store is backed up. Decided here, from dates alone.
//!
//! kubeadm's certificates live one year, its authorities ten. Nobody orders a renewal: every control plane
//! node looks at its own. That never two are at it, nobody has to agree on: each slot has its own half hour.

use qb_model::ids::{Millis, Name, Version};
use qb_model::limits::{DAY_MS, KUBEADM_SLOTS};

use super::{Action, READY_LIMIT_S, Run, host};
use crate::DriverError;
use crate::host_step::{HostAction, KubeadmVerb, Part};
use crate::step::Step;

/// Certificates are renewed when less than this is left of them, in milliseconds: 90 days. Each node has its
/// turn more than a dozen times in that time, and a month is left when the site is told that none succeeded.
pub const RENEW_BEFORE_MS: u64 = 90 * DAY_MS;
/// How long a turn is, in milliseconds: half an hour, so that all slots have theirs within 5 days and 8 hours.
pub const TURN_MS: u64 = 30 * 60_000;
/// How far into its turn a node may begin, in milliseconds. What is left of it is longer than a renewal may
/// take, by eight minutes: so far clocks of nodes may differ.
pub const TURN_BEGINS_MS: u64 = 10 * 60_000;
/// How old the newest backup of the schedule becomes, in milliseconds: a day.
pub const BACKUP_EVERY_MS: u64 = DAY_MS;
/// Backups of the schedule that are kept: a week of them.
pub const KEPT_OF_SCHEDULE: usize = 7;
/// Backups that an admin asked for that are kept. They never push out those of the schedule.
pub const KEPT_ASKED: usize = 3;

/// Longest run of `kubeadm certs renew` in seconds: it took one.
const RENEW_LIMIT_S: u16 = 60;
/// Longest time in seconds until a part that was ended runs again: an API server takes up to a minute to end. With
/// its own wait all of a renewal's limits are below what is left of a turn.
const PART_LIMIT_S: u16 = 120;

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// When.
    pub ends: Millis,
    /// Its file below `/etc/kubernetes`.
    pub name: String,
}

/// What is to be done about certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificates {
    /// Nothing yet.
    Well,
    /// They are renewed in the node's next turn.
    Due,
    /// One has ended: nothing works any more that an early renewal could disturb.
    Ended,
}

/// Judges certificates. One that a power cut damaged ends at 0.
pub fn judge(all: &[Expiry], now: Millis) -> Certificates {
    match all.iter().min() {
        Some(first) if first.ends <= now => Certificates::Ended,
        Some(first) if first.ends.since(now) < RENEW_BEFORE_MS => Certificates::Due,
        _ => Certificates::Well,
    }
}

/// Whether the member of this slot may begin with what only one member does at a time.
pub fn is_turn(slot: u16, now: Millis) -> bool {
    let (turn, into) = (now.0 / TURN_MS, now.0 % TURN_MS);
    turn % u64::from(KUBEADM_SLOTS) == u64::from(slot) && into < TURN_BEGINS_MS
}

/// The steps of a renewal on one control plane node whose API server is at `server` (IP address and port).
///
/// # Errors
/// The driver does not know the version.
pub fn renewal(version: &Version, server: &str) -> Result<Vec<Step>, DriverError> {
    super::release(version)?;
    let mut actions: Vec<Action> = vec![
        host("look whether the other control plane nodes are well", HostAction::OthersWell),
        host(
            "renew the certificates of the control plane",
            HostAction::Kubeadm(Run {
                // Of every version: up to 1.19, which this driver does not install, it was `alpha certs`.
                verb: KubeadmVerb::RenewCertificates,
                version: version.clone(),
                tree: None,
                config: None,
                ignore: Vec::new(),
                skip_phases: Vec::new(),
                limit_s: RENEW_LIMIT_S,
            }),
        ),
    ];
    for part in Part::ALL {
        let title = format!("start {} anew", part.name());
        actions.push(host(title, HostAction::RestartPart { part, limit_s: PART_LIMIT_S }));
        if part == Part::ApiServer {
            let (server, limit_s) = (server.to_owned(), READY_LIMIT_S);
            actions.push(host(
                "wait for the API server here",
                HostAction::AwaitApi { server, version: None, limit_s },
            ));
        }
    }
    actions.push(host("put everything on the disk", HostAction::Sync));
    Ok((1..).zip(actions).map(|(id, (title, action))| Step { id, title, action }).collect())
}

/// Whether the schedule wants a backup, after the newest one of its own.
pub fn is_backup_due(newest: Option<Millis>, now: Millis) -> bool {
    // One from the future is of a clock that was set: its age says nothing.
    newest.is_none_or(|taken| taken > now || now.since(taken) >= BACKUP_EVERY_MS)
}

/// What is known of a backup when it is decided which ones go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// When it was taken.
    pub taken: Millis,
    /// Whether an admin asked for it.
    pub asked: bool,
    /// Its name.
    pub name: String,
}

/// The names of those that go: each kind keeps its newest.
pub fn surplus(all: &[Mark]) -> Vec<String> {
    let mut newest: Vec<&Mark> = all.iter().collect();
    newest.sort_by(|a, b| b.cmp(a));
    let of = |asked: bool, kept: usize| newest.iter().filter(move |m| m.asked == asked).skip(kept);
    of(false, KEPT_OF_SCHEDULE).chain(of(true, KEPT_ASKED)).map(|m| m.name.clone()).collect()
}

/// What a backup is called: when it was taken, sortable.
pub fn backup_name(taken: Millis) -> String {
    format!("{:013}", taken.0)
}

/// A backup as its directory says it: everything but the secrets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRecord {
    /// 1.
    pub v: u16,
    /// Its cluster.
    pub cluster: Name,
    /// When it was begun, by the node's clock.
    pub taken: Millis,
    /// The intent that asked for it; none if the schedule did.
    pub asked: Option<qb_model::ids::Digest>,
    /// The version of Kubernetes that ran.
    pub version: Version,
    /// SHA-256 of the snapshot.
    pub digest: qb_model::ids::Digest,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// The store's revision in it.
    pub revision: u64,
    /// Keys in it.
    pub keys: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn ends(days: &[i64]) -> Vec<Expiry> {
        let at = |d: &i64| Millis((1_000 * DAY_MS as i64 + d * DAY_MS as i64) as u64);
        days.iter().map(|d| Expiry { ends: at(d), name: format!("{d}") }).collect()
    }

    #[test]
    fn certificates_are_judged_by_the_one_that_ends_first() {
        let now = Millis(1_000 * DAY_MS);
        for (days, wanted) in [
            (&[][..], Certificates::Well),
            (&[365, 365], Certificates::Well),
            (&[365, 91], Certificates::Well),
            (&[90], Certificates::Well),
            (&[365, 89, 365], Certificates::Due),
            (&[1], Certificates::Due),
            (&[365, 0], Certificates::Ended),
            (&[-3, 89], Certificates::Ended),
            (&[-1_000], Certificates::Ended),
        ] {
            assert_eq!(judge(&ends(days), now), wanted, "{days:?}");
        }
        let almost = [Expiry { ends: Millis(now.0 + RENEW_BEFORE_MS - 1), name: String::new() }];
        assert_eq!(judge(&almost, now), Certificates::Due);
    }

    /// The longest that the steps may take, in milliseconds, with what a helper takes beside each.
    fn longest() -> u64 {
        let steps = renewal(&"1.36.2".parse().unwrap(), "10.77.0.1:6443").unwrap();
        let limits = steps.iter().map(|step| match &step.action {
            crate::StepAction::Host { host: HostAction::Kubeadm(run) } => u64::from(run.limit_s),
            crate::StepAction::Host {
                host: HostAction::RestartPart { limit_s, .. } | HostAction::AwaitApi { limit_s, .. },
            } => u64::from(*limit_s),
            _ => 10,
        });
        limits.sum::<u64>() * 1_000
    }

    proptest! {
        #[test]
        fn two_slots_never_have_their_turn_while_the_other_may_be_at_it(
            a in 0..KUBEADM_SLOTS, b in 0..KUBEADM_SLOTS, now in 0..u64::MAX / 4, skew in 0..8 * 60_000u64,
        ) {
            prop_assume!(a != b);
            if is_turn(a, Millis(now)) {
                for at in [now, now + longest()] {
                    for at in [at.saturating_sub(skew), at + skew] {
                        prop_assert!(!is_turn(b, Millis(at)) , "slot {a} began at {now}, {b} may at {at}");
                    }
                }
            }
        }

        #[test]
        fn every_slot_has_its_turn_within_six_days(slot in 0..KUBEADM_SLOTS, now in 0..u64::MAX / 4) {
            let soon = (0..6 * DAY_MS / TURN_BEGINS_MS).any(|n| is_turn(slot, Millis(now + n * TURN_BEGINS_MS)));
            prop_assert!(soon);
        }
    }

    #[test]
    fn a_backup_is_due_once_a_day() {
        let day = |days: u64| Millis(days * DAY_MS);
        for (newest, now, due) in [
            (None, day(5), true),
            (Some(day(5)), day(5), false),
            (Some(day(5)), Millis(day(6).0 - 1), false),
            (Some(day(5)), day(6), true),
            (Some(day(5)), day(60), true),
            (Some(day(7)), day(6), true),
        ] {
            assert_eq!(is_backup_due(newest, now), due, "{newest:?} at {now:?}");
        }
    }

    #[test]
    fn each_kind_keeps_its_newest() {
        let mark = |day: u64, asked| {
            let taken = Millis(day * DAY_MS);
            Mark { taken, asked, name: backup_name(taken) }
        };
        let schedule: Vec<Mark> = (1..=9).map(|day| mark(day, false)).collect();
        let asked: Vec<Mark> = (20..25).map(|day| mark(day, true)).collect();
        let names = |days: &[u64]| days.iter().map(|d| backup_name(Millis(d * DAY_MS))).collect::<Vec<_>>();
        assert_eq!(surplus(&schedule), names(&[2, 1]));
        assert_eq!(surplus(&asked), names(&[21, 20]));
        let both: Vec<Mark> = asked.iter().chain(&schedule).cloned().collect();
        assert_eq!(surplus(&both), names(&[2, 1, 21, 20]), "neither pushes the other out");
        assert!(surplus(&schedule[..7]).is_empty());
    }
}
