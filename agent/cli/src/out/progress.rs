//! A running change of a cluster, as a block of lines and as single lines.

use qb_model::preflight::Severity;
use qb_portal::view::{ClusterView, MemberView, StageView};

use super::paint::{Paint, Tone};
use super::text::{Clock, clean, plural, span};

/// Cells of a bar.
const BAR: usize = 16;

fn detail(cluster: &ClusterView, stage: &StageView) -> String {
    match stage.word.as_str() {
        "preflight" if stage.ended.is_some() => match cluster.findings.len() {
            0 => "no finding".to_owned(),
            n => plural(n, "finding"),
        },
        "preflight" => "checks nodes and the network between them".to_owned(),
        "initialize" => first(cluster).map(|m| m.host.to_string()).unwrap_or_default(),
        "ready" => cluster.endpoint.clone().unwrap_or_default(),
        _ => format!("{} of {}", stage.done, plural(stage.of as usize, "node")),
    }
}

/// The member that makes the cluster.
fn first(cluster: &ClusterView) -> Option<&MemberView> {
    let makes =
        |m: &&MemberView| m.done == "initialize" || m.work.as_ref().is_some_and(|w| w.stage == "initialize");
    cluster.members.iter().find(makes).or_else(|| cluster.members.first())
}

fn member_line(member: &MemberView, word: &str, host: usize, clock: &Clock, paint: &Paint) -> Option<String> {
    let name = format!("{:<host$}", member.host.as_str());
    if let Some(work) = member.work.as_ref().filter(|w| w.stage == word) {
        let done = u64::from(work.step.saturating_sub(1)) + u64::from(work.state == "done");
        let bar = paint.bar(done, work.steps.into(), BAR);
        if let Some(error) = &work.error {
            return Some(format!("{name}  {bar}  {}", paint.tone(Tone::Broken, &clean(error))));
        }
        let age = clock.ago(work.since);
        return Some(format!(
            "{name}  {bar}  {} of {}  {}  {age}",
            work.step,
            work.steps,
            clean(&work.title)
        ));
    }
    let waiting = member.waiting_on.as_ref()?;
    Some(format!("{name}  {}  {}", paint.bar(0, 1, BAR), super::waiting::short(waiting)))
}

/// The block: one line a stage, one line a node that works or waits.
pub fn block(cluster: &ClusterView, label: &str, clock: &Clock, paint: &Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if cluster.rehearsal {
        let text = format!("rehearsal {}: real processes in folders, no Kubernetes", cluster.name);
        lines.push(paint.tone(Tone::Rehearsal, &text));
    }
    let host = cluster.members.iter().map(|m| m.host.as_str().len()).max().unwrap_or(0);
    for stage in &cluster.stages {
        let Some(began) = stage.began else { continue };
        if let Some(ended) = stage.ended {
            let took = span(ended.since(began));
            let text = detail(cluster, stage);
            lines.push(format!(
                "{} {:<11}  {text:<24}  {took:>9}",
                paint.marked(Tone::Good),
                clean(&stage.word)
            ));
            continue;
        }
        let working = cluster.members.iter().filter_map(|m| member_line(m, &stage.word, host, clock, paint));
        let mut head = format!("{} {:<11}", paint.marked(Tone::Busy), clean(&stage.word));
        let mut any = false;
        for line in working {
            lines.push(format!("{head}  {line}"));
            head = " ".repeat(paint.mark(Tone::Busy).chars().count() + 12);
            any = true;
        }
        if !any {
            let took = span(clock.now.since(began));
            lines.push(format!("{head}  {:<24}  {took:>9}", detail(cluster, stage)));
        }
    }
    if let Some(waiting) = &cluster.waiting_on {
        lines.extend(super::waiting::lines(waiting, clock).into_iter().map(|l| format!("  {l}")));
    }
    lines.push(format!("  {label}   Ctrl-C leaves it running"));
    lines
}

/// What is new, one line each: `10:42:07 join lyon-r2-02 started`.
pub fn changes(before: Option<&ClusterView>, after: &ClusterView, clock: &Clock) -> Vec<String> {
    let mut lines = Vec::new();
    let old_stage = |word: &str| before.and_then(|b| b.stages.iter().find(|s| s.word == word));
    for stage in &after.stages {
        let old = old_stage(&stage.word);
        let word = clean(&stage.word);
        if let Some(began) = stage.began
            && old.and_then(|s| s.began) != Some(began)
        {
            lines.push(format!("{} {word} started", clock.time(began)));
        }
        if let Some(ended) = stage.ended
            && old.and_then(|s| s.ended) != Some(ended)
        {
            lines.push(format!("{} {word} done: {}", clock.time(ended), detail(after, stage)));
        }
    }
    for member in &after.members {
        lines.extend(member_change(before, member, clock));
    }
    lines
}

fn member_change(before: Option<&ClusterView>, member: &MemberView, clock: &Clock) -> Option<String> {
    let old = before.and_then(|b| b.members.iter().find(|m| m.node == member.node));
    let work = member.work.as_ref()?;
    let was = old.and_then(|m| m.work.as_ref());
    let at = clock.time(work.since);
    let (stage, host) = (clean(&work.stage), &member.host);
    if let Some(error) = &work.error {
        let told = was.is_some_and(|w| w.error.as_ref() == Some(error));
        return (!told).then(|| format!("{at} {stage} {host} failed: {}", clean(error)));
    }
    let told = was.is_some_and(|w| w.stage == work.stage);
    (!told && work.state != "done").then(|| format!("{at} {stage} {host} started"))
}

/// Findings that stop the change.
pub fn errors(cluster: &ClusterView) -> usize {
    cluster.findings.iter().filter(|f| f.severity == Severity::Error).count()
}
