//! The man pages: one for each verb, and nothing in them that a terminal would obey.

use std::collections::BTreeSet;

use qb_cli::args::help;
use qb_cli::manual::pages;

fn text(name: &str) -> String {
    let page = pages().unwrap().into_iter().find(|p| p.name == name).unwrap();
    String::from_utf8(page.text).unwrap()
}

fn names(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    let path = if path.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{path}-{}", command.get_name())
    };
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        names(below, &path, found);
    }
    found.insert(format!("{path}.1"));
}

#[test]
fn every_verb_that_help_shows_has_a_page_and_nothing_else_has() {
    let mut expected = BTreeSet::new();
    names(&help::command(), "", &mut expected);
    let found: Vec<String> = pages().unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(found.len(), expected.len(), "a page is written twice");
    assert!(expected.contains("qb-node-list.1") && !expected.contains("qb-man.1"));
}

#[test]
fn flags_on_everything_are_explained_once() {
    assert!(text("qb.1").contains("Never ask on the terminal"));
    let list = text("qb-node-list.1");
    assert!(!list.contains("no\\-input"), "{list}");
    assert!(list.contains("qb(1)"));
}

#[test]
fn examples_stay_as_they_are_typed() {
    let page = text("qb-node-list.1");
    assert!(page.contains(".SH \"EXAMPLES\"\n.nf\n  qb node list \\-\\-where 'state:waiting"), "{page}");
    assert!(page.contains("'disk>80 os:debian' \\-\\-sort \\-disk"), "{page}");
}

#[test]
fn pages_hold_requests_that_exist_and_no_control_characters() {
    let known = [".TH", ".SH", ".TP", ".PP", ".RS", ".RE", ".IP", ".nf", ".fi", ".br", ".ie", ".el"];
    for page in pages().unwrap() {
        let text = String::from_utf8(page.text).unwrap();
        for line in text.lines() {
            let request = line.split(' ').next().unwrap_or_default();
            assert!(!line.starts_with('.') || known.contains(&request), "{}: {line}", page.name);
            assert!(!line.chars().any(char::is_control), "{}: {line:?}", page.name);
        }
    }
}
