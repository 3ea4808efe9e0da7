//! An intent through a relay: sent, then waited for until a node of the site signed for it.

use std::collections::BTreeSet;
use std::time::Duration;

use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::statement::Receipt;
use qb_model::{Digest, Millis, NodeId};
use qb_portal::view::IntentView;
use tokio::time::Instant;

use crate::change::{OUTCOME, verdict};
use crate::client::memory::{Memory, SeenHead};
use crate::ctx::Session;
use crate::error::CliError;
use crate::out::text::clean;
use crate::receipt::{self, ReceiptError};

/// How long the relay is asked to wait at first: a site that is there has signed by then.
const FIRST: Duration = Duration::from_secs(3);
/// How long it is asked to wait after that.
const AGAIN: Duration = Duration::from_secs(10);
/// Shortest pause between two questions, for a relay that answers at once.
const PAUSE: Duration = Duration::from_millis(200);

impl Session<'_> {
    /// Whether the door is a relay's.
    pub fn remote(&self) -> bool {
        self.api.client.door().relay().is_some()
    }

    /// The nodes that are proven to be of the site: by the signed log, and by what this computer
    /// authorized itself where the log cannot be had.
    pub(crate) async fn roster(&self) -> Result<BTreeSet<NodeId>, CliError> {
        let export = self.api.audit().await;
        let proven = export.and_then(|e| crate::cmd::audit::roster(&e, self.here.config.id));
        match proven {
            Ok(roster) => Ok(roster),
            Err(error) => {
                let known = Memory::load(&self.ctx.paths.memory(&self.here.name))?.nodes;
                if known.is_empty() {
                    self.ctx.out.trace(&format!("no roster: {}", error.text));
                }
                Ok(known)
            }
        }
    }

    /// Verifies the receipt of a view.
    async fn proof(&self, view: &IntentView) -> Result<Result<Receipt, ReceiptError>, CliError> {
        let site = self.here.config.id;
        let text = view.receipt.as_deref();
        if let Err(why) = receipt::open(text, site, &view.digest) {
            return Ok(Err(why));
        }
        let mut known = self.proven.lock().await;
        let first = receipt::verify(text, site, &view.digest, &known);
        // A node that came since the log was read, or the first look at it.
        if matches!(first, Err(ReceiptError::Stranger(_))) {
            *known = self.roster().await?;
            return Ok(receipt::verify(text, site, &view.digest, &known));
        }
        Ok(first)
    }

    /// A view of an intent as far as it is proven. A door of the site speaks for the site.
    ///
    /// # Errors
    /// The memory of this computer cannot be read.
    pub async fn honest(&self, view: IntentView) -> Result<IntentView, CliError> {
        if !self.remote() {
            return Ok(view);
        }
        let proof = self.proof(&view).await?;
        Ok(receipt::honest(view, proof.as_ref()))
    }

    /// Sends an envelope through a relay and waits for the site's word. Ctrl-C ends the waiting only.
    ///
    /// # Errors
    /// Refused, waits for signatures, or no node has signed for it: then that is said.
    pub async fn deliver_through(&self, envelope: Vec<u8>, digest: &Digest) -> Result<IntentView, CliError> {
        let expires = Envelope::parse(&envelope)
            .ok()
            .and_then(|e| Intent::parse(e.payload()).ok())
            .map(|intent| intent.expires_ms);
        tokio::select! {
            result = self.outcome(envelope, digest, expires) => result,
            _ = tokio::signal::ctrl_c() => {
                Err(CliError::interrupted("Interrupted. What was sent goes on, and is lost nowhere.")
                    .remedy(format!("qb intent show {digest} --watch")))
            }
        }
    }

    async fn outcome(
        &self,
        envelope: Vec<u8>,
        digest: &Digest,
        expires: Option<Millis>,
    ) -> Result<IntentView, CliError> {
        let globals = &self.ctx.globals;
        let limit = if globals.no_wait { Duration::ZERO } else { globals.wait.unwrap_or(OUTCOME) };
        let begun = Instant::now();
        let mut view = self.api.submit(envelope, limit.min(FIRST)).await?;
        let mut said = None;
        loop {
            if view.digest != *digest {
                return Err(CliError::failed(
                    "The relay answers for another intent than the one that was sent.",
                ));
            }
            let proof = self.proof(&view).await?;
            if let Ok(receipt) = &proof {
                let view = receipt::honest(view, Ok(receipt));
                self.saw(receipt)?;
                verdict(&view)?;
                return Ok(view);
            }
            view = receipt::honest(view, proof.as_ref());
            if let Some(error) = over(&view) {
                return Err(error);
            }
            let left = limit.saturating_sub(begun.elapsed());
            let place = receipt::place(&view, self.here.name.as_str(), expires, &self.ctx.out.clock());
            if left.is_zero() {
                return Err(unsigned(&view, &place));
            }
            let code = view.waiting_on.as_ref().map(|w| w.code.clone());
            if said.as_ref() != Some(&code) {
                self.ctx.out.hint(&format!("The relay says: {}.  Ctrl-C leaves it there.", clean(&place)));
                said = Some(code);
            }
            tokio::time::sleep(PAUSE).await;
            view = self.api.intent(digest, left.min(AGAIN)).await?;
        }
    }

    /// Remembers a head that a node signed. One that a relay only says would let it make this computer
    /// expect what never was.
    fn saw(&self, receipt: &Receipt) -> Result<(), CliError> {
        self.remember(|m| {
            if m.head.is_none_or(|seen| seen.index <= receipt.index) {
                m.head = Some(SeenHead { index: receipt.index, hash: receipt.head });
            }
        })
    }
}

/// An intent that the relay gave up.
fn over(view: &IntentView) -> Option<CliError> {
    let expired = view.reason.as_deref() == Some("relay_expired");
    expired.then(|| {
        let detail = view.detail.clone().unwrap_or_else(|| "it expired".to_owned());
        CliError::failed(format!("No node signed for it in time; {detail}."))
            .remedy("give the same command again: it is signed anew")
    })
}

/// The time to wait is over and no node has signed.
fn unsigned(view: &IntentView, place: &str) -> CliError {
    let text = match &view.detail {
        Some(detail) if detail.starts_with("the relay says ") && view.waiting_on.is_none() => {
            format!("Sent, and {detail}.")
        }
        _ => format!("Sent. The relay says: {place}."),
    };
    CliError::still_going(text).remedy(format!("qb intent show {} --watch", view.digest))
}
