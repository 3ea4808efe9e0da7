//! What fires, what resolves, and what does neither.

mod flapping;

use std::collections::BTreeSet;

use qb_model::alerts::{About, Alert, GRACE_MS, Kept, MAX_RESOLVED, News, Rule, Scene, Verdict, judge};
use qb_model::assignment::Stage;
use qb_model::board::{Board, StepState, Unit, Upkeep, Work};
use qb_model::history::History;
use qb_model::ids::{Millis, NodeId};
use qb_model::limits::DAY_MS;

use crate::support::site::{Site, attach_explicit, authorize, create, report, revoke};
use crate::support::{OPAL, name, node};

/// A site whose leader has listened for long, and what it said last.
pub(crate) struct Watch {
    pub(crate) site: Site,
    pub(crate) history: History,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) watching: Millis,
    pub(crate) kept: Kept,
}

impl Watch {
    /// Node 101 votes; `blue` has a control plane 102 and a worker 103; 104 is in the pool.
    fn new() -> Self {
        let mut site = Site::with_pool(3);
        site.must("opal", create("blue"), &[OPAL]);
        site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
        site.settle();
        Self::of(site)
    }

    pub(crate) fn of(site: Site) -> Self {
        let watching = site.now;
        let voters = [node(101)].into();
        let mut watch = Self { site, history: History::default(), voters, watching, kept: Kept::default() };
        watch.pass(GRACE_MS, &[]);
        watch
    }

    /// A second passes: everybody but `silent` reports, then the leader judges.
    fn second(&mut self, silent: &[u8]) -> Verdict {
        self.site.now = self.site.now.plus(1_000);
        for seed in (101..=104).filter(|s| !silent.contains(s)) {
            if self.site.state.nodes().contains_key(&node(seed)) {
                self.site.report(seed, |_| {});
            }
        }
        self.judge()
    }

    /// Time passes; the last verdict.
    fn pass(&mut self, ms: u64, silent: &[u8]) -> Verdict {
        (0..ms / 1_000).map(|_| self.second(silent)).last().expect("a second at least")
    }

    pub(crate) fn judge(&mut self) -> Verdict {
        let Site { state, board, now, .. } = &self.site;
        let (history, voters, watching) = (&self.history, &self.voters, self.watching);
        let verdict = judge(&Scene { state, board, history, voters, watching }, *now, &self.kept);
        self.kept = verdict.kept.clone();
        verdict
    }

    /// The lines of the list.
    fn list(&self) -> Vec<String> {
        self.kept.list().iter().map(line).collect()
    }
}

fn line(a: &Alert) -> String {
    let word = if a.resolved.is_some() { "over" } else { a.severity.word() };
    format!("{word} {} {}: {} {}", a.rule.layer().word(), a.rule.word(), a.subject, a.text)
}

fn lines(alerts: &[Alert]) -> Vec<String> {
    alerts.iter().map(line).collect()
}

#[test]
fn a_site_that_is_well_says_nothing() {
    let mut watch = Watch::new();
    let verdict = watch.pass(60_000, &[]);
    assert_eq!(verdict, Verdict { kept: watch.kept.clone(), ..Verdict::default() });
    assert_eq!(watch.list(), [""; 0]);
}

#[test]
fn a_node_that_reports_no_more_is_silent_after_five_seconds_and_once() {
    let mut watch = Watch::new();
    let last = watch.site.now;
    assert_eq!(watch.pass(4_000, &[104]).fired, []);
    let verdict = watch.second(&[104]);
    let want = "warning host node-silent: host-104.plant is silent: no report for 5 s";
    assert_eq!(lines(&verdict.fired), [want]);
    assert_eq!(verdict.fired[0].since, last, "since its last report");
    let later = watch.pass(40_000, &[104]);
    assert_eq!((later.fired, later.resolved), (vec![], vec![]));
    assert_eq!(watch.list(), ["warning host node-silent: host-104.plant is silent: no report for 45 s"]);
    assert_eq!(watch.kept.list()[0].since, last);
    // It comes back: resolved once it has been heard for three seconds.
    assert_eq!(watch.pass(3_000, &[]).resolved, []);
    let over = watch.second(&[]);
    assert_eq!(
        lines(&over.resolved),
        ["over host node-silent: host-104.plant is silent: no report for 45 s"]
    );
    assert_eq!(over.news()[0].text(), "is well again: node-silent is over after 49 s");
    assert_eq!(watch.pass(9_000, &[]).resolved, []);
    assert_eq!(watch.list().len(), 1);
}

#[test]
fn certificates_that_nobody_renews_are_told_a_month_before_they_end() {
    let upkeep = |watch: &Watch, days: u64, cluster: &str| Upkeep {
        cluster: name(cluster),
        certificate: "pki/apiserver.crt".into(),
        ends: watch.site.now.plus(days * DAY_MS + 60_000),
        backups: Vec::new(),
        trouble: (String::new(), String::new()),
    };
    let say = |watch: &mut Watch, seed, upkeep: &Upkeep| {
        watch.site.now = watch.site.now.plus(1);
        watch.site.report(seed, |r| r.upkeep = Some(upkeep.clone()));
    };
    let end = "host-102.plant has certificates that end in";
    for (days, want) in [
        (365, None),
        (30, None),
        (29, Some(format!("warning kubernetes certificates-expire: {end} 29 d (pki/apiserver.crt)"))),
        (6, Some(format!("critical kubernetes certificates-expire: {end} 6 d (pki/apiserver.crt)"))),
    ] {
        let mut watch = Watch::new();
        let told = upkeep(&watch, days, "blue");
        say(&mut watch, 102, &told);
        assert_eq!(lines(&watch.judge().fired), want.into_iter().collect::<Vec<_>>(), "{days}");
    }
    // Of another cluster, of a worker, or not to be read: nothing is said of them.
    let mut watch = Watch::new();
    let (other, worker) = (upkeep(&watch, 1, "red"), upkeep(&watch, 1, "blue"));
    say(&mut watch, 102, &other);
    say(&mut watch, 103, &worker);
    assert_eq!(watch.judge().fired, []);
    let unread = Upkeep { certificate: String::new(), ends: Millis(0), ..worker };
    say(&mut watch, 102, &unread);
    assert_eq!(watch.judge().fired, []);
    // What held it back is told with it; renewed, it is over.
    let mut held = upkeep(&watch, 0, "blue");
    (held.ends, held.trouble.0) = (watch.site.now, "cannot renew certificates: h2 is away".into());
    say(&mut watch, 102, &held);
    let want = "critical kubernetes certificates-expire: host-102.plant has certificates that have ended (pki/apiserver.crt): cannot renew certificates: h2 is away";
    assert_eq!(lines(&watch.judge().fired), [want]);
    let renewed = upkeep(&watch, 365, "blue");
    for _ in 0..5 {
        watch.site.now = watch.site.now.plus(1_000);
        say(&mut watch, 102, &renewed);
        watch.judge();
    }
    assert!(watch.kept.list().iter().all(|a| a.rule != Rule::CertificatesExpire || a.resolved.is_some()));
}

#[test]
fn who_is_needed_is_critical() {
    for (seed, want) in [(101, "critical"), (102, "critical"), (103, "warning"), (104, "warning")] {
        let mut watch = Watch::new();
        watch.voters.extend([node(102), node(104)]);
        if seed == 104 {
            watch.voters.remove(&node(104));
            watch.voters.insert(node(103));
        }
        let fired = watch.pass(5_000, &[seed]).fired;
        let silent = fired.iter().find(|a| a.rule == Rule::NodeSilent).unwrap();
        assert_eq!(silent.severity.word(), want, "{seed}");
    }
}

#[test]
fn what_was_never_in_is_not_silent() {
    let mut watch = Watch::new();
    watch.site.must("opal", authorize(&[105]), &[OPAL]);
    assert_eq!(watch.pass(30_000, &[]).fired, []);
    assert_eq!(watch.list(), [""; 0]);
}

#[test]
fn a_new_leader_waits_until_everybody_could_speak() {
    let mut watch = Watch::new();
    // It begins with an empty board, a second after it came to lead.
    (watch.site.board, watch.watching) = (Board::default(), watch.site.now);
    assert_eq!(watch.pass(GRACE_MS - 1_000, &[104]).fired, []);
    let fired = watch.second(&[104]).fired;
    assert_eq!(lines(&fired), ["warning host node-silent: host-104.plant is silent: no report for 5 s"]);
    // What its predecessor said goes on meanwhile, with its time.
    let since = fired[0].since;
    (watch.site.board, watch.watching) = (Board::default(), watch.site.now);
    let verdict = watch.pass(GRACE_MS, &[104]);
    assert_eq!((verdict.fired, verdict.resolved, verdict.ongoing[0].since), (vec![], vec![], since));
}

#[test]
fn who_is_cut_off_calls_nobody_silent() {
    let mut watch = Watch::new();
    watch.voters.extend([node(102), node(103)]);
    let verdict = watch.pass(30_000, &[102, 103, 104]);
    assert_eq!((verdict.fired, verdict.ongoing), (vec![], vec![]), "one of three voters is heard");
    let fired = watch.pass(1_000, &[103, 104]).fired;
    assert_eq!(fired.iter().filter(|a| a.rule == Rule::NodeSilent).count(), 2, "two of three are");
}

#[test]
fn a_node_that_left_is_no_alert() {
    let mut watch = Watch::new();
    watch.pass(9_000, &[104]);
    assert_eq!(watch.kept.list()[0].resolved, None);
    watch.site.must("opal", revoke(104), &[OPAL]);
    let verdict = watch.judge();
    assert_eq!(verdict.resolved.len(), 1);
    assert_eq!(watch.second(&[104]).resolved, []);
}

/// Hears that so many thousandths of the disk of node 104 are used.
fn disk(watch: &mut Watch, used: u64) -> Verdict {
    watch.site.now = watch.site.now.plus(1_000);
    for seed in 101..=103 {
        watch.site.report(seed, |_| {});
    }
    watch.site.report(104, |r| {
        r.facts.disk_bytes = 1_000 << 20;
        r.facts.disk_free_bytes = (1_000 - used) << 20;
    });
    watch.judge()
}

#[test]
fn a_disk_fires_at_90_and_resolves_under_85() {
    let mut watch = Watch::new();
    // (thousandths used, fired, became critical, resolved, severity that fires)
    for (used, fired, worse, over, fires) in [
        (0, 0, 0, 0, ""),
        (899, 0, 0, 0, ""),
        (900, 1, 0, 0, "warning"),
        (910, 0, 0, 0, "warning"),
        (899, 0, 0, 0, "warning"),
        (850, 0, 0, 0, "warning"),
        (949, 0, 0, 0, "warning"),
        (950, 0, 1, 0, "critical"),
        (949, 0, 0, 0, "critical"),
        (930, 0, 0, 0, "critical"),
        (929, 0, 0, 0, "warning"),
        (950, 0, 1, 0, "critical"),
        (849, 0, 0, 1, ""),
        (899, 0, 0, 0, ""),
        (1_000, 1, 0, 0, "critical"),
    ] {
        let verdict = disk(&mut watch, used);
        let counts = (verdict.fired.len(), verdict.worsened.len(), verdict.resolved.len());
        assert_eq!(counts, (fired, worse, over), "at {used}");
        let list = watch.kept.list();
        let now = list.iter().find(|a| a.resolved.is_none()).map_or("", |a| a.severity.word());
        assert_eq!(now, fires, "at {used}");
    }
}

#[test]
fn a_disk_says_how_much_is_left_and_for_how_long() {
    let mut watch = Watch::new();
    disk(&mut watch, 910);
    let want = "warning host disk-nearly-full: host-104.plant has a disk that is 91 % full: 90 MiB free";
    assert_eq!(watch.list(), [want]);
    // Twenty minutes ago it had 30 MiB less in use: 90 an hour, in steps of 4 MiB.
    for (back, used) in [(20 * 60_000, 876u64), (0, 908)] {
        let mut said = report(104, 1);
        (said.facts.disk_bytes, said.facts.disk_free_bytes) = (1_000 << 20, (1_000 - used) << 20);
        watch.history.hear(&said, Millis(watch.site.now.0 - back));
    }
    disk(&mut watch, 910);
    assert_eq!(watch.list(), [format!("{want}, full in about 56 min")]);
}

#[test]
fn a_disk_of_no_size_is_none() {
    let mut watch = Watch::new();
    watch.site.now = watch.site.now.plus(1_000);
    watch.site.report(104, |r| (r.facts.disk_bytes, r.facts.disk_free_bytes) = (0, 0));
    assert_eq!(watch.judge().fired, []);
}

#[test]
fn a_dead_host_folds_its_own_alerts() {
    let mut watch = Watch::new();
    disk(&mut watch, 910);
    let verdict = watch.pass(6_000, &[104]);
    assert_eq!(verdict.resolved, []);
    let want = "warning host node-silent: host-104.plant is silent: no report for 6 s; 1 more beneath it";
    assert_eq!(watch.list(), [want]);
    // Back, it has the disk that it had.
    for _ in 0..4 {
        disk(&mut watch, 910);
    }
    assert!(watch.list()[0].contains("disk-nearly-full"), "{:?}", watch.list());
}

/// Hears that node `seed` has a unit that is well or not.
fn unit(watch: &mut Watch, seed: u8, well: bool) -> Verdict {
    watch.site.now = watch.site.now.plus(1_000);
    for other in (101..=104).filter(|s| *s != seed) {
        watch.site.report(other, |_| {});
    }
    let state = if well { "running" } else { "restarting" };
    let unit = Unit { cluster: name("blue"), name: "node-service".into(), state: state.into(), well };
    watch.site.report(seed, |r| r.units = vec![unit]);
    watch.judge()
}

#[test]
fn a_cluster_is_degraded_by_a_unit_that_stays_away() {
    let mut watch = Watch::new();
    assert_eq!(unit(&mut watch, 103, false).fired, []);
    assert_eq!(unit(&mut watch, 103, false).fired, []);
    let fired = unit(&mut watch, 103, false).fired;
    let want =
        "warning kubernetes cluster-degraded: blue is degraded: host-103.plant has node-service restarting";
    assert_eq!(lines(&fired), [want]);
    let over: usize = (0..9).map(|_| unit(&mut watch, 103, true).resolved.len()).sum();
    assert_eq!(over, 1);
}

#[test]
fn a_unit_that_is_started_again_at_once_is_no_alert_and_one_that_falls_again_is() {
    let mut watch = Watch::new();
    let mut fired = unit(&mut watch, 102, false).fired.len();
    for _ in 0..20 {
        fired += unit(&mut watch, 102, true).fired.len();
    }
    assert_eq!(fired, 0);
    // Down one second of three, again and again: it fires once and does not flap.
    let mut over = 0;
    for second in 0..30 {
        let verdict = unit(&mut watch, 102, second % 3 != 0);
        fired += verdict.fired.len();
        over += verdict.resolved.len();
    }
    assert_eq!((fired, over), (1, 0));
    let want =
        "critical kubernetes cluster-degraded: blue is degraded: host-102.plant has node-service restarting";
    assert!(watch.list()[0].starts_with(&want[..70]), "{:?}", watch.list());
}

#[test]
fn a_cluster_names_its_silent_control_plane() {
    let mut watch = Watch::new();
    watch.pass(9_000, &[102, 103]);
    let want = "critical kubernetes cluster-degraded: blue is degraded: host-102.plant is silent: no report for 9 s, and 1 more";
    assert!(watch.list().contains(&want.to_owned()), "{:?}", watch.list());
}

#[test]
fn a_step_that_fails_is_told_until_it_is_through() {
    let mut site = Site::with_pool(3);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[]), &[OPAL]);
    site.lead(&[]);
    site.lead(&[]);
    let mut watch = Watch::of(site);
    let generation = watch.site.order_of(102).generation;
    let said = |watch: &mut Watch, state, failed: bool| {
        watch.site.now = watch.site.now.plus(1_000);
        let error = failed.then(|| ("port 6443 is taken".to_owned(), "ss -ltnp".to_owned()));
        let (title, since) = ("unpack the bundle".into(), watch.site.now);
        let work = Work {
            generation,
            stage: Stage::Prepare,
            step: 3,
            steps: 9,
            title,
            state,
            since,
            tries: 2,
            error,
        };
        for seed in [101, 103, 104] {
            watch.site.report(seed, |_| {});
        }
        watch.site.report(102, |r| r.work = Some(work));
        watch.judge()
    };
    assert_eq!(said(&mut watch, StepState::Applying, false).fired, []);
    let fired = said(&mut watch, StepState::Failed, true).fired;
    let want = "warning qb step-failed: host-102.plant cannot prepare, tried 2 times: port 6443 is taken";
    assert_eq!(lines(&fired), [want]);
    let mut over = 0;
    for _ in 0..9 {
        over += said(&mut watch, StepState::Applying, true).resolved.len();
    }
    assert_eq!(over, 0, "the next try is no success");
    for _ in 0..9 {
        over += said(&mut watch, StepState::Applying, false).resolved.len();
    }
    assert_eq!(over, 1);
}

/// Hears how often the agents of two nodes ended unasked and came back: 101 votes, 104 is needed by nobody.
fn restarts(watch: &mut Watch, count: u32) -> Verdict {
    watch.site.now = watch.site.now.plus(1_000);
    for seed in 101..=104 {
        watch.site.report(seed, |r| r.restarts = if matches!(seed, 101 | 104) { count } else { 0 });
    }
    watch.judge()
}

#[test]
fn an_agent_that_falls_again_and_again_is_told_until_it_stays_up() {
    let mut watch = Watch::new();
    // (restarts in ten minutes, fired, resolved, for how many seconds)
    for (count, fired, over, seconds) in [
        (0, 0, 0, 5),
        (1, 0, 0, 5),
        (2, 0, 0, 5),
        (3, 2, 0, 1),
        (4, 0, 0, 9),
        // It calms down: nothing yet, and nothing new when it falls again.
        (2, 0, 0, 60),
        (3, 0, 0, 5),
        (1, 0, 0, 60),
        (0, 0, 0, 3),
        (0, 0, 2, 1),
        (0, 0, 0, 9),
        (u32::MAX, 2, 0, 1),
    ] {
        let mut counts = (0, 0);
        for _ in 0..seconds {
            let verdict = restarts(&mut watch, count);
            counts = (counts.0 + verdict.fired.len(), counts.1 + verdict.resolved.len());
        }
        assert_eq!(counts, (fired, over), "{count} restarts");
    }
    restarts(&mut watch, 4);
    let text = "has an agent that ended unasked and started again 4 times in 10 min";
    let firing: Vec<String> = watch.list().into_iter().filter(|l| !l.starts_with("over")).collect();
    assert_eq!(
        firing,
        [
            format!("critical qb agent-restarting: host-101.plant {text}"),
            format!("warning qb agent-restarting: host-104.plant {text}"),
        ]
    );
}

#[test]
fn resolved_ones_are_listed_a_day_and_a_bounded_number() {
    let mut watch = Watch::new();
    for _ in 0..MAX_RESOLVED + 7 {
        disk(&mut watch, 910);
        disk(&mut watch, 100);
    }
    let list = watch.kept.list();
    assert_eq!(list.len(), MAX_RESOLVED);
    assert!(list.windows(2).all(|w| w[0].resolved >= w[1].resolved), "the latest first");
    watch.site.now = watch.site.now.plus(DAY_MS);
    watch.watching = watch.site.now;
    watch.judge();
    assert_eq!(watch.list(), [""; 0]);
}

#[test]
fn a_copy_tells_what_is_new() {
    let mut watch = Watch::new();
    let before = watch.kept.clone();
    watch.pass(9_000, &[104]);
    let fired = before.news_in(&watch.kept, watch.site.now);
    assert!(matches!(&fired[..], [News::Fired(a)] if a.subject == "host-104.plant"), "{fired:?}");
    let said = fired[0].text();
    assert!(
        said.starts_with("is silent: no report for") && said.ends_with("(warning node-silent)"),
        "{said}"
    );
    let (copy, now) = (watch.kept.clone(), watch.site.now);
    assert_eq!(copy.news_in(&copy, now), []);
    watch.pass(9_000, &[]);
    let over = copy.news_in(&watch.kept, now);
    let [News::Resolved(alert)] = &over[..] else { panic!("{over:?}") };
    assert!(alert.resolved.is_some_and(|at| at > now), "when the leader saw it");
    // A leader that knows nothing of it: over when that is seen.
    let [News::Resolved(lost)] = &copy.news_in(&Kept::default(), now)[..] else { panic!("told") };
    assert_eq!(lost.resolved, Some(now));
}

#[test]
fn a_list_that_was_sent_is_bounded_and_clean() {
    let mut watch = Watch::new();
    watch.pass(9_000, &[104]);
    let mut copy: Kept = postcard::from_bytes(&postcard::to_stdvec(&watch.kept).unwrap()).unwrap();
    assert_eq!(copy.list(), watch.kept.list());
    copy.bound(|text| text.to_uppercase());
    assert!(copy.list()[0].text.starts_with("IS SILENT"));
    assert!(copy.fires(&(Rule::NodeSilent, About::Node(node(104)))));
}

#[test]
fn every_rule_has_its_own_word_and_a_way_out() {
    let words: BTreeSet<&str> = Rule::ALL.into_iter().map(Rule::word).collect();
    assert_eq!(words.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        let remedy = rule.remedy("x1");
        assert!(remedy.starts_with("qb ") || remedy.starts_with("on x1: "), "{remedy}");
    }
    let lost = Alert::without_leader(&name("plant"), (1, 3), Millis(5));
    let want =
        "critical qb site-leader: plant has no leader that this door can ask: 1 of 3 voters answer, 2 must";
    assert_eq!(line(&lost), want);
}
