//! What qb keeps inside a cluster, in words: labels, taints, add-ons.

use qb_cli::access::kubeconfig::{load_balancer, server};
use qb_cli::args::cluster::{AddonCommand, ClusterCommand};
use qb_cli::args::{Command, help};
use qb_cli::cmd::cluster_kept::{lines, page, retaint, table};
use qb_cli::out::paint::Paint;
use qb_cli::out::text::Clock;
use qb_cli::sentence;
use qb_model::Digest;
use qb_model::action::{Action, NodeRole, PlacedNode};
use qb_portal::view::{AddonState, AddonView};

use crate::made::{NOW, ago, cluster, member, waiting_node};

fn clock() -> Clock {
    Clock { now: NOW, zone: jiff::tz::TimeZone::UTC }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn addon(name: &str, state: AddonState, removed: bool, text: &str) -> AddonView {
    AddonView {
        name: name.parse().unwrap(),
        intent: Digest([1; 32]),
        lines: if removed { 0 } else { 12 },
        removed,
        state,
        since: ago(65_000),
        text: text.into(),
        remedy: if text.is_empty() { String::new() } else { "correct the manifest".into() },
    }
}

#[test]
fn taints_are_set_and_removed_by_key_or_by_key_and_effect() {
    let now = strings(&["gpu=a100:NoSchedule", "gpu:NoExecute", "old:PreferNoSchedule"]);
    let after = |changes: &[&str]| -> Vec<String> {
        let all = retaint(&now, &strings(changes)).unwrap();
        all.iter().map(|t| format!("{}={}:{}", t.key, t.value, t.effect.word())).collect()
    };
    let all = ["gpu=:NoExecute", "gpu=a100:NoSchedule", "old=:PreferNoSchedule"];
    assert_eq!(after(&[]), all);
    assert_eq!(after(&["gpu-"]), all[2..]);
    assert_eq!(after(&["gpu:NoSchedule-"]), [all[0], all[2]]);
    assert_eq!(after(&["gpu=h100:NoSchedule", "old-"]), [all[0], "gpu=h100:NoSchedule"]);
    assert_eq!(after(&["a.example/b=c-d:NoExecute", "gpu-", "old-"]), ["a.example/b=c-d:NoExecute"]);
    for wrong in ["gpu", "gpu=a100", "gpu:Never", ":"] {
        let error = retaint(&now, &strings(&[wrong])).unwrap_err();
        assert!(error.lines().join(" ").contains("effects are NoSchedule"), "{wrong}: {error:?}");
    }
}

#[test]
fn a_manifest_is_read_by_its_lines() {
    let text = "apiVersion: v1\r\nkind: ConfigMap\nmetadata:\n  name: a\n";
    assert_eq!(lines(text).unwrap(), ["apiVersion: v1", "kind: ConfigMap", "metadata:", "  name: a"]);
    let large = "# a line of some length that says nothing\n".repeat(1_000);
    for (text, says) in [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a: b\n\tc: d\n", "in line 2"),
        (
            large.as_str(),
            "has 42000 bytes in 1000 lines, allowed are 28672 in 2000: put a larger one into the bundle's manifests/",
        ),
        ("kind: ConfigMap\n---\nkind: Secret\n", "holds a Secret"),
        ("- kind:   \"Secret\"\n", "holds a Secret"),
        (r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}"#, "holds a Secret"),
        (r#"{"kind": "Secret", "apiVersion": "v1"}"#, "holds a Secret"),
    ] {
        let error = lines(text).unwrap_err();
        assert!(error.lines().join(" ").contains(says), "{says}: {:?}", error.lines());
    }
    assert!(lines("kind: SecretStore\n---\nkind: Role\nrules: [{resources: [secrets]}]\n").is_ok());
}

#[test]
fn the_list_and_the_page() {
    let addons = [
        addon("dns", AddonState::Applied, false, ""),
        addon("bad", AddonState::Failed, false, "kubectl apply ended with status 1: no kind Foo"),
        addon("new", AddonState::Waits, false, ""),
        addon("old", AddonState::Waits, true, ""),
    ];
    let text = table(&addons, &clock(), &Paint::PLAIN).render(&Paint::PLAIN, true, None);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
    assert_eq!(rows[0], ["ADD-ON", "STATE", "LINES", "SINCE"]);
    for (row, (name, word)) in
        rows[1..].iter().zip([("dns", "applied"), ("bad", "failed"), ("new", "waits"), ("old", "leaving")])
    {
        assert!(row.contains(&name) && row.contains(&word), "{row:?}");
    }
    assert!(text.contains("no kind Foo; correct the manifest"), "{text}");
    let nodes = [waiting_node(1), waiting_node(2)];
    let mut shown = cluster(
        &"clus100".parse().unwrap(),
        &"kubeadm".parse().unwrap(),
        &"1.36.2".parse().unwrap(),
        Digest([9; 32]),
    );
    assert_eq!(page(&shown, &clock(), &Paint::PLAIN), "");
    shown.members =
        nodes.iter().map(|n| member(&nodes, &PlacedNode { node: n.id, role: NodeRole::Worker })).collect();
    shown.members[0].labels = strings(&["disk=ssd"]);
    shown.members[0].taints = strings(&["gpu:NoSchedule"]);
    let host = &shown.members[0].host;
    assert_eq!(
        page(&shown, &clock(), &Paint::PLAIN),
        format!("\nLabels and taints that qb keeps:\n  {host}  disk=ssd, gpu:NoSchedule\n")
    );
    shown.addons = addons.to_vec();
    assert!(page(&shown, &clock(), &Paint::PLAIN).contains("dns"));
}

#[test]
fn what_is_signed_in_one_sentence() {
    let set = Action::ClusterAddonSet {
        cluster: "c1".parse().unwrap(),
        addon: "dns".parse().unwrap(),
        manifest: strings(&["kind: Service"]),
    };
    let gone = Action::ClusterAddonRemove { cluster: "c1".parse().unwrap(), addon: "dns".parse().unwrap() };
    let label = Action::ClusterLabel {
        cluster: "c1".parse().unwrap(),
        node: qb_model::NodeId([1; 32]),
        host: "n1".parse().unwrap(),
        labels: Vec::new(),
        taints: retaint(&[], &strings(&["gpu:NoSchedule"])).unwrap(),
    };
    let said = |action| sentence::of(action, &sentence::Hosts::new());
    assert_eq!(said(&set), "set add-on dns of cluster c1 (1 line)");
    assert_eq!(said(&gone), "remove add-on dns of cluster c1 and what it made");
    assert_eq!(said(&label), "set 0 labels and 1 taint on n1 in cluster c1");
}

#[test]
fn the_grammar() {
    let parsed = |words: &[&str]| help::parse(["qb", "cluster"].iter().chain(words).copied());
    let set = parsed(&["addon", "set", "c1", "dns", "-f", "dns.yaml", "--plan"]).unwrap();
    assert!(matches!(set.command, Some(Command::Cluster(ClusterCommand::Addon(AddonCommand::Set(_))))));
    for wrong in [
        &["addon", "set", "c1", "dns"][..],
        &["addon", "set", "c1", "Dns", "-f", "a"],
        &["addon", "remove", "c1"],
        &["label", "c1", "n1"],
        &["taint", "c1"],
    ] {
        assert!(parsed(wrong).is_err(), "{wrong:?}");
    }
    assert!(parsed(&["label", "c1", "n1", "a=b", "c-"]).is_ok());
    assert!(parsed(&["taint", "c1", "n1", "a=b:NoSchedule", "c-"]).is_ok());
    assert!(parsed(&["kubeconfig", "c1", "--endpoint", "api:443"]).is_ok());
    assert!(parsed(&["kubeconfig", "c1", "--endpoint", "api:0"]).is_err());
    assert!(parsed(&["kubeconfig", "c1", "--endpoint", "api", "--direct"]).is_err());
}

#[test]
fn load_balancers_have_a_host_and_a_port() {
    for (text, want) in [
        ("api.example.com", Some("api.example.com:6443")),
        ("api.example.com:443", Some("api.example.com:443")),
        ("10.0.0.5", Some("10.0.0.5:6443")),
        ("[fd00::5]", Some("[fd00::5]:6443")),
        ("[fd00::5]:8443", Some("[fd00::5]:8443")),
        ("", None),
        ("api:", None),
        ("api:0", None),
        ("api:70000", None),
        ("api:1:2", None),
        ("fd00::5", None),
        ("[fd00::5", None),
        ("[api]:1", None),
        ("[fd00::5]8443", None),
        ("https://api.example.com", None),
        ("api.example.com/a", None),
        ("-a", None),
        ("a..b", None),
    ] {
        assert_eq!(load_balancer(text).ok().as_deref(), want, "{text}");
    }
}

#[test]
fn an_address_has_its_scheme_once() {
    assert_eq!(server("https://10.0.0.1:6443"), "https://10.0.0.1:6443");
    assert_eq!(server("10.0.0.1:6443"), "https://10.0.0.1:6443");
}
