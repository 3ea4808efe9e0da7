//! `qb preflight`: checks nodes and the network between them; changes nothing.

use qb_model::NodeId;
use qb_model::preflight::{Finding, Severity};
use qb_portal::view::{PreflightRequest, PreflightView};

use crate::args::Format;
use crate::args::rest::{PreflightArgs, PreflightVerb};
use crate::ctx::Ctx;
use crate::error::{CliError, Exit};
use crate::out::marks;
use crate::out::paint::Paint;
use crate::out::text::{clean, count, plural, span};

use super::node::{find, words};

/// Findings as lines: mark, code, subject, text; the remedy below.
pub fn findings(findings: &[Finding], paint: &Paint) -> String {
    let mut out = String::new();
    let code = findings.iter().map(|f| f.code.chars().count()).max().unwrap_or(0);
    let subject = findings.iter().map(|f| f.subject.chars().count()).max().unwrap_or(0);
    for finding in findings {
        let mark = paint.mark(marks::severity(finding.severity));
        let head = format!("{mark} {:<code$}", clean(&finding.code));
        let head = paint.tone(marks::severity(finding.severity), &head);
        out.push_str(&format!("{head}  {:<subject$}  {}\n", clean(&finding.subject), clean(&finding.text)));
        let indent = " ".repeat(mark.chars().count() + code + 3);
        for line in finding.remedy.lines() {
            out.push_str(&format!("{indent}{}\n", clean(line)));
        }
    }
    out
}

/// The line below: what was looked at.
pub fn summary(view: &PreflightView) -> String {
    let errors = view.findings.iter().filter(|f| f.severity == Severity::Error).count();
    let warnings = view.findings.len() - errors;
    let found = match (errors, warnings) {
        (0, 0) => "No finding".to_owned(),
        (e, 0) => plural(e, "error"),
        (0, w) => plural(w, "warning"),
        (e, w) => format!("{}, {}", plural(e, "error"), plural(w, "warning")),
    };
    let more = view
        .findings
        .first()
        .map(|f| format!("  More: qb preflight explain {}", clean(&f.code)))
        .unwrap_or_default();
    let hosts = plural(view.hosts as usize, "node");
    let pairs = plural(view.pairs as usize, "pair");
    format!("{found} in {hosts}, {pairs}, {} probes, {}.{more}", count(view.probes.into()), span(view.ms))
}

/// Runs the noun.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, args: PreflightArgs) -> Result<Exit, CliError> {
    if let Some(PreflightVerb::Explain { code }) = &args.verb {
        ctx.out.print(&explain(code)?)?;
        return Ok(Exit::Done);
    }
    let session = ctx.session().await?;
    let names = words(args.nodes)?;
    let mut nodes: Vec<NodeId> = Vec::new();
    if !names.is_empty() {
        let all = session.api.nodes().await?;
        for name in &names {
            nodes.push(find(&all, name)?.id);
        }
    }
    nodes.sort_unstable();
    nodes.dedup();
    let view = session.api.preflight(&PreflightRequest { nodes, driver: args.driver }).await?;
    match ctx.out.format {
        Format::Json | Format::Yaml => ctx.out.document(&view)?,
        _ => ctx.out.print(&findings(&view.findings, &ctx.out.paint))?,
    }
    ctx.out.hint(&summary(&view));
    let blocks = view.findings.iter().any(|f| f.severity == Severity::Error);
    Ok(if blocks { Exit::Findings } else { Exit::Done })
}

/// What a code means.
///
/// # Errors
/// No such code.
pub fn explain(code: &str) -> Result<String, CliError> {
    let code = clean(&code.to_ascii_uppercase());
    match qb_model::preflight::explain(&code) {
        Some(text) => Ok(format!("{code}\n  {text}\n")),
        None => {
            let known: Vec<&str> = qb_model::preflight::codes().collect();
            let error = CliError::usage(format!("No finding has the code {code}."));
            Err(match crate::config::nearest(&code, &known) {
                Some(near) => error.remedy(format!("qb preflight explain {near}")),
                None => error.remedy(format!("codes are {}", known.join(", "))),
            })
        }
    }
}
