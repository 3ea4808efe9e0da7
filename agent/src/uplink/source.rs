//! What a link sends of the site by itself, and how an admission that comes over it is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use qb_link::{Admission, Hints, RosterEntry, Source};
use qb_model::state::SiteState;
use qb_model::statement::SignedBytes;
use qb_model::trust::TrustEntry;
use qb_model::{Digest, Millis, NodeId, Nonce, PublicKey};

use crate::knock::client::{come_in, signed_knock};
use crate::member::{SaidRevoked, parse_addresses, verify_admit, verify_revoked};
use crate::node::Node;
use crate::rpc::Admit;

/// This node's own copy of the state, at one link.
pub(super) struct OwnState {
    pub(super) node: Arc<Node>,
    /// Whether it is the link of a node that waits.
    pub(super) waits: bool,
}

impl Source for OwnState {
    fn log_time(&self) -> Millis {
        self.node.site().log_time()
    }

    fn epoch(&self) -> u64 {
        self.node.site().epoch()
    }

    fn trust_after(&self, head: &Digest) -> Vec<TrustEntry> {
        let state = self.node.site();
        let trust = state.trust();
        if trust.head() == *head {
            return Vec::new();
        }
        let from = trust.log().iter().position(|entry| entry.parent == *head).unwrap_or_default();
        trust.log()[from..].to_vec()
    }

    fn roster_after(&self, index: u64) -> Vec<RosterEntry> {
        roster_after(&self.node.site(), index)
    }

    fn knock(&self, relay: PublicKey, nonce: Nonce) -> Option<SignedBytes> {
        self.waits.then(|| signed_knock(&self.node, NodeId(relay.0), nonce)).flatten()
    }

    fn hints(&self) -> Option<Hints> {
        if self.waits {
            return None;
        }
        let voters = self.node.voters();
        let state = self.node.site();
        let mut known = self.node.mesh().map(qb_mesh::Mesh::addresses).unwrap_or_default();
        known.insert(self.node.id(), vec![self.node.mesh_address()]);
        // Voters first: whoever comes in follows one.
        let others = state.nodes().keys().filter(|node| !voters.contains(node));
        let members = voters.iter().chain(others).filter_map(|node| {
            let addresses = known.get(node)?.iter().map(ToString::to_string).collect();
            Some((*node, addresses))
        });
        let members = members.take(qb_link::limits::HINTS).collect();
        Some(Hints { members, voters }.bounded())
    }

    fn admitted(&self, admission: Admission, trust: Vec<TrustEntry>) {
        if !self.waits {
            return;
        }
        let node = self.node.clone();
        self.node.tasks.spawn(async move {
            if let Err(why) = take(&node, admission, trust).await {
                tracing::warn!("the relay says that this node was let in: {why}");
            }
        });
    }

    fn revoked(&self, envelope: Vec<u8>, trust: Vec<TrustEntry>) {
        let node = self.node.clone();
        self.node.tasks.spawn(async move {
            let at = node.clone();
            // As long as the signatures of a whole trust log.
            let verified = tokio::task::spawn_blocking(move || {
                let said = SaidRevoked { envelope: &envelope, trust_log: &trust };
                verify_revoked(said, &at.enrolment.charter, &at.site().trust().head(), at.id())
            });
            match verified.await {
                Ok(Ok(mode)) => node.put_out(mode),
                Ok(Err(why)) => tracing::warn!("the relay says that this node was revoked: {why}"),
                // Only if this process ends.
                Err(_) => {}
            }
        });
    }
}

/// The intents that let members in and put former ones out, after a record of the audit chain. The
/// state keeps them as long as it rests on them, where the audit's oldest records may be gone.
fn roster_after(state: &SiteState, index: u64) -> Vec<RosterEntry> {
    let joined = state.nodes().values().map(|node| node.authorized.digest);
    let gone = state.tombstones().values().map(|tomb| tomb.cites.digest);
    let entries: BTreeMap<u64, RosterEntry> = joined
        .chain(gone)
        .filter_map(|digest| state.intents().get(&digest))
        .filter(|live| live.cites.index > index)
        .map(|live| {
            let (index, log_time) = (live.cites.index, live.at);
            (index, RosterEntry { index, log_time, envelope: live.envelope.clone() })
        })
        .collect();
    entries.into_values().collect()
}

/// Takes an admission: verified as one from a knock port is, since the relay's word is worth as little.
async fn take(node: &Arc<Node>, admission: Admission, trust_log: Vec<TrustEntry>) -> Result<(), String> {
    if node.membership().founding.is_some() {
        return Err("it founds the site itself".into());
    }
    let Hints { members, voters } = admission.hints.bounded();
    let Admission { index, envelope, .. } = Admission { hints: Hints::default(), ..admission };
    let admit = Admit { envelope, index, trust_log, members, voters };
    let at = node.clone();
    // As long as the signatures of a whole trust log.
    let verified = tokio::task::spawn_blocking(move || {
        verify_admit(&admit, &at.enrolment.charter, at.id()).map(|()| admit).map_err(|e| e.to_string())
    });
    let admit = verified.await.map_err(|e| e.to_string())??;
    if let Some(mesh) = node.mesh() {
        for (peer, addresses) in parse_addresses(&admit.members) {
            if peer != node.id() {
                mesh.learn_addresses(peer, addresses);
            }
        }
    }
    come_in(node, admit).map_err(|e| e.to_string())
}
