//! The API's paths as functions.

use std::time::Duration;

use qb_model::attest::Attestation;
use qb_model::limits::ATTESTATION_BYTES;
use qb_model::preflight::Finding;
use qb_model::{Digest, Name, SiteId};
use qb_portal::limits::UPLOAD_ANSWER;
use qb_portal::paths;
use qb_portal::view::{
    AdminView, AlertView, AuditExport, BundleView, ClusterView, Head, IntentView, NodeView, PlanRequest,
    PlanView, PreflightRequest, PreflightView, SiteView, TokenView,
};

use super::sse::Events;
use super::{Client, Outgoing};
use crate::error::{CliError, Exit};

/// Records in one answer of the audit log.
const PAGE: u32 = 500;
/// Records that are read in all: half a gigabyte of memory is the bound.
const RECORDS: usize = 500_000;

/// What to do about a bundle that did not get through a relay. A refusal of the site itself has its own
/// way out.
pub fn not_by_relay(error: CliError) -> CliError {
    match error.exit {
        Exit::Unreachable | Exit::Failed => {
            error.remedy("push it at a door of the site: qb --door https://ADDRESS:8443 bundle push FILE")
        }
        _ => error,
    }
}

/// A client that asks about one site.
#[derive(Debug)]
pub struct Api {
    /// The client.
    pub client: Client,
    /// The site's id, as paths name it.
    pub site: String,
}

impl Api {
    /// About a site.
    pub fn new(client: Client, site: SiteId) -> Self {
        Self { client, site: site.to_string() }
    }

    /// The site.
    ///
    /// # Errors
    /// As every function here: the door does not answer, or answers with a problem.
    pub async fn site(&self) -> Result<SiteView, CliError> {
        self.client.get(&paths::site(&self.site)).await
    }
    /// Where the site stands.
    ///
    /// # Errors
    /// As above.
    pub async fn head(&self) -> Result<Head, CliError> {
        self.client.get(&paths::head(&self.site)).await
    }
    /// What voters signed, unverified.
    ///
    /// # Errors
    /// As above.
    pub async fn attestation(&self) -> Result<Attestation, CliError> {
        self.client.get_bounded(&paths::attestation(&self.site), ATTESTATION_BYTES).await
    }
    /// All nodes.
    ///
    /// # Errors
    /// As above.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, CliError> {
        let mut nodes: Vec<NodeView> = self.client.get(&paths::nodes(&self.site)).await?;
        nodes.iter_mut().for_each(own_words);
        Ok(nodes)
    }
    /// All clusters.
    ///
    /// # Errors
    /// As above.
    pub async fn clusters(&self) -> Result<Vec<ClusterView>, CliError> {
        self.client.get(&paths::clusters(&self.site)).await
    }
    /// A cluster.
    ///
    /// # Errors
    /// As above.
    pub async fn cluster(&self, name: &Name) -> Result<ClusterView, CliError> {
        self.client.get(&paths::cluster(&self.site, name.as_str())).await
    }
    /// All admins.
    ///
    /// # Errors
    /// As above.
    pub async fn admins(&self) -> Result<Vec<AdminView>, CliError> {
        self.client.get(&paths::admins(&self.site)).await
    }
    /// Join tokens that have not ended.
    ///
    /// # Errors
    /// As above.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, CliError> {
        self.client.get(&paths::tokens(&self.site)).await
    }
    /// All bundles.
    ///
    /// # Errors
    /// As above.
    pub async fn bundles(&self) -> Result<Vec<BundleView>, CliError> {
        self.client.get(&paths::bundles(&self.site)).await
    }
    /// Sends a bundle.
    ///
    /// # Errors
    /// As above.
    pub async fn push_bundle(&self, file: (u64, Outgoing)) -> Result<BundleView, CliError> {
        let sent = self.client.upload(&paths::bundles(&self.site), file, UPLOAD_ANSWER).await;
        if self.client.door().relay().is_some() { sent.map_err(not_by_relay) } else { sent }
    }
    /// Writes a bundle's file, and tells how many bytes came each time. Whatever comes is verified by the caller.
    ///
    /// # Errors
    /// As above, or the file cannot be written.
    pub async fn bundle_file(
        &self,
        digest: &Digest,
        to: &std::path::Path,
        told: impl FnMut(u64),
    ) -> Result<(), CliError> {
        let path = paths::bundle_file(&self.site, &digest.to_string());
        self.client.download_to(&path, to, told).await
    }
    /// Sends an envelope and waits for its outcome.
    ///
    /// # Errors
    /// As above. A rejection is an outcome, not an error.
    pub async fn submit(&self, envelope: Vec<u8>, wait: Duration) -> Result<IntentView, CliError> {
        self.client.send(&paths::submit(&self.site, wait), "application/json", envelope.into()).await
    }
    /// What became of an intent.
    ///
    /// # Errors
    /// As above.
    pub async fn intent(&self, digest: &Digest, wait: Duration) -> Result<IntentView, CliError> {
        self.client.get(&paths::intent(&self.site, &digest.to_string(), wait)).await
    }
    /// The latest intents.
    ///
    /// # Errors
    /// As above.
    pub async fn intents(&self) -> Result<Vec<IntentView>, CliError> {
        self.client.get(&paths::intents(&self.site)).await
    }
    /// What a payload would do.
    ///
    /// # Errors
    /// As above.
    pub async fn plan(&self, payload: String) -> Result<PlanView, CliError> {
        self.client.post(&paths::plan(&self.site), &PlanRequest { payload }).await
    }
    /// Checks nodes.
    ///
    /// # Errors
    /// As above.
    pub async fn preflight(&self, request: &PreflightRequest) -> Result<PreflightView, CliError> {
        let mut view: PreflightView = self.client.post(&paths::preflight(&self.site), request).await?;
        view.findings.sort_by_key(|f: &Finding| std::cmp::Reverse(f.severity));
        Ok(view)
    }
    /// Alerts.
    ///
    /// # Errors
    /// As above.
    pub async fn alerts(&self) -> Result<Vec<AlertView>, CliError> {
        self.client.get(&paths::alerts(&self.site)).await
    }
    /// Events after a number, or from now on.
    ///
    /// # Errors
    /// As above.
    pub async fn events(&self, after: Option<u64>) -> Result<Events, CliError> {
        Ok(Events::new(self.client.stream(&paths::events(&self.site, after)).await?))
    }
    /// The whole audit log, page by page.
    ///
    /// # Errors
    /// As above, or it has more records than are read.
    pub async fn audit(&self) -> Result<AuditExport, CliError> {
        let mut export: AuditExport = self.client.get(&paths::audit(&self.site, 1, PAGE)).await?;
        let mut page = export.records.len();
        while page > 0 {
            let from = export.records.last().map_or(0, |r| r.number) + 1;
            let next: AuditExport = self.client.get(&paths::audit(&self.site, from, PAGE)).await?;
            page = next.records.len();
            if export.records.len() + page > RECORDS {
                return Err(CliError::failed(format!("The audit log has more than {RECORDS} records.")));
            }
            export.head = next.head;
            export.records.extend(next.records);
        }
        Ok(export)
    }
}

/// Words and fingerprint are made of the key that a document names: nobody else's are shown.
fn own_words(node: &mut NodeView) {
    node.words = qb_model::words::words(&node.id.0).join(" ");
    node.fingerprint = qb_model::words::fingerprint(&node.id.0);
}
