//! The full text of a plan.

use std::fmt::Write as _;

use crate::host_step::HostAction;
use crate::step::{Step, StepAction};

/// Every step with everything that it will do; file contents are shown whole. For people and for
/// golden tests: a change of this text is a change of what happens to a host.
pub fn render(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{step}");
        if let StepAction::Files { files } = &step.action {
            for file in files {
                let _ = writeln!(out, "       {} {:04o}", file.path, file.mode);
                for line in file.content.lines() {
                    let _ = writeln!(out, "         {line}");
                }
            }
        } else if let StepAction::Host { host: HostAction::Files { files } } = &step.action {
            for file in files {
                let _ = writeln!(out, "       {} {:04o}", file.place.path(), file.mode);
                for line in file.content.lines() {
                    let _ = writeln!(out, "         {line}");
                }
            }
        } else {
            detail(&mut out, &step.action);
        }
    }
    out
}

/// The members of an action, one a line.
fn detail(out: &mut String, action: &StepAction) {
    let value = match action {
        StepAction::Host { host } => serde_json::to_value(host),
        other => serde_json::to_value(other),
    };
    let Ok(serde_json::Value::Object(members)) = value else {
        return;
    };
    for (name, value) in members.iter().filter(|(name, _)| !matches!(name.as_str(), "action" | "do")) {
        let _ = match value {
            serde_json::Value::String(text) => writeln!(out, "       {name}: {text}"),
            other => writeln!(out, "       {name}: {other}"),
        };
    }
}
