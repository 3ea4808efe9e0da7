//! `qb agent`: who goes first, what is shown, how following ends.

use std::time::Duration;

use qb_cli::args::agent::{AgentCommand, UpgradeArgs};
use qb_cli::args::{Command, help};
use qb_cli::cmd::agent::{first_wave, held, line, summary, table};
use qb_cli::cmd::rollout::{block, ended, late};
use qb_cli::error::Exit;
use qb_cli::out::paint::Paint;
use qb_cli::out::text::Clock;
use qb_model::waiting::WaitingOn;
use qb_model::{Digest, IntentId};
use qb_portal::view::*;

use crate::made::{NOW, ago, waiting_node};

fn clock() -> Clock {
    Clock { now: NOW, zone: jiff::tz::TimeZone::UTC }
}

fn node(
    number: u8,
    version: &str,
    state: NodeUpgradeState,
    since: Option<u64>,
    why: Option<&str>,
) -> NodeView {
    let mut node = waiting_node(number);
    node.state = NodeState::Pool;
    node.facts.as_mut().unwrap().agent = version.into();
    let since = since.map(ago);
    node.agent_upgrade = Some(NodeUpgradeView { state, since, why: why.map(str::to_owned) });
    node
}

fn nodes() -> Vec<NodeView> {
    let why = "runs 0.1.0: it was not ready within 30 s";
    vec![
        node(1, "0.2.0", NodeUpgradeState::Done, Some(65_000), None),
        node(2, "0.1.0", NodeUpgradeState::Ordered, Some(4_000), None),
        node(3, "0.1.0", NodeUpgradeState::Returned, Some(2_000), Some(why)),
        node(4, "0.1.0", NodeUpgradeState::Waits, None, None),
    ]
}

fn upgrade(state: AgentUpgradeState, waiting_on: Option<WaitingOn>) -> AgentUpgradeView {
    AgentUpgradeView {
        intent: Digest([1; 32]),
        bundle: Digest([2; 32]),
        version: "0.2.0".parse().unwrap(),
        first: vec!["lyon-r1-01".parse().unwrap()],
        batch: 1,
        state,
        since: ago(65_000),
        done: 1,
        nodes: 4,
        waiting_on,
    }
}

fn halted() -> AgentUpgradeView {
    let text = "to 0.2.0 is halted: lyon-r1-03 returned to 0.1.0: it was not ready within 30 s";
    let again = format!("qb agent upgrade {} --first lyon-r1-01", Digest([2; 32]));
    let wait = WaitingOn::person("agent.halted", "upgrade", text, ago(2_000), ("owner", again));
    upgrade(AgentUpgradeState::Halted, Some(wait))
}

fn intent(digest: Digest) -> IntentView {
    let id: IntentId = "01K9P4XW0000000000000000QB".parse().unwrap();
    serde_json::from_value(serde_json::json!({
        "v": 1, "digest": digest, "id": id, "by": "mira", "action": "agent.upgrade", "sentence": "",
        "state": "doing", "index": 9, "generation": 0, "reason": null, "detail": null, "remedy": null,
        "duplicate": false, "at": NOW, "waiting_on": null
    }))
    .unwrap()
}

#[test]
fn the_list() {
    let got = table(&nodes(), &clock(), &Paint::PLAIN).render(&Paint::PLAIN, true, None);
    let want = "\
NODE        VERSION  UPGRADE      SINCE  WHY
lyon-r1-01  0.2.0    ✓ done       1 min
lyon-r1-02  0.1.0    ◌ upgrading  4.0 s
lyon-r1-03  0.1.0    ✗ returned   2.0 s  runs 0.1.0: it was not ready within 30 s
lyon-r1-04  0.1.0    ○ waits
";
    let trimmed: String = got.lines().map(|l| format!("{}\n", l.trim_end())).collect();
    assert_eq!(trimmed, want);
    assert_eq!(line(&nodes()[2]), "lyon-r1-03 0.1.0 returned: runs 0.1.0: it was not ready within 30 s");
}

#[test]
fn the_upgrade_in_one_sentence() {
    let said = |u: &AgentUpgradeView| summary(u, &clock());
    let done = said(&upgrade(AgentUpgradeState::Done, None));
    assert_eq!(done, "The last upgrade, to 0.2.0, was done 1 min ago.");
    let goes = said(&upgrade(AgentUpgradeState::Rolling, None));
    assert_eq!(goes, "1 of 4 nodes run 0.2.0; the others follow.");
    let again = format!("qb agent upgrade {} --first lyon-r1-01", Digest([2; 32]));
    let want = format!(
        "1 of 4 nodes run 0.2.0.  upgrade to 0.2.0 is halted: lyon-r1-03 returned to 0.1.0: it was not ready within 30 s. 2.0 s.  {again}"
    );
    assert_eq!(said(&halted()), want);
}

#[test]
fn following_ends_as_the_site_says() {
    let me = intent(Digest([1; 32]));
    let goes = upgrade(AgentUpgradeState::Rolling, None);
    assert_eq!(ended(Some(&goes), &me), Ok(false));
    assert_eq!(ended(Some(&upgrade(AgentUpgradeState::Done, None)), &me), Ok(true));
    let error = ended(Some(&halted()), &me).unwrap_err();
    assert_eq!(error.exit, Exit::Failed);
    let why = "The upgrade to 0.2.0 is halted: lyon-r1-03 returned to 0.1.0: it was not ready within 30 s.";
    assert_eq!(error.lines()[0], why);
    assert!(error.lines()[1].starts_with("  qb agent upgrade "), "{:?}", error.lines());
    for other in [None, Some(&goes)] {
        assert!(ended(other, &intent(Digest([9; 32]))).is_err());
    }
    let error = late(Duration::from_secs(90), Some(&goes));
    assert_eq!(
        (error.exit, error.text.as_str()),
        (Exit::StillGoing, "Still going after 1 min 30 s: the upgrade works.")
    );
    let lines = block(&goes, &nodes(), &clock(), &Paint::PLAIN);
    assert!(lines[0].ends_with("1 of 4 nodes run 0.2.0") && lines.len() == 6, "{lines:#?}");
}

fn args(line: &[&str]) -> UpgradeArgs {
    let words = ["qb", "agent", "upgrade"].iter().chain(line);
    match help::parse(words.copied()).unwrap().command {
        Some(Command::Agent(AgentCommand::Upgrade(args))) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_wave_is_named_before_anybody_signs() {
    let mut nodes = nodes();
    nodes[3].facts.as_mut().unwrap().zone = "rack-2".into();
    let mut want = vec![nodes[0].id, nodes[2].id];
    want.sort_unstable();
    let both = args(&["x.qbb", "--first", "lyon-r1-01,lyon-r1-03"]);
    assert_eq!(first_wave(&both, &nodes).unwrap(), want);
    let zone = args(&["x.qbb", "--first-zone", "rack-2", "--batch", "3"]);
    assert_eq!((first_wave(&zone, &nodes).unwrap(), zone.batch), (vec![nodes[3].id], 3));
    let error = first_wave(&args(&["x.qbb", "--first-zone", "rack-9"]), &nodes).unwrap_err();
    assert_eq!(error.text, "No node says that it is in zone rack-9.");
    assert!(first_wave(&args(&["x.qbb", "--first", "paris"]), &nodes).is_err());
}

#[test]
fn the_command_line() {
    for bad in [
        &["x.qbb"] as &[&str],
        &["x.qbb", "--first", "a", "--first-zone", "b"],
        &["x.qbb", "--first", "a", "--batch", "0"],
        &["x.qbb", "--first", "a", "--batch", "65"],
    ] {
        assert!(help::parse(["qb", "agent", "upgrade"].iter().chain(bad).copied()).is_err(), "{bad:?}");
    }
    // One digest in 64 begins with a hyphen.
    assert_eq!(args(&["-4f2aQ9xk", "--first", "a"]).bundle, "-4f2aQ9xk");
    let build = |rest: &[&str]| help::parse(["qb", "bundle", "build"].iter().chain(rest).copied()).is_ok();
    assert!(build(&["--driver", "agent", "--version", "0.2.0", "--from", "dir"]));
    assert!(!build(&["--driver", "agent", "--version", "0.2.0"]) && !build(&["--from", "dir"]));
}

#[test]
fn a_bundle_is_found_by_the_beginning_of_its_digest() {
    let bundle = |number: u8, name: &str, publisher: Option<&str>| BundleView {
        digest: Digest([number; 32]),
        name: name.parse().unwrap(),
        version: "0.2.0".parse().unwrap(),
        size: 9,
        publisher: publisher.map(|p| p.parse().unwrap()),
    };
    let all =
        [bundle(1, "agent", Some("acme")), bundle(200, "rehearsal", Some("acme")), bundle(90, "agent", None)];
    let text = |number: u8| Digest([number; 32]).to_string();
    assert_eq!(held(&all, &text(1)[..8]).unwrap(), all[0]);
    let exits = [
        (text(200), Exit::Usage),
        (text(90), Exit::Refused),
        ("zzzz".into(), Exit::Usage),
        (String::new(), Exit::Usage),
    ];
    for (text, exit) in exits {
        assert_eq!(held(&all, &text).unwrap_err().exit, exit, "{text}");
    }
}
