//! What Tab offers: from the grammar, from the site, and in a real bash.

use std::process::Command;

use qb_cli::args::help::command;
use qb_cli::complete::{What, next};

use crate::door::Lab;

fn after(line: &str) -> qb_cli::complete::Next {
    let mut root = command();
    root.build();
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if line.is_empty() || line.ends_with(' ') {
        words.push(String::new());
    }
    next(&root, &words)
}

#[test]
fn the_grammar_says_what_can_come_next() {
    let words = |line: &str| after(line).words.into_iter().map(|(w, _)| w).collect::<Vec<_>>();
    assert!(words("").contains(&"cluster".to_owned()) && !words("").contains(&"__complete".to_owned()));
    assert!(words("intent ").contains(&"release".to_owned()));
    assert!(words("cluster attach c --").contains(&"--control-plane".to_owned()));
    assert_eq!(words("node list -o "), ["table", "wide", "json", "yaml", "name"]);
    assert_eq!(words("admin role ana "), ["viewer", "operator", "owner"]);
    assert!(words("node list --where ").contains(&"zone:".to_owned()));
    assert!(words("cluster list --sort ").contains(&"workers".to_owned()));
}

#[test]
fn each_verb_asks_for_the_names_that_it_can_take() {
    for (line, what) in [
        ("node authorize ", Some(What::Waiting)),
        ("node authorize a ", Some(What::Waiting)),
        ("node show ", Some(What::Nodes)),
        ("cluster attach ", Some(What::Clusters)),
        ("cluster attach c ", Some(What::Pool)),
        ("cluster attach -n 3 ", Some(What::Clusters)),
        ("cluster attach c --control-plane ", Some(What::Pool)),
        ("--site lyon cluster detach c a ", Some(What::Members("c".into()))),
        ("cluster create ", None),
        ("intent release ", Some(What::Intents)),
        ("preflight explain ", Some(What::Codes)),
        ("admin revoke-key ana ", Some(What::AdminKeys("ana".into()))),
        ("node list --key ", Some(What::Keys)),
        ("site use ", Some(What::Sites)),
    ] {
        assert_eq!(after(line).live, what, "{line}");
    }
    assert_eq!(after("--site lyon --door unix:/x node show a").site.as_deref(), Some("lyon"));
}

/// Presses Tab at the end of a line in bash.
fn tab(lab: &Lab, line: &str) -> Vec<String> {
    let script = format!(
        "PATH=$1:$PATH; source <(qb completion bash); complete -p qb >/dev/null || exit 9
         COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _qb; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_qb")).parent().unwrap();
    let config = lab.folder.path().join("config/config.toml");
    let mut bash = Command::new("bash");
    bash.env("QB_CONFIG", config).args(["--norc", "-c", &script, "bash"]).arg(bin);
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

#[test]
fn tab_in_bash_offers_live_names() {
    let lab = Lab::new(3);
    assert_eq!(tab(&lab, "qb node authorize lyon-r1-0"), ["lyon-r1-01", "lyon-r1-02", "lyon-r1-03"]);
    assert_eq!(tab(&lab, "qb node authorize lyon-r1-02 lyon-r1-0"), ["lyon-r1-01", "lyon-r1-03"]);
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    assert!(tab(&lab, "qb node authorize ").is_empty(), "nobody waits");
    assert_eq!(lab.qb(&["cluster", "create", "clus101", "-y"]).code, 0);
    assert_eq!(tab(&lab, "qb cluster attach c"), ["clus101"]);
    assert_eq!(tab(&lab, "qb clu"), ["cluster"]);
    assert_eq!(tab(&lab, "qb node list --where zon"), ["zone:"]);
}

#[test]
fn without_an_answer_the_last_list_is_offered_and_marked() {
    let lab = Lab::new(1);
    let ask = ["__complete", "--", "node", "show", ""];
    assert!(lab.qb(&ask).out.starts_with("lyon-r1-01\twaiting "));
    std::fs::remove_file(lab.folder.path().join("door.sock")).unwrap();
    let ran = lab.qb(&ask);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("lyon-r1-01\twaiting ") && ran.out.ends_with(" (old)\n"), "{}", ran.out);
}
