//! Small, signed, rare facts to everybody. Never a command, and every fact has a pull besides.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, IdentityTransform, Message, MessageAuthenticity, MessageId,
    TopicHash, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use sha2::{Digest as _, Sha256};

use crate::error::MeshError;
use crate::limits::GOSSIP_MESSAGE;

/// Gossip with a fixed list of topics.
pub(crate) type Gossip = Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// Fewest neighbours per topic before more are looked for.
const MESH_LOW: usize = 2;
/// Neighbours per topic that are aimed at.
const MESH: usize = 4;
/// Most neighbours per topic.
const MESH_HIGH: usize = 8;
/// Neighbours that this node chose itself, so that nobody can surround it.
const MESH_OUTBOUND: usize = 1;
/// How often neighbours are adjusted; costs at most 0.13 % of a core at this interval.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a fact is remembered. Longer than its way through the mesh (neighbours offer what they
/// heard in the last five heartbeats), and short, since until then it cannot be published again.
const REMEMBERED: Duration = Duration::from_secs(15);
/// Until the first adjustment after start.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(200);

/// What a gossiped fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Who is a member, where, and since which epoch.
    Roster,
    /// Leader, voters, state index, gateways, liveness verdicts.
    Site,
    /// What a person has to see.
    Alarm,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 3] = [Self::Roster, Self::Site, Self::Alarm];

    /// The topic's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Roster => "roster",
            Self::Site => "site",
            Self::Alarm => "alarm",
        }
    }

    /// The topic of one site; two sites never share one.
    pub(crate) fn of_site(self, site: &[u8; 32]) -> IdentTopic {
        let tag: String = site[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        IdentTopic::new(format!("/qb/{tag}/{}/1", self.name()))
    }

    /// The topic with that hash, if it is one of this site's.
    pub(crate) fn of_hash(hash: &TopicHash, site: &[u8; 32]) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.of_site(site).hash() == *hash)
    }
}

/// One fact by one signer is one message, however often it is published and by whichever way it
/// comes. The signer is part of it: the same verdict by two voters is two facts.
fn message_id(message: &Message) -> MessageId {
    let mut hash = Sha256::new();
    for part in [
        message.topic.as_str().as_bytes(),
        &message.source.map(|peer| peer.to_bytes()).unwrap_or_default(),
        &message.data,
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    MessageId::from(hash.finalize().to_vec())
}

/// Sets gossip up and subscribes to every topic of the site.
pub(crate) fn build(key: &Keypair, site: &[u8; 32]) -> Result<Gossip, MeshError> {
    let setup = |reason: String| MeshError::Setup { part: "gossip", reason };
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .mesh_n_low(MESH_LOW)
        .mesh_n(MESH)
        .mesh_n_high(MESH_HIGH)
        .mesh_outbound_min(MESH_OUTBOUND)
        .flood_publish(true)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(FIRST_HEARTBEAT)
        .duplicate_cache_time(REMEMBERED)
        .max_transmit_size(GOSSIP_MESSAGE)
        .build()
        .map_err(|error| setup(error.to_string()))?;
    let topics: HashSet<TopicHash> = Topic::ALL.into_iter().map(|topic| topic.of_site(site).hash()).collect();
    let mut gossip = Gossip::new_with_subscription_filter(
        MessageAuthenticity::Signed(key.clone()),
        config,
        WhitelistSubscriptionFilter(topics),
    )
    .map_err(|reason| setup(reason.to_owned()))?;
    for topic in Topic::ALL {
        gossip.subscribe(&topic.of_site(site)).map_err(|error| setup(error.to_string()))?;
    }
    Ok(gossip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_two_sites_differ() {
        for topic in Topic::ALL {
            let hash = topic.of_site(&[1; 32]).hash();
            assert_eq!(Topic::of_hash(&hash, &[1; 32]), Some(topic));
            assert_eq!(Topic::of_hash(&hash, &[2; 32]), None);
        }
    }

    #[test]
    fn one_fact_by_one_signer_is_one_message() {
        let message = |source: u8, data: &str, number: u64| Message {
            source: Some(crate::identity::peer_of(qb_model::NodeId([source; 32]))),
            data: data.into(),
            sequence_number: Some(number),
            topic: Topic::Site.of_site(&[1; 32]).hash(),
        };
        assert_eq!(message_id(&message(1, "a", 1)), message_id(&message(1, "a", 2)));
        assert_ne!(message_id(&message(1, "a", 1)), message_id(&message(2, "a", 1)));
        assert_ne!(message_id(&message(1, "a", 1)), message_id(&message(1, "b", 1)));
    }

    #[test]
    fn the_settings_are_consistent() {
        let key = Keypair::generate_ed25519();
        assert!(build(&key, &[1; 32]).is_ok());
    }
}
