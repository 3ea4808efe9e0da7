//! `--where` and `--sort`.

use qb_cli::args::rest::RowArgs;
use qb_cli::out::rows::{NODES, Wanted};
use qb_portal::view::{NodeState, NodeView};

use crate::made::waiting_node;

fn nodes() -> Vec<NodeView> {
    let mut nodes: Vec<NodeView> = (1..=4).map(waiting_node).collect();
    nodes[0].state = NodeState::Attached;
    nodes[0].cluster = Some("clus100".parse().unwrap());
    nodes[1].state = NodeState::Pool;
    nodes[1].facts.as_mut().unwrap().disk_free_bytes = 10 << 30;
    nodes[1].facts.as_mut().unwrap().zone = "rack-2".into();
    nodes[1].report_age_ms = Some(90_000);
    nodes[2].facts = None;
    nodes
}

fn chosen(filter: &str, sort: Option<&str>) -> Result<Vec<String>, String> {
    let args = RowArgs { filter: Some(filter.to_owned()), sort: sort.map(str::to_owned) };
    let wanted = Wanted::read(&args, NODES).map_err(|e| e.lines().join("\n"))?;
    let mut rows = nodes();
    wanted.apply(&mut rows);
    Ok(rows.iter().map(|n| n.name.as_str().trim_start_matches("lyon-r1-").to_owned()).collect())
}

#[test]
fn every_term_must_fit() {
    let cases: [(&str, &[&str]); 13] = [
        ("", &["01", "02", "03", "04"]),
        ("state:waiting", &["03", "04"]),
        ("state:pool,attached", &["01", "02"]),
        ("STATE:Waiting zone:rack-1", &["04"]),
        ("disk>80", &["02"]),
        ("disk<=80%", &["01", "04"]),
        ("silent>1m", &["02"]),
        ("silent>2m", &[]),
        ("os:debian", &["01", "02", "04"]),
        ("cluster:clus100", &["01"]),
        ("cluster:clus10", &[]),
        ("lyon rack-2", &["02"]),
        ("cores=32", &["01", "02", "04"]),
    ];
    for (filter, names) in cases {
        assert_eq!(chosen(filter, None).unwrap(), names, "{filter}");
    }
}

#[test]
fn the_order_is_by_value_and_unknown_comes_last() {
    assert_eq!(chosen("", Some("disk")).unwrap(), ["01", "04", "02", "03"]);
    assert_eq!(chosen("", Some("-name")).unwrap(), ["04", "03", "02", "01"]);
}

#[test]
fn errors_name_the_term_and_the_known_ones() {
    let error = chosen("zone:a stat:pool", None).unwrap_err();
    assert!(error.starts_with("--where stat:pool: there is no stat; the nearest is state."), "{error}");
    assert!(error.contains("known: name, state, cluster"), "{error}");
    for (filter, said) in [
        ("disk>much", "disk takes a number"),
        ("state>3", "state takes : and a word"),
        ("silent>5", "silent takes a time"),
        ("zone:", "zone takes a word"),
    ] {
        let error = chosen(filter, None).unwrap_err();
        assert!(error.contains(said), "{filter}: {error}");
    }
    assert!(chosen("", Some("siz")).unwrap_err().contains("--sort siz: there is no siz"));
}
