//! Whole commands against a door.

use qb_model::action::{Action, Placement};

use crate::door::{Lab, qb};

#[test]
fn a_site_is_made_with_everything_a_machine_needs_and_nothing_secret() {
    let folder = tempfile::tempdir().unwrap();
    let charter = crate::door::charter(folder.path());
    let text = std::fs::read_to_string(folder.path().join("lyon.enroll.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["v"], 1);
    assert_eq!(file["seeds"][0], "127.0.0.11:7444");
    assert_eq!(file.as_object().unwrap().len(), 4, "never a token");
    assert_eq!(charter.body().founders[0].admin.as_str(), "mira");
    let again = qb(folder.path(), &["site", "create", "lyon", "--no-passphrase"]);
    assert_eq!(again.code, 2, "{again:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("lyon.enroll.json"), elsewhere.path().join("x.json")).unwrap();
    let used = qb(elsewhere.path(), &["site", "use", "x.json"]);
    assert_eq!(used.code, 0, "{used:?}");
    let list = qb(elsewhere.path(), &["site", "list", "-o", "name"]);
    assert_eq!(list.out, "lyon\n");
}

#[test]
fn authorizing_at_an_unfounded_site_founds_it_on_the_door_s_node_first() {
    let lab = Lab::new(3);
    let unasked = lab.qb(&["node", "authorize", "--waiting"]);
    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.err.contains("Sign as Mira Okafor (owner, "), "{}", unasked.err);
    assert!(lab.sent().is_empty(), "nothing is sent unasked");

    let ran = lab.qb(&["node", "authorize", "--waiting", "-y"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(lab.sent(), ["site.found", "node.authorize"]);
    assert!(
        ran.err.contains("found lyon on lyon-r1-01 and authorize lyon-r1-02, lyon-r1-03 on lyon"),
        "{}",
        ran.err
    );
    let state = lab.site.lock();
    let (found, authorize) = (&state.intents[0].0, &state.intents[1].0);
    assert_eq!((found.anchor.index, found.anchor.hash), (0, lab.site.charter.site_id().0));
    assert_eq!(authorize.anchor.index, 1, "the second is anchored to the head after the first");
}

#[test]
fn a_cluster_from_nothing_to_serving() {
    let lab = Lab::new(3);
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    let created = lab.qb(&["cluster", "create", "clus101", "-y"]);
    assert_eq!(created.code, 0, "{created:?}");
    assert_eq!(lab.sent()[2..], ["publisher.add", "cluster.create"]);
    for said in ["building one", "Publisher lyon-publisher is not accepted", "Pushed to lyon"] {
        assert!(created.err.contains(said), "{said}: {}", created.err);
    }

    let plan = lab.qb(&["cluster", "attach", "clus101", "-n", "3", "--plan"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.out.contains("Nothing was changed. Digest b8b8 b8b8"), "{}", plan.out);
    assert_eq!(lab.sent().len(), 4);
    let other = lab.qb(&["cluster", "attach", "clus101", "-n", "3", "-y", "--expect", "aaaaaaaa"]);
    assert_eq!(other.code, 3, "{other:?}");

    let attached = lab.qb(&["cluster", "attach", "clus101", "-n", "3", "-y", "--expect", "b8b8b8b8"]);
    assert_eq!(attached.code, 0, "{attached:?}");
    for said in [
        "preflight started",
        "prepare done: 1 of 3 nodes",
        "initialize done: lyon-r1-0",
        "attach lyon-r1-01, lyon-r1-02, lyon-r1-03 as control plane to clus101",
        "clus101 serves at 10.20.1.1:6443",
    ] {
        assert!(attached.err.contains(said), "{said}: {}", attached.err);
    }
    let state = lab.site.lock();
    let Action::ClusterAttach { placement: Placement::Explicit { nodes }, .. } = &state.intents[4].0.action
    else {
        panic!()
    };
    assert_eq!(nodes.len(), 3, "-n is resolved to names before it is signed");
}

#[test]
fn json_is_the_api_s_own_document() {
    let lab = Lab::new(2);
    let nodes: Vec<qb_portal::view::NodeView> =
        serde_json::from_str(&lab.qb(&["node", "list", "-o", "json"]).out).unwrap();
    assert_eq!(nodes.len(), 2);
    let one: qb_portal::view::NodeView =
        serde_json::from_str(&lab.qb(&["node", "show", "lyon-r1-02", "-o", "json"]).out).unwrap();
    assert_eq!(one, nodes[1]);
    assert_eq!(lab.qb(&["cluster", "list", "-o", "json"]).out.trim(), "[]");
    assert_eq!(lab.qb(&["node", "list", "-o", "name"]).out, "lyon-r1-01\nlyon-r1-02\n");
    let several = lab.qb(&["node", "show", "lyon-r1"]);
    assert_eq!(
        (several.code, several.err.lines().next()),
        (2, Some("lyon-r1 names 2 nodes: lyon-r1-01, lyon-r1-02."))
    );
}

#[test]
fn a_refusal_is_shown_word_for_word() {
    let lab = Lab::new(2);
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    lab.site.lock().refuse = Some(("role", "admin mira is Viewer, the action needs Operator"));
    let ran = lab.qb(&["node", "label", "lyon-r1-01", "zone=a", "-y"]);
    assert_eq!(
        (ran.code, ran.err.lines().last()),
        (3, Some("Refused: admin mira is Viewer, the action needs Operator."))
    );
    let kept = std::fs::read_dir(lab.folder.path().join("config/intents")).unwrap().count();
    assert_eq!(kept, 0, "what has an outcome is not kept");
}

#[test]
fn too_few_nodes_is_said_before_anything_is_signed() {
    let lab = Lab::new(3);
    assert_eq!(lab.qb(&["node", "authorize", "lyon-r1-01", "-y"]).code, 0);
    assert_eq!(lab.qb(&["cluster", "create", "clus101", "-y"]).code, 0);
    let before = lab.sent().len();
    let ran = lab.qb(&["cluster", "attach", "clus101", "-n", "3", "-y"]);
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.err,
        "Not enough nodes: 3 wanted, 1 in the pool, 2 waiting to be authorized.\n  qb node authorize --waiting\n"
    );
    assert_eq!(lab.sent().len(), before);
}

#[test]
fn names_are_typed_for_what_has_no_way_back() {
    let lab = Lab::new(2);
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    let yes = lab.qb(&["node", "revoke", "lyon-r1-02", "-y"]);
    assert_eq!(yes.code, 2, "--yes is not enough: {yes:?}");
    assert_eq!(lab.qb(&["node", "revoke", "lyon-r1-02", "--confirm", "lyon-r1-01"]).code, 2);
    assert_eq!(lab.qb(&["node", "revoke", "lyon-r1-02", "--confirm", "lyon-r1-02"]).code, 0);
    assert_eq!(lab.sent().last(), Some(&"node.revoke"));
}

#[test]
fn findings_have_an_exit_code_of_their_own() {
    let lab = Lab::new(2);
    let ran = lab.qb(&["preflight"]);
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.out.starts_with("✗ NET-ONE-WAY"), "{}", ran.out);
}

#[test]
fn events_come_in_order() {
    let lab = Lab::new(1);
    let ran = lab.qb(&["events", "--max", "3", "-o", "json"]);
    let seqs: Vec<u64> =
        ran.out.lines().map(|l| serde_json::from_str::<qb_portal::view::Event>(l).unwrap().seq).collect();
    assert_eq!(seqs, [1, 2, 3], "{ran:?}");
}

#[test]
fn no_door_answers() {
    let folder = tempfile::tempdir().unwrap();
    crate::door::charter(folder.path());
    let ran = qb(folder.path(), &["site", "status"]);
    assert_eq!(ran.code, 4);
    assert!(ran.err.starts_with("lyon cannot be reached: unix:"), "{}", ran.err);
    let doctor = qb(folder.path(), &["doctor"]);
    assert_eq!(doctor.code, 1);
    assert!(doctor.out.contains("no door of lyon answers"), "{}", doctor.out);
}

#[test]
fn a_door_of_another_site_is_not_ours() {
    let lab = Lab::new(1);
    let elsewhere = tempfile::tempdir().unwrap();
    let charter = crate::door::charter(elsewhere.path());
    assert_ne!(charter.site_id(), lab.site.charter.site_id());
    let door = format!("unix:{}", lab.folder.path().join("door.sock").display());
    let ran = qb(elsewhere.path(), &["--door", &door, "node", "list"]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn the_policy_is_replayed_from_the_charter() {
    let lab = Lab::new(1);
    let ran = lab.qb(&["policy", "show"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("owners needed    1\n"), "{}", ran.out);
}

#[test]
fn held_intents_are_released_and_publishers_trusted_by_owners() {
    let lab = Lab::new(2);
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    let digest = lab.site.lock().intents[0].1.digest.to_string();
    let ran = lab.qb(&["intent", "release", &digest, "-y"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains(&format!("release intent {}", &digest[..8])), "{}", ran.err);
    assert_eq!(lab.sent().last(), Some(&"intent.release"));
    let key = lab.qb(&["key", "export-public", "lyon-publisher"]).out;
    assert_eq!(lab.qb(&["bundle", "trust", "acme", key.trim(), "-y"]).code, 0);
    assert_eq!(lab.sent().last(), Some(&"publisher.add"));
}

#[test]
fn somebody_else_was_faster() {
    let lab = Lab::new(2);
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    lab.site.lock().refuse = Some(("stale_generation", "node/a is at generation 2, the intent expects 1"));
    let ran = lab.qb(&["node", "label", "lyon-r1-01", "zone=a", "-y"]);
    let last = ran.err.lines().last().unwrap();
    assert_eq!((ran.code, last), (3, "  qb node label lyon-r1-01 zone=a --plan"), "{ran:?}");
}

#[test]
fn a_removed_admin_is_not_asked_of_the_planner() {
    let lab = Lab::new(1);
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    assert_eq!(lab.qb(&["admin", "remove", "mira", "--confirm", "jon"]).code, 2);
    let ran = lab.qb(&["admin", "remove", "mira", "--confirm", "mira"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "no plan of nodes: {}", ran.err);
}

#[test]
fn taken_nodes_are_named_before_anything_is_signed() {
    let lab = Lab::new(2);
    assert_eq!(lab.qb(&["node", "authorize", "lyon-r1-01", "-y"]).code, 0);
    assert_eq!(lab.qb(&["cluster", "create", "clus101", "-y"]).code, 0);
    let ran = lab.qb(&["cluster", "attach", "clus101", "lyon-r1-02", "-y"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "lyon-r1-02 is not in the pool: it is waiting.\n  qb node authorize lyon-r1-02\n")
    );
}

#[test]
fn yaml_is_the_same_document() {
    let lab = Lab::new(1);
    let ran = lab.qb(&["node", "show", "lyon-r1-01", "-o", "yaml"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("v: 1\n") && ran.out.contains("\nname: lyon-r1-01\n"), "{}", ran.out);
    assert!(ran.out.contains("agent: \"0.1.0\""), "texts that look like numbers are quoted: {}", ran.out);
    assert_eq!(lab.qb(&["cluster", "list", "-o", "yaml"]).out.trim(), "[]");
}
