//! `qb audit list|verify|export`: who ordered what. Verifying trusts nothing that a door says.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::action::Action;
use qb_model::chain::{AuditKind, AuditRecord, ChainProof, verify_chain};
use qb_model::charter::Charter;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::judge::verify_logged;
use qb_model::outcome::Outcome;
use qb_model::trust::{TrustState, required};
use qb_model::{NodeId, SiteId};
use qb_portal::view::AuditExport;

use crate::args::rest::AuditCommand;
use crate::client::memory::SeenHead;
use crate::ctx::{Ctx, Session};
use crate::error::{CliError, Exit, sentence};
use crate::files;
use crate::out::paint::Tone;
use crate::out::table::{Column, Table};
use crate::out::text::{count, short_hash};

use super::watch::{Shown, once};

/// Longest exported log in bytes.
const EXPORT_MAX: u64 = 1 << 30;

/// Runs a verb.
///
/// # Errors
/// What went wrong; a chain that breaks ends with exit 1.
pub async fn run(ctx: &Ctx, verb: AuditCommand) -> Result<Exit, CliError> {
    match verb {
        AuditCommand::List => list(&ctx.session().await?).await?,
        AuditCommand::Export => export(ctx).await?,
        AuditCommand::Verify { file: Some(file) } => {
            let bytes = files::read(&file, EXPORT_MAX)?;
            let export: AuditExport = serde_json::from_slice(&bytes).map_err(|e| {
                CliError::usage(format!("{} is not an exported audit log: {e}.", file.display()))
            })?;
            let site = ctx.here().ok().map(|h| h.config.id);
            let proof = verify(&export, site)?;
            let seen = ctx
                .here()
                .ok()
                .and_then(|h| crate::client::memory::Memory::load(&ctx.paths.memory(&h.name)).ok());
            proved(ctx, &export, &proof, seen.and_then(|m| m.head))?;
        }
        AuditCommand::Verify { file: None } => {
            let session = ctx.session().await?;
            let export = session.api.audit().await?;
            let proof = verify(&export, Some(session.here.config.id))?;
            let memory = crate::client::memory::Memory::load(&ctx.paths.memory(&session.here.name))?;
            proved(ctx, &export, &proof, memory.head)?;
            session
                .remember(|m| m.head = Some(SeenHead { index: proof.head.index, hash: proof.head.hash }))?;
        }
    }
    Ok(Exit::Done)
}

/// The records of an export.
///
/// # Errors
/// One cannot be decoded.
pub fn records(export: &AuditExport) -> Result<Vec<AuditRecord>, CliError> {
    let mut out = Vec::with_capacity(export.records.len());
    for view in &export.records {
        let wrong = || CliError::failed(format!("Record {} cannot be decoded.", view.number));
        let bytes = STANDARD.decode(&view.record).map_err(|_| wrong())?;
        out.push(postcard_record(&bytes).ok_or_else(wrong)?);
    }
    Ok(out)
}

fn postcard_record(bytes: &[u8]) -> Option<AuditRecord> {
    postcard::from_bytes(bytes).ok()
}

fn charter(export: &AuditExport, site: Option<SiteId>) -> Result<Charter, CliError> {
    let charter =
        Charter::verify(export.charter.as_bytes()).map_err(|e| CliError::failed(sentence(&e.to_string())))?;
    if site.is_some_and(|id| id != charter.site_id()) || charter.site_id() != export.site {
        return Err(CliError::failed(format!("The log is of another site: {}.", charter.site_id()))
            .remedy("--site NAME"));
    }
    Ok(charter)
}

/// Proves an export: signatures under the trust of their time, order, no gap.
///
/// # Errors
/// The first record that does not follow.
pub fn verify(export: &AuditExport, site: Option<SiteId>) -> Result<ChainProof, CliError> {
    let charter = charter(export, site)?;
    let records = records(export)?;
    let proof = verify_chain(charter.site_id(), &charter, &records)
        .map_err(|e| CliError::failed(sentence(&e.to_string())))?;
    if proof.head.hash != export.head {
        return Err(CliError::failed(format!(
            "The records end at {}, the log says {}.",
            short_hash(&proof.head.hash.0),
            short_hash(&export.head.0)
        ))
        .remedy("records are missing at the end: export it again, or ask another door"));
    }
    Ok(proof)
}

/// The nodes of the site by an export that proves itself: let in by somebody who might, and not
/// revoked since.
///
/// # Errors
/// The export does not prove itself.
pub fn roster(export: &AuditExport, site: SiteId) -> Result<BTreeSet<NodeId>, CliError> {
    let mut nodes = BTreeSet::new();
    if export.records.is_empty() {
        return Ok(nodes);
    }
    verify(export, Some(site))?;
    for record in records(export)? {
        if record.kind == AuditKind::TokenEntry
            && let Ok(entry) = qb_model::token::Entry::open(&record.body)
        {
            // What the chain proves: minted by an admin, live, with a use left.
            nodes.insert(entry.node());
            continue;
        }
        if record.kind != AuditKind::Intent || !matches!(record.outcome, Some(Outcome::Accepted { .. })) {
            continue;
        }
        let intent = Envelope::parse(&record.body).ok().and_then(|e| Intent::parse(e.payload()).ok());
        match intent.map(|intent| intent.action) {
            Some(Action::SiteFound { nodes: let_in } | Action::NodeAuthorize { nodes: let_in }) => {
                nodes.extend(let_in.iter().map(|n| n.node));
            }
            Some(Action::NodeRevoke { node, .. }) => {
                nodes.remove(&node);
            }
            _ => {}
        }
    }
    Ok(nodes)
}

/// Compares with a head that this computer saw: the log may only have grown.
///
/// # Errors
/// The log lost what was there.
pub fn compare(export: &AuditExport, seen: Option<SeenHead>) -> Result<Option<SeenHead>, CliError> {
    let Some(seen) = seen else { return Ok(None) };
    let same =
        seen.index == 0 || export.records.iter().any(|r| r.number == seen.index && r.head == seen.hash);
    if same {
        return Ok(Some(seen));
    }
    let have = export.records.last().map_or(0, |r| r.number);
    if have < seen.index {
        let text = format!(
            "The log ends at record {}, this computer saw record {}.",
            count(have),
            count(seen.index)
        );
        return Err(CliError::failed(text)
            .remedy("the door is behind, the file is older, or the site was rolled back: ask another door"));
    }
    let text = format!(
        "The log does not contain head {} of record {}, which this computer saw.",
        short_hash(&seen.hash.0),
        count(seen.index)
    );
    Err(CliError::failed(text)
        .remedy("the site was rolled back or forked: compare with another door and another admin"))
}

fn proved(
    ctx: &Ctx,
    export: &AuditExport,
    proof: &ChainProof,
    seen: Option<SeenHead>,
) -> Result<(), CliError> {
    let seen = compare(export, seen)?;
    if ctx.out.documents() {
        let document = serde_json::json!({
            "v": 1, "site": export.site, "entries": proof.head.index, "head": proof.head.hash,
            "accepted": proof.accepted, "rejected": proof.rejected, "pending": proof.pending,
            "commands": proof.commands, "entries_by_token": proof.entries, "ticks": proof.ticks, "compared": seen.map(|s| s.index),
        });
        return ctx.out.document(&document);
    }
    let intents = proof.accepted + proof.rejected + proof.pending;
    let until = match seen {
        Some(seen) => {
            format!("Complete up to record {}, the newest that this computer saw.", count(seen.index))
        }
        None => "Whether it is complete shows only against a head that somebody remembered.".to_owned(),
    };
    ctx.out.print(&format!(
        "{} {} entries: {} signed by admins, {} by nodes. Chain whole from founding ({}) to head {}.\n  {until}\n",
        ctx.out.paint.marked(Tone::Good),
        count(proof.head.index),
        count(intents),
        count(proof.commands),
        short_hash(&export.site.0.0),
        short_hash(&proof.head.hash.0),
    ))
}

/// The trust state that the log leads to, replayed here.
///
/// # Errors
/// The log does not prove it.
pub async fn trust(session: &Session<'_>) -> Result<TrustState, CliError> {
    let charter = session.ctx.charter(&session.here)?;
    let export = session.api.audit().await?;
    let mut trust = TrustState::from_charter(&charter);
    if export.records.is_empty() {
        return Ok(trust);
    }
    verify(&export, Some(session.here.config.id))?;
    for record in records(&export)? {
        if !matches!(record.outcome, Some(Outcome::Accepted { .. })) {
            continue;
        }
        let fail =
            |e: &dyn std::fmt::Display| CliError::failed(sentence(&format!("record {}: {e}", record.index)));
        let verified = verify_logged(&trust, &record.body, record.log_time).map_err(|e| fail(&e))?;
        if required(&verified.intent().action).trust {
            trust.apply(&verified, record.index, record.log_time, &|_| None).map_err(|e| fail(&e))?;
        }
    }
    Ok(trust)
}

async fn export(ctx: &Ctx) -> Result<(), CliError> {
    let session = ctx.session().await?;
    let export = session.api.audit().await?;
    let Some(path) = ctx.file() else { return ctx.out.document(&export) };
    let bytes =
        serde_json::to_vec(&export).map_err(|e| CliError::failed(format!("Cannot write JSON: {e}.")))?;
    files::write(path, &bytes, 0o600, false)?;
    let number = count(export.records.len() as u64);
    ctx.out.hint(&format!(
        "{number} entries in {}.  next: qb audit verify {}",
        path.display(),
        path.display()
    ));
    Ok(())
}

async fn list(session: &Session<'_>) -> Result<(), CliError> {
    let export = session.api.audit().await?;
    let clock = session.ctx.out.clock();
    let mut table = Table::new([
        Column::number("NUMBER", 9),
        Column::new("TIME"),
        Column::cut("BY", 5),
        Column::cut("WHAT", 2),
        Column::cut("OUTCOME", 4),
        Column::cut("HEAD", 1),
    ]);
    for record in &export.records {
        table.row([
            record.number.to_string().into(),
            clock.moment(record.at).into(),
            record.by.as_str().into(),
            record.sentence.as_str().into(),
            record.outcome.as_str().into(),
            short_hash(&record.head.0).into(),
        ]);
    }
    let text = session.ctx.out.render(&table);
    let items = export.records.into_iter().map(|r| (r.digest.to_string(), r)).collect();
    let footer = Some("Prove it: qb audit verify".to_owned());
    once(session.ctx, &Shown { items, text, footer, lines: Vec::new() }, true)
}
