//! Takes what peers send: streams and gossip. Admission is checked again here, although the
//! swarm enforces it for connections: a stream or a fact may have been under way at a removal.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use libp2p::gossipsub::{Event, Message, MessageAcceptance};
use qb_model::NodeId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::SwarmTask;
use crate::admission::admit;
use crate::gossip::Topic;
use crate::handler::Lane;
use crate::identity::node_of;
use crate::limits::STREAMS_PER_LANE;
use crate::serve::Server;
use crate::streams::Inbound;

/// What one peer may use at once: of each lane by itself, so that none takes another's.
#[derive(Default)]
pub(super) struct Bounds(BTreeMap<Lane, LaneBounds>);

struct LaneBounds {
    requests: Arc<Semaphore>,
    /// Streams that are open, oldest first.
    open: VecDeque<CancellationToken>,
}

impl Bounds {
    /// Room for one more stream on a lane: requests that may run, and what ends it. A peer asks on one
    /// stream of a lane at a time, so that its oldest ones are dead when it comes with a further one.
    fn enter(&mut self, lane: Lane) -> (Arc<Semaphore>, CancellationToken) {
        let fresh = || LaneBounds {
            requests: Arc::new(Semaphore::new(lane.inbound())),
            open: VecDeque::with_capacity(STREAMS_PER_LANE),
        };
        let bounds = self.0.entry(lane).or_insert_with(fresh);
        bounds.open.retain(|stream| !stream.is_cancelled());
        while bounds.open.len() >= STREAMS_PER_LANE {
            if let Some(oldest) = bounds.open.pop_front() {
                oldest.cancel();
            }
        }
        let place = CancellationToken::new();
        bounds.open.push_back(place.clone());
        (bounds.requests.clone(), place)
    }
}

impl SwarmTask {
    /// Serves a stream on a task of its own, if its peer is a member.
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
        if lane.is_bulk() {
            self.links.mark_bulk(node, inbound.connection);
        }
        let (turns, place) = self.bounds.entry(node).or_default().enter(lane);
        let server = Server {
            from: node,
            lane,
            site: self.shared.site,
            handler: self.out.handler.clone(),
            turns,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_is_let_in_and_its_oldest_stream_of_that_lane_ends() {
        let mut bounds = Bounds::default();
        let (turns, control) = bounds.enter(Lane::Control);
        // A bulk connection that breaks again and again, whose ends this side has not heard of.
        let bulk: Vec<CancellationToken> = (0..20).map(|_| bounds.enter(Lane::Blob).1).collect();
        let open = |all: &[CancellationToken]| all.iter().filter(|stream| !stream.is_cancelled()).count();
        assert_eq!(open(&bulk), STREAMS_PER_LANE);
        assert_eq!(open(&bulk[bulk.len() - STREAMS_PER_LANE..]), STREAMS_PER_LANE, "the newest stay");
        assert!(!control.is_cancelled(), "no lane takes another's place");

        // Requests of blobs that all run leave those of control theirs.
        let (blobs, last) = bounds.enter(Lane::Blob);
        let held = blobs.clone().try_acquire_many_owned(Lane::Blob.inbound() as u32).expect("all of them");
        assert!(blobs.try_acquire().is_err());
        assert_eq!(turns.available_permits(), Lane::Control.inbound());
        drop(held);

        // A stream that ended by itself makes room without ending another.
        last.cancel();
        let (_, next) = bounds.enter(Lane::Blob);
        assert!(!bulk[bulk.len() - 1].is_cancelled() && !next.is_cancelled());
    }
}
