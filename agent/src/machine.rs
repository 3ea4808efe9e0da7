//! The site's state machine behind consensus: applies entries and publishes the state.

use std::sync::Arc;

use qb_consensus::{Machine, MachineError};
use qb_model::state::SiteState;
use tokio::sync::watch;

use crate::attest::Captures;
use crate::events::Events;

/// The state that this replica applies, and who watches it.
pub struct SiteMachine {
    state: SiteState,
    published: watch::Sender<Arc<SiteState>>,
    events: Arc<Events>,
    captures: Arc<Captures>,
}

impl SiteMachine {
    /// A machine at the beginning of a site.
    pub fn new(beginning: SiteState, events: Arc<Events>) -> (Self, watch::Receiver<Arc<SiteState>>) {
        let (published, watched) = watch::channel(Arc::new(beginning.clone()));
        (Self { state: beginning, published, events, captures: Arc::default() }, watched)
    }

    /// Where states at indices that voters sign are kept.
    pub fn captures(&self) -> Arc<Captures> {
        self.captures.clone()
    }
}

impl Machine for SiteMachine {
    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Vec<u8>, MachineError> {
        let (applied, told) = self.state.apply(index, command).map_err(|e| MachineError(e.to_string()))?;
        self.captures.applied(&self.state);
        for happened in told {
            // The journal shows the sentence alone, and finds lines by what they are about.
            let of = |kind: &str| (happened.kind == kind).then_some(happened.subject.as_str());
            let (kind, cluster, intent) = (happened.kind, of("cluster"), of("intent"));
            tracing::info!(index, kind, cluster, intent, "{} {}", happened.subject, happened.text);
            self.events.say(happened.at, happened.kind, &happened.subject, happened.text);
        }
        postcard::to_stdvec(&applied).map_err(|e| MachineError(format!("outcome: {e}")))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.state.to_snapshot()
    }

    fn verify(&self, snapshot: &[u8]) -> Result<(), MachineError> {
        SiteState::from_snapshot(snapshot, &self.state).map(drop).map_err(|e| MachineError(e.to_string()))
    }

    fn install(&mut self, snapshot: &[u8]) -> Result<(), MachineError> {
        self.state =
            SiteState::from_snapshot(snapshot, &self.state).map_err(|e| MachineError(e.to_string()))?;
        Ok(())
    }

    fn applied_batch(&mut self, _last_index: u64) {
        self.published.send_replace(Arc::new(self.state.clone()));
    }
}
