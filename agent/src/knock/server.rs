//! The listener's side of a knock.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qb_mesh::KnockStream;
use qb_model::dsse::Purpose;
use qb_model::facts::Facts;
use qb_model::state::SiteState;
use qb_model::statement::{Knock, SealKeyRecord, Signed, SignedBytes, Statement as _};
use qb_model::{NodeId, Nonce};

use crate::node::Node;
use crate::rpc::{self, Admit, Challenge, KnockAnswer, Waiting};

/// How long an answer is held back while nobody has decided. Below the mesh's bound of a knock.
const HOLD: Duration = Duration::from_secs(8);
/// How long one is held back after a token was taken, which took up to four seconds.
const HOLD_IN: Duration = Duration::from_secs(4);

/// Hears one knock. Errors concern the knocker alone.
pub async fn hear(
    node: &Arc<Node>,
    from: NodeId,
    address: IpAddr,
    mut stream: KnockStream,
) -> Result<(), String> {
    let mut nonce = [0u8; 32];
    getrandom::fill(&mut nonce).map_err(|e| e.to_string())?;
    let challenge = Challenge { v: 1, site: node.enrolment.site, nonce };
    send(&mut stream, &challenge).await?;
    let bytes = stream.recv().await.map_err(|e| e.to_string())?;
    let answer = match read(node, from, &nonce, &bytes) {
        Ok((knock, waiting)) => decide(node, &knock, waiting, address).await,
        Err(why) => KnockAnswer::Refused(why),
    };
    send(&mut stream, &answer).await?;
    stream.close().await.map_err(|e| e.to_string())
}

async fn send<T: serde::Serialize>(stream: &mut KnockStream, message: &T) -> Result<(), String> {
    let bytes: Bytes = rpc::encode(message).map_err(|e| e.to_string())?;
    stream.send(bytes).await.map_err(|e| e.to_string())
}

/// Verifies a knock: signed by the very peer, for this listener, this site and this challenge.
fn read(
    node: &Node,
    from: NodeId,
    nonce: &[u8; 32],
    bytes: &[u8],
) -> Result<(Signed<Knock>, Waiting), String> {
    let signed = SignedBytes::from_bytes(Purpose::Knock, bytes, Knock::MAX)
        .and_then(|s| s.open::<Knock>())
        .map_err(|e| e.to_string())?;
    let knock = signed.value();
    if knock.node != from || knock.listener != node.id() || knock.nonce != Nonce(*nonce) {
        return Err("the knock answers another challenge".into());
    }
    if knock.site != node.enrolment.site {
        return Err(format!(
            "this is site {}, the enrolment file is of {}: get the file of this site",
            node.enrolment.site, knock.site
        ));
    }
    let seal = knock.seal_key.open::<SealKeyRecord>().map_err(|e| e.to_string())?;
    if seal.value().node != from || seal.value().site != node.enrolment.site {
        return Err("the seal key is another node's".into());
    }
    let facts: Facts = postcard::from_bytes(&knock.facts).map_err(|e| format!("facts: {e}"))?;
    let now = node.site_now();
    let waiting = Waiting {
        node: from,
        host: knock.host.clone(),
        knock: signed.digest(),
        facts: crate::text::clean_facts(facts),
        since: now,
        last: now,
        mesh: knock.addresses.clone(),
    };
    Ok((signed, waiting))
}

async fn decide(node: &Arc<Node>, knock: &Signed<Knock>, waiting: Waiting, address: IpAddr) -> KnockAnswer {
    let who = waiting.node;
    if let Some(answer) = verdict(node, &node.site(), &who, &waiting) {
        return answer;
    }
    node.knocks().heard(waiting.clone(), address);
    node.events_knock(&waiting);
    let mut hold = HOLD;
    if knock.value().token_use.is_some() && *node.admitted.borrow() {
        match super::token::enter(node, knock, address).await {
            // The rest of the knock's time is for this node's own copy to follow.
            Ok(()) => hold = HOLD_IN,
            Err(why) => {
                tracing::info!(host = %waiting.host, code = why.code, "a join token lets nobody in: {}", why.text);
                return KnockAnswer::Waiting { founded: true, token: Some(why) };
            }
        }
    }
    let mut state = node.state.clone();
    let before = *node.admitted.borrow();
    let decided = state.wait_for(|s| s.nodes().contains_key(&who) || s.tombstones().contains_key(&who));
    // A site that is founded meanwhile is told at once, so that the knocker's door founds no second one.
    let mut admitted = node.admitted.subscribe();
    tokio::select! {
        _ = decided => {}
        _ = admitted.wait_for(|now| *now && !before) => {}
        () = tokio::time::sleep(hold) => {}
    }
    verdict(node, &node.site(), &who, &waiting)
        .unwrap_or_else(|| KnockAnswer::Waiting { founded: *node.admitted.borrow(), token: None })
}

/// What the site has decided about a node, if it has.
fn verdict(node: &Node, state: &SiteState, who: &NodeId, waiting: &Waiting) -> Option<KnockAnswer> {
    if let Some(tomb) = state.tombstones().get(who) {
        let live = state.intents().get(&tomb.cites.digest)?;
        return Some(KnockAnswer::Revoked {
            envelope: live.envelope.clone(),
            trust_log: state.trust().log().to_vec(),
        });
    }
    let record = state.node(who)?;
    let live = state.intents().get(&record.authorized.digest)?;
    let mesh = node.mesh()?;
    mesh.learn_addresses(*who, waiting.mesh.iter().filter_map(|a| a.parse().ok()).collect());
    let mut addresses = mesh.addresses();
    addresses.entry(node.id()).or_default().insert(0, node.mesh_address());
    let members = state
        .nodes()
        .keys()
        .filter_map(|n| Some((*n, addresses.get(n)?.iter().map(ToString::to_string).collect())))
        .collect();
    node.knocks().prune(node.site_now(), |n| n != who);
    Some(KnockAnswer::Admit(Box::new(Admit {
        envelope: live.envelope.clone(),
        index: live.cites.index,
        trust_log: state.trust().log().to_vec(),
        members,
        voters: node.voters(),
    })))
}

impl Node {
    fn events_knock(&self, waiting: &Waiting) {
        if waiting.since == waiting.last {
            let known = self.knocks().list().iter().any(|w| w.node == waiting.node && w.since < w.last);
            if !known {
                self.events.say(waiting.last, "node", waiting.host.as_str(), "knocks");
            }
        }
    }
}
