//! A plan as text: changes, nodes, steps, findings, digest.

use qb_model::action::NodeRole;
use qb_portal::view::{PlanView, PlannedNode};

use super::paint::{Paint, Tone};
use super::table::{Column, Table};
use super::text::{clean, plural, short_hash, short_hash_arg};
use crate::args::PlanMode;

/// A role in words.
pub fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::ControlPlane => "control plane",
        NodeRole::Worker => "worker",
    }
}

fn steps(node: &PlannedNode) -> usize {
    node.stages.iter().map(|s| s.steps.len()).sum()
}

fn nodes(plan: &PlanView, paint: &Paint) -> String {
    let mut table = Table::new([Column::new(""), Column::new(""), Column::new(""), Column::new("")]);
    for node in &plan.nodes {
        let leaving = node.stages.iter().any(|s| s.word == "leave");
        let sign = if leaving { "-" } else { "+" };
        let what = match (node.role, node.first) {
            (Some(r), true) => format!("{}, first", role(r)),
            (Some(r), false) => role(r).to_owned(),
            (None, _) => String::new(),
        };
        let name = format!("{sign} {}", node.host);
        table.row([name.into(), what.into(), node.zone.clone().into(), plural(steps(node), "step").into()]);
    }
    table.render(paint, false, None)
}

fn step_lines(node: &PlannedNode, out: &mut String) {
    let mut at = 0;
    for stage in &node.stages {
        for step in &stage.steps {
            at += 1;
            out.push_str(&format!("  {at:>3}  {:<10}  {}\n", clean(&stage.word), clean(step)));
        }
    }
}

/// The nodes whose steps are shown: all, or the first of each kind.
fn shown(plan: &PlanView, mode: PlanMode) -> Vec<&PlannedNode> {
    let mut kinds = Vec::new();
    plan.nodes
        .iter()
        .filter(|node| {
            let kind = (node.role, node.first, steps(node));
            let fresh = !kinds.contains(&kind);
            kinds.push(kind);
            steps(node) > 0 && (fresh || mode == PlanMode::Full)
        })
        .collect()
}

/// The whole plan. `again` is the command that would do exactly this.
pub fn render(plan: &PlanView, mode: PlanMode, again: &str, paint: &Paint) -> String {
    let mut out = String::new();
    if plan.rehearsal {
        let text = "rehearsal: real processes in folders, no Kubernetes";
        out.push_str(&format!("{}\n", paint.tone(Tone::Rehearsal, text)));
    }
    for change in &plan.changes {
        out.push_str(&format!("{}\n", clean(change)));
    }
    out.push_str(&nodes(plan, paint));
    for node in shown(plan, mode) {
        out.push_str(&format!("Steps on {}:\n", node.host));
        step_lines(node, &mut out);
    }
    out.push_str(&super::super::cmd::preflight::findings(&plan.findings, paint));
    if plan.findings.is_empty() && !plan.nodes.is_empty() {
        out.push_str("Preflight: no finding known now.\n");
    }
    if let Some(problem) = &plan.rejected {
        out.push_str(&format!(
            "{} It would be refused: {}\n",
            paint.marked(Tone::Broken),
            clean(&problem.detail)
        ));
        if let Some(remedy) = &problem.remedy {
            out.push_str(&format!("  {}\n", clean(remedy)));
        }
    }
    let at = super::text::count(plan.head.index);
    out.push_str(&format!("Nothing was changed. Digest {} at site state {at}.", short_hash(&plan.digest.0)));
    if plan.rejected.is_none() {
        out.push_str(&format!(" To do exactly this:\n  {again} --expect {}", short_hash_arg(&plan.digest.0)));
    }
    out.push('\n');
    out
}

/// Whether a digest is the one that a person typed: at least 8 hexadecimal digits of its beginning,
/// spaces allowed, or its whole text.
pub fn is_digest(plan: &PlanView, typed: &str) -> bool {
    let hex: String = plan.digest.0.iter().map(|b| format!("{b:02x}")).collect();
    let wanted = typed.replace(' ', "").to_ascii_lowercase();
    (wanted.len() >= 8 && hex.starts_with(&wanted)) || typed == plan.digest.to_string()
}
