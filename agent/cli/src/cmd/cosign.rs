//! `qb intent sign`: one more signature under an intent that waits for owners. The bytes come from a
//! file, or from the audit log; the sentence is made from them, and they are signed as they are.

use qb_model::Digest;
use qb_model::dsse::Purpose;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_portal::view::{IntentState, IntentView};

use crate::agree::Ask;
use crate::ctx::Session;
use crate::error::{CliError, sentence};
use crate::sentence::{self as words, Hosts};

use super::intent::{kept, resolve};

/// Runs the verb.
///
/// # Errors
/// What went wrong.
pub async fn run(session: &mut Session<'_>, text: &str) -> Result<(), CliError> {
    let (mut envelope, intent) = match kept(session, text)? {
        Some(bytes) => parse(&bytes)?,
        None => {
            let view = resolve(session, text).await?;
            waits(&view)?;
            logged(session, &view.digest).await?
        }
    };
    if intent.site != session.here.config.id {
        return Err(CliError::refused("The intent is for another site."));
    }
    let author = session.author().await?;
    let key = session.key()?.public;
    let mine = qb_model::key::KeyId { kind: qb_model::key::KeyKind::Ed25519, key }.to_string();
    if envelope.signatures().iter().any(|line| line.keyid == mine) {
        return Err(CliError::refused("Your key has signed this intent already.")
            .remedy(format!("another owner types: qb intent sign {text}")));
    }
    let nodes = session.api.nodes().await?;
    let hosts: Hosts = nodes.iter().map(|n| (n.id, n.name.clone())).collect();
    let what = words::of(&intent.action, &hosts);
    if let Some(mode) = session.ctx.globals.plan {
        let plan = session.plan(&intent).await?;
        return session.show_plan(&plan, mode, &format!("qb intent sign {text}"));
    }
    super::verify::guard(session).await?;
    session.agree(&author, &format!("{what} (ordered by {})", intent.by), &Ask::YesNo)?;
    envelope.approve(&session.key()?.secret);
    let view = session.keep_and_send(&intent, &envelope, false).await?;
    session.accepted(&view, &what, Some(&format!("qb intent show {text}")))
}

/// Whether an intent waits for signatures.
///
/// # Errors
/// It does not.
pub fn waits(view: &IntentView) -> Result<(), CliError> {
    if view.state == IntentState::Pending {
        return Ok(());
    }
    let word = crate::out::marks::intent(view.state).1;
    let id: String = view.id.as_str().chars().take(8).collect();
    Err(CliError::refused(format!("Intent {id} waits for no signature: it is {word}."))
        .remedy(format!("qb intent show {id}")))
}

fn parse(bytes: &[u8]) -> Result<(Envelope, Intent), CliError> {
    let wrong = |e: &dyn std::fmt::Display| CliError::usage(sentence(&e.to_string()));
    let envelope = Envelope::parse(bytes).map_err(|e| wrong(&e))?;
    if envelope.purpose() != Purpose::Intent {
        return Err(CliError::usage(format!("The envelope holds {}, not an intent.", envelope.purpose())));
    }
    let intent = Intent::parse(envelope.payload()).map_err(|e| wrong(&e))?;
    Ok((envelope, intent))
}

/// The signed bytes of an intent, from the newest record of the audit log that holds them.
async fn logged(session: &Session<'_>, digest: &Digest) -> Result<(Envelope, Intent), CliError> {
    let export = session.api.audit().await?;
    let records = super::audit::records(&export)?;
    let record = records.iter().rev().find(|r| r.digest == *digest);
    let record = record.ok_or_else(|| CliError::failed("The audit log does not hold this intent."))?;
    let (envelope, intent) = parse(&record.body)?;
    if envelope.digest() != *digest {
        return Err(CliError::failed("The audit log holds other bytes under this digest."));
    }
    Ok((envelope, intent))
}
