//! What is kept inside clusters as the API shows it: pure functions.

use qb_model::action::{Label, Taint};
use qb_model::board::Board;
use qb_model::plan::why::keeping;
use qb_model::state::{Cluster, NodeMarks, NodeRecord, SiteState};
use qb_model::{HostName, Name};
use qb_portal::view::{AddonState, AddonView};

fn marks<'a>(state: &'a SiteState, record: &NodeRecord) -> Option<&'a NodeMarks> {
    state.cluster(record.phase.cluster()?)?.marks.get(&record.node)
}

/// Labels that qb keeps on a member's node.
pub fn labels(state: &SiteState, record: &NodeRecord) -> Vec<String> {
    let all = marks(state, record).map(|m| &*m.labels).unwrap_or_default();
    all.iter().map(|l| format!("{}={}", l.key, l.value)).collect()
}

/// Taints that qb keeps there.
pub fn taints(state: &SiteState, record: &NodeRecord) -> Vec<String> {
    let all = marks(state, record).map(|m| &*m.taints).unwrap_or_default();
    let value = |value: &str| if value.is_empty() { String::new() } else { format!("={value}") };
    all.iter().map(|t| format!("{}{}:{}", t.key, value(&t.value), t.effect.word())).collect()
}

/// What changes on a node, one line each.
pub fn planned(
    cluster: &Name,
    host: &HostName,
    now: Option<&NodeMarks>,
    (labels, taints): (&[Label], &[Taint]),
) -> Vec<String> {
    let words = |labels: &[Label], taints: &[Taint]| -> Vec<(String, String)> {
        let labels = labels.iter().map(|l| (format!("label {}", l.key), l.value.clone()));
        let taints = taints.iter().map(|t| (format!("taint {}:{}", t.key, t.effect.word()), t.value.clone()));
        labels.chain(taints).collect()
    };
    let had = now.map(|m| words(&m.labels, &m.taints)).unwrap_or_default();
    let wanted = words(labels, taints);
    let value = |value: &str| if value.is_empty() { String::new() } else { format!(" = {value}") };
    let mut lines = vec![format!("~ node {host}  of cluster {cluster}")];
    for (key, new) in &wanted {
        match had.iter().find(|(k, _)| k == key) {
            None => lines.push(format!("  + {key}{}", value(new))),
            Some((_, old)) if old != new => lines.push(format!("  ~ {key}  {old} > {new}")),
            Some(_) => {}
        }
    }
    let gone = had.iter().filter(|(key, _)| !wanted.iter().any(|(k, _)| k == key));
    lines.extend(gone.map(|(key, old)| format!("  - {key}{}", value(old))));
    lines
}

/// Add-ons; a removed one until the node that keeps it says that it is gone.
pub fn addons(state: &SiteState, board: &Board, cluster: &Cluster) -> Vec<AddonView> {
    let told: Vec<_> = keeping::told(state, board, cluster).collect();
    let view = cluster.addons.iter().map(|(name, addon)| {
        let said = told.iter().find(|kept| kept.addon.as_ref() == Some(name));
        let state = match said {
            None => AddonState::Waits,
            Some(kept) if kept.text.is_empty() => AddonState::Applied,
            Some(_) => AddonState::Failed,
        };
        AddonView {
            name: name.clone(),
            intent: addon.cites.digest,
            lines: addon.lines,
            removed: addon.removed,
            state,
            since: said.map_or(addon.at, |kept| kept.since),
            text: said.map(|kept| kept.text.clone()).unwrap_or_default(),
            remedy: said.map(|kept| kept.remedy.clone()).unwrap_or_default(),
        }
    });
    view.filter(|addon| !(addon.removed && addon.state == AddonState::Applied)).collect()
}

#[cfg(test)]
mod tests {
    use qb_model::Digest;
    use qb_model::action::TaintEffect;
    use qb_model::assignment::Citation;

    use super::*;

    #[test]
    fn a_plan_says_what_comes_changes_and_goes() {
        let label = |key: &str, value: &str| Label { key: key.into(), value: value.into() };
        let taint = |key: &str, value: &str| Taint {
            key: key.into(),
            effect: TaintEffect::NoSchedule,
            value: value.into(),
        };
        let before = NodeMarks {
            cites: Citation { digest: Digest([0; 32]), index: 1 },
            labels: vec![label("disk", "hdd"), label("old", "1"), label("rack", "r7")],
            taints: vec![taint("spare", "")],
        };
        let (cluster, host) = ("c1".parse().expect("a name"), "n1".parse().expect("a name"));
        let labels = [label("disk", "ssd"), label("new", "x"), label("rack", "r7")];
        let lines = planned(&cluster, &host, Some(&before), (&labels, &[taint("gpu", "a100")]));
        let want = [
            "~ node n1  of cluster c1",
            "  ~ label disk  hdd > ssd",
            "  + label new = x",
            "  + taint gpu:NoSchedule = a100",
            "  - label old = 1",
            "  - taint spare:NoSchedule",
        ];
        assert_eq!(lines, want);
        assert_eq!(planned(&cluster, &host, None, (&[], &[])), want[..1]);
    }
}
