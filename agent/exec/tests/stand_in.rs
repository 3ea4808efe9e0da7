//! The executable with the stand-ins refuses what does not come from an agent. (That it is named
//! here also has cargo build it for the tests inside the crate.)
#![allow(clippy::unwrap_used)]

use std::process::Command;

fn run(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_qb-stand-in")).args(args).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn wrong_arguments_are_refused() {
    let parent = std::process::id().to_string();
    for args in [
        vec![],
        vec!["stand-in"],
        vec!["stand-in", "api-server", "--config", "config/api-server.json"],
        vec!["stand-in", "kubelet", "--config", "c.json", "--parent", &parent],
        vec!["api-server", "--config", "c.json", "--parent", &parent],
    ] {
        let (ok, text) = run(&args);
        assert!(!ok && text.contains("usage"), "{args:?}: {text}");
    }
    let (ok, text) = run(&["stand-in", "api-server", "--config", "/etc/passwd", "--parent", &parent]);
    assert!(!ok && text.contains("not a clean relative path"), "{text}");
}

#[test]
fn a_stand_in_without_its_parent_ends() {
    let (ok, text) = run(&["stand-in", "api-server", "--config", "c.json", "--parent", "1"]);
    assert!(!ok && text.contains("gone"), "{text}");
}
