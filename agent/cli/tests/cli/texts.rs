//! The texts that documents are shown as: golden, character by character.

use qb_cli::args::PlanMode;
use qb_cli::cmd::cluster_backup::kept;
use qb_cli::cmd::cluster_upgrade::{brings, held, of_version};
use qb_cli::cmd::follow::{Goal, late, reached, stopped};
use qb_cli::cmd::{
    authorize, cluster as cluster_cmd, doctor, node as node_cmd, preflight as preflight_cmd, rest, state,
};
use qb_cli::error::{CliError, Exit};
use qb_cli::out::paint::{Paint, Tone};
use qb_cli::out::text::{Clock, age, bytes, clean, count, names, span};
use qb_cli::out::{plan as plan_out, progress, waiting};
use qb_model::action::{NodeRole, PlacedNode};
use qb_model::intent::Intent;
use qb_model::waiting::{Clears, WaitingOn};
use qb_model::{Digest, Millis};
use qb_portal::view::*;

use crate::made::{NOW, advance, ago, cluster, intent, member, plan, preflight, site, waiting_node};

fn clock() -> Clock {
    Clock { now: NOW, zone: jiff::tz::TimeZone::UTC }
}

#[test]
fn the_table_of_nodes() {
    let mut nodes = vec![waiting_node(1), waiting_node(2), waiting_node(3)];
    nodes[0].state = NodeState::Attached;
    nodes[0].cluster = Some("clus100".parse().unwrap());
    nodes[0].role = Some(NodeRole::ControlPlane);
    nodes[0].report_age_ms = Some(312);
    nodes[0].load_milli = Some(5_760);
    nodes[0].memory_used_bytes = Some(53 << 30);
    nodes[1].state = NodeState::Pool;
    nodes[1].report_age_ms = Some(41_000);
    let text = node_cmd::table(&nodes, false, &clock(), &Paint::PLAIN).render(&Paint::PLAIN, true, None);
    let fingerprint = &nodes[2].fingerprint;
    assert_eq!(
        text,
        format!(
            "NAME        STATE       WHERE                  ZONE     CPU   MEM  DISK  REPORT  WHY\n\
             lyon-r1-01  ✓ attached  clus100 control plane  rack-1  18 %  41 %  21 %  0.3 s\n\
             lyon-r1-02  ✓ pool                             rack-1              21 %  41 s\n\
             lyon-r1-03  ◆ waiting                          rack-1              21 %  2 min   to be authorized: {fingerprint}\n"
        )
    );
    assert_eq!(
        node_cmd::footer(&nodes),
        "3 machines: 1 waiting, 1 pool, 1 attached.  Next: qb node authorize --waiting"
    );
    let narrow =
        node_cmd::table(&nodes, false, &clock(), &Paint::PLAIN).render(&Paint::PLAIN, true, Some(80));
    assert!(narrow.lines().all(|l| console::measure_text_width(l) <= 80), "{narrow}");
    assert!(narrow.contains("lyon-r1-03") && narrow.contains("waiting"), "{narrow}");
}

#[test]
fn the_figures_of_a_node() {
    let mut node = waiting_node(1);
    node.state = NodeState::Pool;
    node.memory_used_bytes = Some(53 << 30);
    (node.disk_bytes, node.disk_free_bytes) = (Some(1000 << 30), Some(90 << 30));
    node.uptime_s = Some(7 * 86_400);
    let page = node_cmd::page(&node, &clock(), &Paint::PLAIN);
    let want = ["memory", "disk", "up"].map(|head| {
        let line = page.lines().find(|l| l.trim_start().starts_with(&format!("{head} "))).unwrap_or(&page);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    assert_eq!(
        want,
        [
            "memory 53 GiB of 128 GiB in use, 41 %",
            "disk 910 GiB of 1000 GiB in use, 91 %, 90 GiB free",
            "up 7 d"
        ]
    );
    let wide = node_cmd::table(&[node], true, &clock(), &Paint::PLAIN).render(&Paint::PLAIN, true, None);
    assert!(wide.contains("FREE") && wide.contains("90 GiB  7 d"), "{wide}");
    let unheard = node_cmd::page(&waiting_node(2), &clock(), &Paint::PLAIN);
    assert!(!unheard.contains("in use") && !unheard.contains("\nup"), "{unheard}");
}

#[test]
fn the_table_of_alerts() {
    let fires = AlertView {
        rule: "node-silent".into(),
        severity: "critical".into(),
        layer: "host".into(),
        subject: "lyon-r1-03".into(),
        text: "is silent: no report for 41 s".into(),
        since: ago(41_000),
        resolved: None,
        remedy: Some("on lyon-r1-03: systemctl status qb-agent".into()),
    };
    let over = AlertView {
        severity: "warning".into(),
        subject: "lyon-r1-02".into(),
        text: "is silent: no report for 9 s".into(),
        since: ago(600_000),
        resolved: Some(ago(547_000)),
        ..fires.clone()
    };
    let text = rest::alert_table(&[fires.clone(), over.clone()], &clock(), &Paint::PLAIN).render(
        &Paint::PLAIN,
        true,
        None,
    );
    assert_eq!(
        text,
        "SEVERITY    WHAT                                      SINCE   LAYER  CLEARS\n\
         ✗ critical  lyon-r1-03 is silent: no report for 41 s  41 s    host   on lyon-r1-03: systemctl status qb-agent\n\
         ○ over      lyon-r1-02 is silent: no report for 9 s   10 min  host   over since 10:32:00\n"
    );
    let narrow = rest::alert_table(std::slice::from_ref(&fires), &clock(), &Paint::PLAIN);
    let narrow = narrow.render(&Paint::PLAIN, true, Some(60));
    assert!(narrow.contains("critical") && narrow.contains("lyon-r1-03 is silent"), "{narrow}");
    assert_eq!(
        [&fires, &over].map(rest::alert_line),
        ["critical node-silent lyon-r1-03", "over node-silent lyon-r1-02"]
    );
}

#[test]
fn ascii_and_colour() {
    let nodes = [waiting_node(1)];
    let ascii = Paint { colour: false, unicode: false };
    let text = node_cmd::table(&nodes, false, &clock(), &ascii).render(&ascii, false, None);
    assert!(text.contains("!! waiting") && text.is_ascii(), "{text}");
    let colour = Paint { colour: true, unicode: true };
    let text = node_cmd::table(&nodes, false, &clock(), &colour).render(&colour, false, None);
    assert!(text.contains("\x1b[33m◆ waiting\x1b[0m"), "{text:?}");
    assert_eq!(text.matches('\x1b').count(), 2, "colour only on the state");
}

#[test]
fn what_is_compared_before_signing() {
    let node = waiting_node(3);
    let text = authorize::rendered(&[&node], &clock());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("NAME        FINGERPRINT"), "{text}");
    let (fingerprint, words) = (&node.fingerprint, &node.words);
    assert_eq!(lines[1], format!("lyon-r1-03  {fingerprint}  {words}  10.20.1.3     32  128 GiB  2 min"));
}

fn attached() -> ClusterView {
    let nodes = [waiting_node(1), waiting_node(2), waiting_node(3)];
    let mut c = cluster(
        &"clus101".parse().unwrap(),
        &"rehearsal".parse().unwrap(),
        &"1.36.2".parse().unwrap(),
        Digest([7; 32]),
    );
    c.members = nodes
        .iter()
        .map(|n| member(&nodes, &PlacedNode { node: n.id, role: NodeRole::ControlPlane }))
        .collect();
    advance(&mut c, 4);
    c.members[1].work = Some(WorkView {
        stage: "join".into(),
        step: 6,
        steps: 9,
        title: "kubeadm join".into(),
        state: "applying".into(),
        since: ago(14_000),
        error: None,
    });
    let text = "waits for lyon-r1-02: etcd takes one new member at a time";
    c.members[2].waiting_on = Some(WaitingOn::itself("join.turn", "lyon-r1-03", text, ago(14_000)));
    c
}

#[test]
fn progress_as_a_block() {
    let lines = progress::block(&attached(), "01K9P4XW", &clock(), &Paint::PLAIN);
    assert_eq!(
        lines,
        [
            "rehearsal clus101: real processes in folders, no Kubernetes",
            "✓ preflight    no finding                    1.0 s",
            "✓ prepare      1 of 3 nodes                   21 s",
            "✓ initialize   lyon-r1-01                     24 s",
            "◌ join         lyon-r1-02  ████████░░░░░░░░  6 of 9  kubeadm join  14 s",
            "               lyon-r1-03  ░░░░░░░░░░░░░░░░  waits for lyon-r1-02: etcd takes one new member at a time",
            "  01K9P4XW   Ctrl-C leaves it running",
        ]
    );
}

#[test]
fn progress_as_lines_says_each_thing_once() {
    let c = attached();
    let lines = progress::changes(None, &c, &clock());
    assert_eq!(lines[0], "10:40:07 preflight started");
    assert_eq!(lines.last().unwrap(), "10:40:53 join lyon-r1-02 started");
    assert!(progress::changes(Some(&c), &c, &clock()).is_empty());
    let mut failed = c.clone();
    failed.members[1].work.as_mut().unwrap().error = Some("port 6443 is taken".into());
    assert_eq!(
        progress::changes(Some(&c), &failed, &clock()),
        ["10:40:53 join lyon-r1-02 failed: port 6443 is taken"]
    );
}

#[test]
fn the_end_of_a_change() {
    let mut c = attached();
    assert!(!reached(&Goal::Serves, Some(&c), IntentState::Doing));
    advance(&mut c, 5);
    assert!(reached(&Goal::Serves, Some(&c), IntentState::Done));
    assert!(!reached(&Goal::Gone, Some(&c), IntentState::Done));
    assert!(reached(&Goal::Gone, None, IntentState::Done));
    assert!(!reached(&Goal::Left(vec![c.members[0].node]), Some(&c), IntentState::Done));
}

#[test]
fn an_upgrade_ends_with_all_nodes_or_with_the_one_that_returned() {
    let mut c = attached();
    let version: qb_model::Version = "1.37.0".parse().unwrap();
    let goal = Goal::Upgraded(version.clone());
    let action = qb_model::action::Action::ClusterDelete { cluster: "c".parse().unwrap() };
    let ordered = intent(Digest([1; 32]), &made_up(action), None);
    let view = |state| ClusterUpgradeView {
        intent: ordered.digest,
        version: version.clone(),
        bundle: Digest([2; 32]),
        batch: 1,
        state,
        since: ago(1),
        done: 1,
    };
    c.upgrade = Some(view(ClusterUpgradeState::Rolling));
    assert!(!reached(&goal, Some(&c), IntentState::Doing) && stopped(Some(&c), &ordered).is_ok());
    // An intent whose upgrade was halted is done as well: what counts is the cluster's version.
    c.upgrade = Some(view(ClusterUpgradeState::Halted));
    assert!(!reached(&goal, Some(&c), IntentState::Done));
    let command = "qb cluster upgrade clus100 --version 1.37.0 --bundle 3f9a51c2".to_owned();
    let text = "is half at 1.37.0: lyon-r1-01: no API server";
    c.waiting_on = Some(WaitingOn::person("upgrade.halted", "clus100", text, ago(1), ("operator", command)));
    let error = stopped(Some(&c), &ordered).unwrap_err();
    let first = "The upgrade of clus101 is halted: it is half at 1.37.0: lyon-r1-01: no API server.";
    assert_eq!(error.lines()[0], first);
    assert!(error.lines()[1].contains("qb cluster upgrade clus100 --version 1.37.0"), "{:?}", error.lines());
    // One that was halted before is no news for the next.
    c.upgrade.as_mut().unwrap().intent = Digest([9; 32]);
    assert!(stopped(Some(&c), &ordered).is_ok());
    (c.version, c.upgrade) = (version.clone(), Some(view(ClusterUpgradeState::Done)));
    assert!(reached(&goal, Some(&c), IntentState::Done));
}

fn backup(n: u8, asked: Option<Digest>) -> BackupView {
    BackupView { taken: ago(3_600_000), digest: Digest([n; 32]), bytes: 20_480, revision: 41, asked }
}

fn upkeep(backups: Vec<BackupView>) -> UpkeepView {
    UpkeepView {
        certificate: "pki/apiserver.crt".into(),
        ends: clock().now.plus(300 * 86_400_000),
        backups,
        trouble: String::new(),
        remedy: String::new(),
    }
}

#[test]
fn what_control_plane_nodes_do_for_themselves_is_shown() {
    let mut c = attached();
    assert!(!cluster_cmd::page(&c, &clock(), &Paint::PLAIN).contains("CERTIFICATES"));
    c.members[0].upkeep = Some(upkeep(vec![backup(7, None), backup(8, None)]));
    let mut late = upkeep(Vec::new());
    (late.ends, late.trouble) =
        (clock().now.plus(86_400_000), "cannot renew certificates: h2 is away".into());
    late.remedy = "it is tried again".into();
    c.members[1].upkeep = Some(late);
    let text = cluster_cmd::page(&c, &clock(), &Paint::PLAIN);
    let line = |host: &str| text.lines().filter(|l| l.contains(host)).nth(1).unwrap().to_owned();
    let first = line("lyon-r1-01");
    assert!(first.contains("end in 300 d") && first.contains(" h ") && first.ends_with('2'), "{text}");
    assert!(line("lyon-r1-02").contains("none"), "{text}");
    assert!(
        text.contains("lyon-r1-02 cannot renew certificates: h2 is away\n  it is tried again\n"),
        "{text}"
    );
}

#[test]
fn a_backup_is_found_by_its_digest_and_its_node() {
    let mut c = attached();
    c.members[0].upkeep = Some(upkeep(vec![backup(7, None), backup(8, None)]));
    c.members[1].upkeep = Some(upkeep(vec![backup(7, None)]));
    let of = |n: u8| Digest([n; 32]).to_string();
    let found =
        |text: &str, on: Option<&str>| kept(&c, text, on).map(|(m, b)| (m.host.to_string(), b.digest));
    assert_eq!(found(&of(8), None).unwrap(), ("lyon-r1-01".to_owned(), Digest([8; 32])));
    assert_eq!(found(&of(7), Some("lyon-r1-02")).unwrap().0, "lyon-r1-02");
    for (text, on, word) in [
        (of(7), None, "keep that backup"),
        (of(9), None, "No backup"),
        (of(8), Some("lyon-r1-02"), "on lyon-r1-02"),
        (String::new(), Some("lyon-r1-01"), "2 backups"),
    ] {
        let error = found(&text, on).unwrap_err();
        assert!(error.lines()[0].contains(word) && error.lines().len() > 1, "{:?}", error.lines());
    }
    // What was asked for is there once every control plane node keeps it.
    let (asked, goal) = (Digest([1; 32]), Goal::BackedUp(Digest([1; 32])));
    assert!(!reached(&goal, Some(&c), IntentState::Done));
    for at in [0, 1] {
        assert!(!reached(&goal, Some(&c), IntentState::Done));
        c.members[at].upkeep = Some(upkeep(vec![backup(9, Some(asked))]));
    }
    assert!(reached(&goal, Some(&c), IntentState::Done));
    assert!(!reached(&goal, Some(&attached()), IntentState::Done), "nobody has said anything");
}

#[test]
fn the_bundle_of_an_upgrade_is_of_the_driver_and_the_version() {
    let c = attached();
    let bundle = |n: u8, name: &str, publisher: Option<&str>| BundleView {
        digest: Digest([n; 32]),
        name: name.parse().unwrap(),
        version: "1.37.0".parse().unwrap(),
        size: 1,
        publisher: publisher.map(|p| p.parse().unwrap()),
    };
    let driver = c.driver.as_str();
    let all = [bundle(1, driver, Some("acme")), bundle(2, "agent", Some("acme")), bundle(3, driver, None)];
    let text = |n: u8| Digest([n; 32]).to_string();
    for text in [&text(1)[..8], "0101 0101", "01010101"] {
        assert_eq!(held(&all, text, &c).unwrap().digest, Digest([1; 32]), "{text}");
    }
    for (text, said) in [
        (text(2), "is of driver"),
        (text(3), "No publisher"),
        (String::new(), "names 3 bundles"),
        ("x".into(), "no file x"),
    ] {
        let error = held(&all, &text, &c).unwrap_err();
        assert!(error.lines()[0].contains(said), "{:?}", error.lines());
    }
    let version = |text: &str| text.parse::<qb_model::Version>().unwrap();
    assert!(brings(&version("1.37.0"), &version("1.37.0")).is_ok());
    assert_eq!(of_version(&all, &version("1.37.0"), &c).unwrap().digest, Digest([1; 32]));
    let error = of_version(&all, &version("1.37.1"), &c).unwrap_err();
    assert!(error.lines()[0].starts_with("The site holds no bundle of"), "{:?}", error.lines());
    let error = brings(&version("1.37.0"), &version("1.37.1")).unwrap_err();
    assert_eq!(error.lines()[0], "The bundle brings 1.37.0, not 1.37.1.");
}

#[test]
fn too_late_says_what_it_waits_for() {
    let mut c = attached();
    c.waiting_on = Some(WaitingOn::itself("x", "lyon-r3-02", "waits for 10.20.3.12:2380", ago(1)));
    let site = Digest([1; 32]);
    let action = qb_model::action::Action::ClusterDelete { cluster: "c".parse().unwrap() };
    let i = made_up(action);
    let error = late(std::time::Duration::from_secs(600), Some(&c), &intent(site, &i, None), "01K9P4XW");
    assert_eq!(error.exit, Exit::StillGoing);
    assert_eq!(
        error.lines(),
        [
            "Still going after 10 min: lyon-r3-02 waits for 10.20.3.12:2380. Nothing was undone.",
            "  qb intent show 01K9P4XW --watch"
        ]
    );
}

fn made_up(action: qb_model::action::Action) -> Intent {
    let site = qb_model::SiteId(Digest([1; 32]));
    Intent {
        v: 1,
        site,
        id: "01K9P4XW000000000000000000".parse().unwrap(),
        by: "mira".parse().unwrap(),
        issued_ms: NOW,
        expires_ms: NOW.plus(1000),
        anchor: qb_model::intent::Anchor::founding(site),
        after: None,
        expect: Vec::new(),
        action,
        note: None,
    }
}

#[test]
fn a_plan() {
    let mut nodes = vec![waiting_node(1), waiting_node(2)];
    nodes.iter_mut().for_each(|n| n.state = NodeState::Pool);
    let placement = qb_model::action::Placement::Auto { count: 2, control_plane: 0 };
    let action = qb_model::action::Action::ClusterAttach { cluster: "clus101".parse().unwrap(), placement };
    let head = Head { index: 1284, hash: Digest([1; 32]), trust: Digest([1; 32]), log_time: NOW };
    let view = plan(&nodes, &made_up(action), head);
    let text = plan_out::render(&view, PlanMode::Short, "qb cluster attach clus101 -n 2", &Paint::PLAIN);
    assert_eq!(
        text,
        "rehearsal: real processes in folders, no Kubernetes
~ cluster clus101  empty > ready, control plane 0 > 3
+ lyon-r1-01  control plane, first  rack-1  2 steps
+ lyon-r1-02  control plane         rack-2  2 steps
Steps on lyon-r1-01:
    1  prepare     write 5 files
    2  prepare     start containerd
Steps on lyon-r1-02:
    1  prepare     write 5 files
    2  prepare     start containerd
Preflight: no finding known now.
Nothing was changed. Digest b8b8 b8b8 at site state 1,284. To do exactly this:
  qb cluster attach clus101 -n 2 --expect b8b8b8b8
"
    );
    assert!(
        plan_out::is_digest(&view, "b8b8 b8b8")
            && !plan_out::is_digest(&view, "b8b8")
            && !plan_out::is_digest(&view, "aaaaaaaa")
    );
}

#[test]
fn waiting_on_as_sentences() {
    let wait = WaitingOn::person(
        "node.authorize",
        "lyon-r2-03",
        "waits for an administrator to authorize it",
        ago(125_000),
        ("operator", "qb node authorize lyon-r2-03".into()),
    );
    assert_eq!(
        waiting::lines(&wait, &clock()),
        ["lyon-r2-03 waits for an administrator to authorize it. 2 min.", "  qb node authorize lyon-r2-03"]
    );
    let mut other = WaitingOn::itself("x", "lyon-r3-02", "waits for lyon-r2-02", ago(14_000));
    other.more = 2;
    assert_eq!(
        waiting::lines(&other, &clock())[1..],
        ["  Clears by itself.".to_owned(), "  and 2 causes more".to_owned()]
    );
    other.clears = Clears::Never;
    (other.host, other.command) = (Some("lyon-r3-02".into()), Some("ss -ltnp".into()));
    assert_eq!(waiting::way_out(&other).unwrap(), "Nothing clears it: on lyon-r3-02: ss -ltnp");
}

#[test]
fn findings_and_their_sum() {
    let view = preflight();
    assert_eq!(
        preflight_cmd::findings(&view.findings, &Paint::PLAIN),
        "✗ NET-ONE-WAY  lyon-r1-03 > lyon-r3-02  8472/udp dropped, 5 of 5 probes\n               on lyon-r3-02: firewall-cmd --add-port=8472/udp\n"
    );
    assert_eq!(
        preflight_cmd::summary(&view),
        "1 error in 2 nodes, 2 pairs, 28 probes, 0.3 s.  More: qb preflight explain NET-ONE-WAY"
    );
    assert!(preflight_cmd::explain("net-one-way").is_ok() && preflight_cmd::explain("XX").is_err());
}

#[test]
fn a_cluster_and_its_list() {
    let text = cluster_cmd::page(&attached(), &clock(), &Paint::PLAIN);
    assert!(text.starts_with("clus101  ◌ initializing  rehearsal 1.36.2\nrehearsal: real"), "{text}");
    assert!(text.contains("lyon-r1-02  control plane  none  join 6 of 9: kubeadm join\n"), "{text}");
    let list =
        cluster_cmd::table(&[attached()], false, &clock(), &Paint::PLAIN).render(&Paint::PLAIN, true, None);
    assert_eq!(
        list,
        "NAME     STATE           DRIVER            CONTROL  WORKERS  SINCE\nclus101  ◌ initializing  rehearsal 1.36.2        3        0  3 min\n"
    );
}

#[test]
fn numbers_and_times() {
    assert_eq!([count(7), count(1284), count(1_000_000)], ["7", "1,284", "1,000,000"]);
    assert_eq!([bytes(900), bytes(1 << 30), bytes(128 << 30)], ["900 B", "1.0 GiB", "128 GiB"]);
    assert_eq!(
        [age(300), age(41_000), age(120_000), age(7_200_000), age(600_000_000)],
        ["0.3 s", "41 s", "2 min", "2 h", "6 d"]
    );
    assert_eq!([span(130_000), span(600_000), span(41_000)], ["2 min 10 s", "10 min", "41 s"]);
    assert_eq!(names(&["a", "b", "c", "d"]), "a, b, c and 1 more");
    let c = clock();
    assert_eq!(c.moment(ago(7_000)), "10:41:00");
    assert_eq!(c.moment(ago(86_400_000)), "yesterday 10:41");
    assert_eq!(c.moment(Millis(1_772_558_400_000)), "3 Mar 2026 17:20");
}

#[test]
fn what_comes_from_outside_is_made_harmless() {
    assert_eq!(clean("a\x1b[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\u{a}");
    assert_eq!(clean("é ✓ 中"), "é ✓ 中");
    let error = CliError::failed("x\x1b[31m").remedy("one\ntwo\nthree");
    assert_eq!(error.lines(), ["x\\u{1b}[31m", "  one", "  two"]);
}

#[test]
fn problems_become_exit_codes() {
    let problem =
        |status| Problem { code: "x".into(), status, title: "T".into(), detail: "d".into(), remedy: None };
    let exit = |status| CliError::from_problem(problem(status)).exit;
    assert_eq!([exit(401), exit(403), exit(409), exit(422)], [Exit::Refused; 4]);
    assert_eq!([exit(503), exit(504)], [Exit::Unreachable; 2]);
    assert_eq!([exit(400), exit(404)], [Exit::Usage, Exit::Failed]);
    let codes = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Refused,
        Exit::Unreachable,
        Exit::StillGoing,
        Exit::Findings,
        Exit::Signatures,
        Exit::Interrupted,
    ];
    assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 130]);
}

#[test]
fn doctor_puts_what_is_broken_first() {
    let check = |tone, text: &str| doctor::Check { tone, text: text.into(), remedy: None };
    let checks = [check(Tone::Good, "fine"), check(Tone::Broken, "bad")];
    assert_eq!(doctor::page(&checks, &Paint::PLAIN), "✗ 1  bad\n✓    fine\n");
    assert_eq!(doctor::exit(&checks), Exit::Failed);
    assert_eq!(doctor::exit(&checks[..1]), Exit::Done);
}

#[test]
fn likely_next_commands() {
    let folder = tempfile::tempdir().unwrap();
    let charter = crate::door::charter(folder.path());
    let head = Head { index: 0, hash: Digest([1; 32]), trust: Digest([1; 32]), log_time: NOW };
    let mut view = site(&charter, head, &waiting_node(1));
    view.counts.waiting = 5;
    assert_eq!(state::next(&view, &[])[0], "qb node authorize --waiting");
    assert_eq!(state::lines(&view, &[], &clock(), &Paint::PLAIN).len(), 6);
    (view.founded, view.counts.waiting, view.counts.pool) = (true, 0, 5);
    assert_eq!(state::next(&view, &[])[0], "qb cluster create clus100");
    let empty = cluster(
        &"clus101".parse().unwrap(),
        &"rehearsal".parse().unwrap(),
        &"1.36.2".parse().unwrap(),
        Digest([7; 32]),
    );
    assert_eq!(state::next(&view, &[empty])[0], "qb cluster attach clus101 -n 3");
}
