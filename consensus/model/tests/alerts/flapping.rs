//! Properties: whatever is seen, in whatever order it came.

use std::collections::BTreeMap;

use proptest::prelude::*;
use qb_model::alerts::{Alert, Key, Rule};
use qb_model::board::Board;

use super::Watch;
use crate::support::site::{Site, report};

/// What node 102 and 103 say in one second: thousandths of disk used, or nothing.
type Second = [Option<u64>; 2];

fn seconds(disk: std::ops::Range<u64>) -> impl Strategy<Value = Vec<Second>> {
    let one = move || proptest::option::weighted(0.7, disk.clone());
    proptest::collection::vec([one(), one()], 1..80)
}

/// Lets the seconds pass; `judged` sees what fired, resolved, and fires after each of them.
fn lived(seconds: &[Second], backwards: bool, mut judged: impl FnMut(&[Alert], &[Alert], &[Alert])) {
    let mut watch = Watch::of(Site::with_pool(2));
    let mut heard = Vec::new();
    for second in seconds {
        watch.site.now = watch.site.now.plus(1_000);
        heard.push((report(101, watch.site.now.0), watch.site.now));
        for (seed, used) in [102, 103].into_iter().zip(second) {
            let Some(used) = used else { continue };
            let mut said = report(seed, watch.site.now.0);
            (said.facts.disk_bytes, said.facts.disk_free_bytes) = (1_000 << 20, (1_000 - used) << 20);
            heard.push((said, watch.site.now));
        }
        // The board comes to the same whatever order it heard things in.
        watch.site.board = Board::default();
        let mut order: Vec<_> = heard.iter().collect();
        if backwards {
            order.reverse();
        }
        for (said, at) in order {
            watch.site.board.hear(said.clone(), *at);
        }
        let verdict = watch.judge();
        let firing: Vec<Alert> = verdict.fired.iter().chain(&verdict.ongoing).cloned().collect();
        judged(&verdict.fired, &verdict.resolved, &firing);
    }
}

fn keys(alerts: &[Alert]) -> Vec<Key> {
    alerts.iter().map(Alert::key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_alert_fires_once_then_resolves_once(seconds in seconds(800..1_000)) {
        let mut fires = BTreeMap::<Key, u64>::new();
        let mut broken = None;
        lived(&seconds, false, |fired, resolved, firing| {
            for alert in resolved {
                let since = fires.remove(&alert.key());
                if since != Some(alert.since.0) || alert.resolved.is_none() {
                    broken = Some(format!("resolved, but did not fire: {alert:?}"));
                }
            }
            for alert in fired {
                if fires.insert(alert.key(), alert.since.0).is_some() {
                    broken = Some(format!("fired twice: {alert:?}"));
                }
            }
            let mut told: Vec<Key> = keys(firing);
            told.sort();
            if told != fires.keys().cloned().collect::<Vec<_>>() {
                broken = Some(format!("{told:?} is not {fires:?}"));
            }
            for alert in firing {
                if fires.get(&alert.key()) != Some(&alert.since.0) {
                    broken = Some(format!("its beginning moved: {alert:?}"));
                }
            }
        });
        prop_assert_eq!(broken, None);
    }

    #[test]
    fn nothing_flaps_between_the_thresholds(seconds in seconds(850..900)) {
        let mut said = 0;
        lived(&seconds, false, |fired, resolved, _| {
            let disk = |a: &&Alert| a.rule == Rule::DiskNearlyFull;
            said += fired.iter().chain(resolved).filter(disk).count();
        });
        prop_assert_eq!(said, 0, "never over 90 %, so never fired");
        let mut high = vec![[Some(900), Some(900)]];
        high.extend(&seconds);
        lived(&high, false, |fired, resolved, _| {
            let disk = |a: &&Alert| a.rule == Rule::DiskNearlyFull;
            said += fired.iter().chain(resolved).filter(disk).count();
        });
        prop_assert_eq!(said, 2, "two disks fired, and neither was ever under 85 %");
    }

    #[test]
    fn a_node_that_reports_now_and_then_does_not_flap(gaps in proptest::collection::vec(5u64..12, 1..12)) {
        let mut seconds: Vec<Second> = Vec::new();
        for gap in gaps {
            seconds.extend(vec![[None, Some(0)]; gap as usize]);
            seconds.push([Some(0), Some(0)]);
        }
        let mut counts = (0, 0);
        lived(&seconds, false, |fired, resolved, _| {
            counts.0 += fired.len();
            counts.1 += resolved.len();
        });
        prop_assert_eq!(counts, (1, 0), "silent until it reports steadily");
    }

    #[test]
    fn the_order_of_reports_does_not_count(seconds in seconds(700..1_000)) {
        let mut runs = [Vec::new(), Vec::new()];
        for (run, backwards) in runs.iter_mut().zip([false, true]) {
            lived(&seconds, backwards, |fired, resolved, firing| {
                run.push((fired.to_vec(), resolved.to_vec(), firing.to_vec()));
            });
        }
        let [forwards, backwards] = runs;
        prop_assert_eq!(forwards, backwards);
    }

    #[test]
    fn the_same_sight_twice_is_no_news(seconds in seconds(700..1_000)) {
        let mut watch = Watch::of(Site::with_pool(2));
        for second in &seconds {
            watch.site.now = watch.site.now.plus(1_000);
            for (seed, used) in [101, 102, 103].into_iter().zip([&Some(0), &second[0], &second[1]]) {
                let Some(used) = used else { continue };
                watch.site.report(seed, |r| {
                    (r.facts.disk_bytes, r.facts.disk_free_bytes) = (1_000 << 20, (1_000 - used) << 20);
                });
            }
            watch.judge();
            let (before, again) = (watch.kept.clone(), watch.judge());
            prop_assert_eq!(again.news(), vec![]);
            prop_assert_eq!(again.kept, before);
        }
    }
}
