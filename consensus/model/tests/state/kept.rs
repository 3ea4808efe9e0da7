//! Labels and taints of nodes in Kubernetes, and add-ons: what may be asked, and what the state keeps.

use qb_model::action::{Action, Label, Taint, TaintEffect};
use qb_model::board::Keeping;
use qb_model::ids::{Digest, Millis};
use qb_model::limits::{ADDON_BYTES, ADDON_LINES, ADDONS, ADDONS_GONE};
use qb_model::plan::why;
use qb_model::state::Cluster;

use crate::support::site::{
    Site, create_with, delete, detach, label, remove_addon, revoke, set_addon, upgrade_cluster,
};
use crate::support::{OPAL, OPAL_BROWSER, VERA, name, node};

fn blue() -> Site {
    Site::with_blue(5, &[102], &[103, 104])
}

fn marks(cluster: &Cluster, seed: u8) -> Vec<String> {
    let Some(marks) = cluster.marks.get(&node(seed)) else { return Vec::new() };
    let labels = marks.labels.iter().map(|l| format!("{}={}", l.key, l.value));
    labels.chain(marks.taints.iter().map(|t| format!("{}:{}", t.key, t.effect.word()))).collect()
}

#[test]
fn labels_are_of_members_that_stay() {
    let mut site = blue();
    site.must("opal", label("blue", 103, &[("disk", "ssd")], &["gpu"]), &[OPAL]);
    site.must("opal", label("blue", 102, &[("disk", "hdd")], &[]), &[OPAL]);
    assert_eq!(marks(site.blue(), 103), ["disk=ssd", "gpu:NoSchedule"]);
    site.must_not("opal", label("blue", 103, &[("disk", "ssd")], &["gpu"]), &[OPAL], "no_change");
    site.must_not("opal", label("blue", 104, &[], &[]), &[OPAL], "no_change");
    // Emptied, it still says by which intent.
    let emptied = site.must("opal", label("blue", 103, &[], &[]), &[OPAL]);
    assert_eq!(site.blue().marks[&node(103)].cites.digest, emptied.digest());
    site.must_not("opal", label("blue", 105, &[("a", "b")], &[]), &[OPAL], "not_in_cluster");
    site.must_not("opal", label("red", 103, &[("a", "b")], &[]), &[OPAL], "unknown_cluster");
    let mut other = label("blue", 104, &[("a", "b")], &[]);
    if let Action::ClusterLabel { host, .. } = &mut other {
        *host = "elsewhere".parse().unwrap();
    }
    site.must_not("opal", other, &[OPAL], "host");
    // Who leaves takes them along, ordered or dead.
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    assert_eq!(marks(site.blue(), 103), [""; 0]);
    site.must_not("opal", label("blue", 103, &[("a", "b")], &[]), &[OPAL], "not_in_cluster");
    site.must("opal", label("blue", 104, &[("a", "b")], &[]), &[OPAL]);
    site.must("opal", revoke(104), &[OPAL]);
    assert_eq!(site.blue().marks.keys().collect::<Vec<_>>(), [&node(102)]);
}

#[test]
fn who_may_ask_and_of_which_clusters() {
    let mut site = blue();
    let all = || [label("blue", 103, &[("a", "b")], &[]), set_addon("blue", "dns", &["kind: Service"])];
    for action in all() {
        site.must_not("vera", action.clone(), &[VERA], "role");
        site.must_not("opal", action, &[OPAL_BROWSER], "key_class");
    }
    site.must_not("opal", remove_addon("blue", "dns"), &[OPAL], "unknown_addon");
    site.must("olga", delete("blue"), &[crate::support::OLGA]);
    for action in all() {
        site.must_not("opal", action, &[OPAL], "cluster_busy");
    }
    let mut rehearsal = Site::with_pool(3);
    rehearsal.must("opal", create_with("blue", "rehearsal"), &[OPAL]);
    for action in all() {
        rehearsal.must_not("opal", action, &[OPAL], "driver");
    }
}

#[test]
fn an_add_on_is_replaced_removed_and_remembered_for_a_while() {
    let mut site = blue();
    site.must("opal", set_addon("blue", "dns", &["kind: Service"]), &[OPAL]);
    let second = site.must("opal", set_addon("blue", "dns", &["kind: Service", "a: b"]), &[OPAL]);
    let kept = &site.blue().addons[&name("dns")];
    assert_eq!((kept.cites.digest, kept.lines, kept.removed), (second.digest(), 2, false));
    assert!(site.state.intents().contains_key(&second.digest()), "executors need it");
    site.must("opal", remove_addon("blue", "dns"), &[OPAL]);
    assert!(site.blue().addons[&name("dns")].removed);
    site.must_not("opal", remove_addon("blue", "dns"), &[OPAL], "unknown_addon");
    // It is there again; and an upgrade leaves it alone.
    site.must("opal", set_addon("blue", "dns", &["kind: Service"]), &[OPAL]);
    site.must("opal", upgrade_cluster("blue", "1.36.3", 1), &[OPAL]);
    assert_eq!(site.blue().wanted_addons().count(), 1);
    for n in 1..ADDONS {
        site.must("opal", set_addon("blue", &format!("a{n}"), &["kind: Service"]), &[OPAL]);
    }
    site.must_not("opal", set_addon("blue", "more", &["kind: Service"]), &[OPAL], "cap");
    site.must("opal", set_addon("blue", "dns", &["kind: Job"]), &[OPAL]);
    let rounds = ADDONS_GONE + 3;
    for n in 0..rounds {
        site.must("opal", remove_addon("blue", if n == 0 { "dns" } else { "again" }), &[OPAL]);
        site.must("opal", set_addon("blue", "again", &["kind: Job"]), &[OPAL]);
    }
    for n in 0..ADDONS_GONE {
        let old = format!("a{}", n + 1);
        if n + 1 < ADDONS {
            site.must("opal", remove_addon("blue", &old), &[OPAL]);
        }
        let new = format!("b{n}");
        site.must("opal", set_addon("blue", &new, &["kind: Job"]), &[OPAL]);
        site.must("opal", remove_addon("blue", &new), &[OPAL]);
    }
    let gone: Vec<_> = site.blue().addons.iter().filter(|(_, a)| a.removed).map(|(n, _)| n.clone()).collect();
    assert_eq!(gone.len(), ADDONS_GONE);
    assert!(!gone.contains(&name("dns")) && gone.contains(&name("b15")), "{gone:?}");
}

#[test]
fn what_is_out_of_bounds_is_no_intent() {
    let labelled = |key: &str, value: &str| label("blue", 103, &[(key, value)], &[]);
    let tainted = |key: &str| label("blue", 103, &[], &[key]);
    let lines = |n: usize, bytes: usize| {
        let manifest = vec!["x".repeat(bytes); n];
        Action::ClusterAddonSet { cluster: name("blue"), addon: name("dns"), manifest }
    };
    let two = |effects: [TaintEffect; 2]| Action::ClusterLabel {
        cluster: name("blue"),
        node: node(103),
        host: "n103".parse().unwrap(),
        labels: Vec::new(),
        taints: effects.map(|effect| Taint { key: "gpu".into(), effect, value: "a100".into() }).to_vec(),
    };
    use TaintEffect::{NoExecute, NoSchedule};
    let rows: [(Action, &str); 17] = [
        (labelled("kubernetes.io/os", "x"), "keys of kubernetes.io are kept by Kubernetes"),
        (labelled("node-role.kubernetes.io/worker", ""), "choose one without that prefix"),
        (labelled("node-restriction.kubernetes.io/a", ""), "choose one without that prefix"),
        (labelled("k8s.io/a", ""), "keys of k8s.io"),
        (labelled("a.k8s.io/a", ""), "keys of k8s.io"),
        (labelled("topology.kubernetes.io/rack", "a"), "topology.kubernetes.io/zone are taken"),
        (labelled("-a", "b"), "which is none"),
        (labelled("a", "b c"), "which is none"),
        (tainted("node.kubernetes.io/not-ready"), "taints has the key"),
        (tainted("topology.kubernetes.io/zone"), "taints has the key"),
        (tainted("a b"), "taints has the key"),
        (two([NoSchedule, NoExecute]), "not sorted"),
        (two([NoSchedule, NoSchedule]), "stands twice"),
        (lines(1, ADDON_BYTES), "put a larger one into the bundle's manifests/"),
        (lines(ADDON_LINES + 1, 0), "put a larger one into the bundle's manifests/"),
        (lines(3, 0), "is empty"),
        (set_addon("blue", "dns", &["a: b", "\tc: d"]), "in line 2"),
    ];
    let mut site = blue();
    for (action, why) in rows {
        let error = site.intent("opal", action.clone()).check().unwrap_err();
        assert!(error.to_string().contains(why), "{action:?}: {error}");
    }
    for action in [
        labelled("topology.kubernetes.io/zone", "r7"),
        labelled("notkubernetes.io/a", ""),
        labelled("acme.example/a", "b"),
        two([NoExecute, NoSchedule]),
        lines(1, ADDON_BYTES - 1),
        lines(ADDON_LINES, 1),
    ] {
        assert!(site.intent("opal", action.clone()).check().is_ok(), "{action:?}");
    }
    let label = Label { key: "a".into(), value: "b".into() };
    let many = Action::ClusterLabel {
        cluster: name("blue"),
        node: node(103),
        host: "n103".parse().unwrap(),
        labels: vec![label; 2],
        taints: Vec::new(),
    };
    assert!(site.intent("opal", many).check().is_err());
}

#[test]
fn the_worst_manifest_fits_into_an_intent() {
    let mut site = blue();
    // Every character is escaped.
    let line = "\"".repeat(13);
    let lines = vec![line.as_str(); ADDON_LINES];
    let action = set_addon("blue", "dns", &lines);
    const { assert!(ADDON_BYTES - ADDON_LINES * 14 < 14 * 50) };
    site.must("opal", action, &[OPAL]);
}

#[test]
fn what_is_not_as_it_should_be_is_told_while_it_is_wanted() {
    let mut site = blue();
    let set = site.must("opal", set_addon("blue", "dns", &["kind: Service"]), &[OPAL]);
    let why = |site: &Site| why::of_cluster(&site.state, &site.board, site.blue(), site.now);
    let keeping = |addon: Option<&str>, cites: Digest, text: &str| Keeping {
        addon: addon.map(name),
        cites,
        since: Millis(5),
        text: text.into(),
        remedy: "again".into(),
    };
    let tell = |site: &mut Site, kept: Vec<Keeping>| {
        let sequence = site.board.get(&node(102)).map_or(1, |h| h.report.sequence + 1);
        for seed in [102, 103, 104] {
            site.report(seed, |r| r.sequence = sequence);
        }
        site.report(102, |r| (r.sequence, r.keeping) = (sequence + 1, kept));
    };
    tell(&mut site, vec![keeping(Some("dns"), set.digest(), "")]);
    assert_eq!(why(&site), None);
    tell(&mut site, vec![keeping(Some("dns"), set.digest(), "no such kind")]);
    let wait = why(&site).unwrap();
    assert_eq!(
        (wait.code.as_str(), wait.text.as_str(), wait.command.as_deref()),
        (
            "cluster.addon",
            "has add-on dns, which is not applied: no such kind",
            Some("qb cluster addon list blue")
        )
    );
    let marked = site.must("opal", label("blue", 103, &[("a", "b")], &[]), &[OPAL]);
    let both = |dns| {
        vec![keeping(Some("dns"), dns, "no such kind"), keeping(None, marked.digest(), "n103 is not there")]
    };
    tell(&mut site, both(set.digest()));
    assert_eq!(why(&site).unwrap().more, 1);
    site.must("opal", remove_addon("blue", "dns"), &[OPAL]);
    let wait = why(&site).unwrap();
    assert_eq!(
        (wait.text.as_str(), wait.more),
        ("has labels of nodes that are not set: n103 is not there", 0)
    );
    let gone = site.blue().addons[&name("dns")].cites.digest;
    tell(&mut site, both(gone));
    assert!(why(&site).unwrap().text.starts_with("has add-on dns, which is not removed: "));
}
