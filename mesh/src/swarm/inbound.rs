//! Takes what peers send: streams and gossip. Admission is checked again here, although the
//! swarm enforces it for connections: a stream or a fact may have been under way at a removal.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::gossipsub::{Event, Message, MessageAcceptance};
use qb_model::NodeId;
use tokio::sync::Semaphore;

use super::SwarmTask;
use crate::admission::admit;
use crate::gossip::Topic;
use crate::handler::Lane;
use crate::identity::node_of;
use crate::limits::{INBOUND_PER_PEER, STREAMS_PER_PEER};
use crate::serve::Server;
use crate::streams::Inbound;

/// What one peer may use at once.
pub(super) struct Bounds {
    streams: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            streams: Arc::new(Semaphore::new(STREAMS_PER_PEER)),
            requests: Arc::new(Semaphore::new(INBOUND_PER_PEER)),
        }
    }
}

impl SwarmTask {
    /// Serves a stream on a task of its own, if its peer is a member and has a place left.
    pub(super) fn on_stream(&mut self, inbound: Inbound) {
        let Some(node) = node_of(&inbound.peer) else {
            return;
        };
        let Some(lane) = Lane::of_protocol(inbound.protocol.as_ref()) else {
            return;
        };
        if let Err(denied) = admit(&self.roster.borrow(), self.shared.own, node) {
            tracing::warn!(%node, ?denied, "stream refused");
            return;
        }
        if lane == Lane::Bulk {
            self.links.mark_bulk(node, inbound.connection);
        }
        let bounds = self.bounds.entry(node).or_default();
        let Ok(place) = bounds.streams.clone().try_acquire_owned() else {
            tracing::warn!(%node, "stream refused: {STREAMS_PER_PEER} are open");
            return;
        };
        let server = Server {
            from: node,
            lane,
            site: self.shared.site,
            handler: self.out.handler.clone(),
            turns: bounds.requests.clone(),
            place,
        };
        self.out.tasks.spawn(server.run(inbound.stream));
    }

    /// Passes a fact on to the handler and to others, if its signer is a member.
    pub(super) fn on_gossip(&mut self, event: Event) {
        let Event::Message { propagation_source, message_id, message } = event else {
            return;
        };
        let fact = self.judge(&message);
        let acceptance = if fact.is_some() { MessageAcceptance::Accept } else { MessageAcceptance::Reject };
        self.swarm.behaviour_mut().gossip.report_message_validation_result(
            &message_id,
            &propagation_source,
            acceptance,
        );
        if let Some((from, topic)) = fact
            && self.out.gossip.try_send((from, topic, Bytes::from(message.data))).is_err()
        {
            tracing::warn!(%from, topic = topic.name(), "gossip dropped: the handler is behind");
        }
    }

    fn judge(&self, message: &Message) -> Option<(NodeId, Topic)> {
        let from = node_of(message.source.as_ref()?)?;
        let topic = Topic::of_hash(&message.topic, &self.shared.site)?;
        admit(&self.roster.borrow(), self.shared.own, from).ok()?;
        Some((from, topic))
    }
}
