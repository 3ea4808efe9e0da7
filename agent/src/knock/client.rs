//! The knocker's side: knocks at every seed until it is let in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use qb_mesh::KnockStream;
use qb_model::dsse::Purpose;
use qb_model::statement::{Knock, SealKeyRecord, SignedBytes, Statement as _};
use qb_model::{Digest, Millis, NodeId, Nonce};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::member::{SaidRevoked, verify_admit, verify_revoked};
use crate::node::Node;
use crate::rpc::{self, Admit, Challenge, KnockAnswer, TokenRefused};

/// Pause between two knocks at one seed: the listener takes one a second from an address.
const PAUSE: Duration = Duration::from_millis(1_100);
/// Pause after a seed did not answer.
const PAUSE_FAILED: Duration = Duration::from_millis(1_500);

/// How long a token that was refused is left out of the knocks at that seed.
const TOKEN_AGAIN: Duration = Duration::from_secs(20);

/// Why a knock led nowhere.
#[derive(Debug, thiserror::Error)]
enum KnockFailed {
    #[error("{0}")]
    Talk(String),
    #[error("the listener at {address} is of site {theirs}: check the seeds of the enrolment file")]
    OtherSite { address: SocketAddr, theirs: qb_model::SiteId },
    #[error("refused: {0}")]
    Refused(String),
    #[error("the join token does not let this machine in: {}", .0.text)]
    Token(TokenRefused),
}

/// Knocks until the node is a member. Ends early when it founded the site itself.
pub async fn run(node: Arc<Node>) {
    let mut seeds: Vec<SocketAddr> = node.enrolment.seeds.clone();
    seeds.retain(|s| *s != node.config.knock());
    node.wait_seal_key().await;
    let mut set = JoinSet::new();
    for seed in seeds {
        let node = node.clone();
        set.spawn(async move { knock_at(&node, seed).await });
    }
    let mut admitted = node.admitted.subscribe();
    tokio::select! {
        _ = admitted.wait_for(|a| *a) => {}
        () = node.cancel.cancelled() => {}
        () = async { while set.join_next().await.is_some() {} std::future::pending().await } => {}
    }
}

/// How long a member may be without any connection before it asks whether it still is one.
const LONELY_AFTER: Duration = Duration::from_secs(4);
/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// A member to which nobody speaks asks at the knock ports: it may have been revoked while it was
/// cut off, and members close its connections before they can say so.
pub async fn ask_when_lonely(node: Arc<Node>) {
    let Some(mesh) = node.mesh() else { return };
    let peers = mesh.watch_peers();
    let mut alone = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = node.cancel.cancelled() => return,
        }
        // One that closes right after its handshake is no company.
        let company = peers.borrow().values().any(|p| p.connected_since.elapsed() > LOOK);
        if *node.revoked.borrow() {
            return;
        }
        if company || !*node.admitted.borrow() || node.members().len() < 2 {
            alone = Duration::ZERO;
            continue;
        }
        alone += LOOK;
        if alone >= LONELY_AFTER {
            ask_once(&node).await;
            alone = Duration::ZERO;
        }
    }
}

/// Knocks once at every place where a member was seen, until one answers for good.
async fn ask_once(node: &Arc<Node>) {
    let port = node.config.knock_port;
    let seen = node.mesh().map(qb_mesh::Mesh::addresses).unwrap_or_default();
    let mut places: Vec<SocketAddr> = node.enrolment.seeds.clone();
    places.extend(seen.values().flatten().map(|a| SocketAddr::new(a.ip(), port)));
    places.sort();
    places.dedup();
    places.retain(|p| *p != node.config.knock());
    for place in places {
        match once(node, place, false).await {
            Ok(Some(())) => return,
            Ok(None) => {}
            Err(failed) => tracing::debug!(%place, "asking whether this node is a member: {failed}"),
        }
    }
}

async fn knock_at(node: &Arc<Node>, seed: SocketAddr) {
    let mut last = String::new();
    // Until when a refused token is left out, so that an administrator's word is heard at once.
    let mut without = Instant::now();
    loop {
        let pause = match once(node, seed, Instant::now() >= without).await {
            Ok(Some(())) => return,
            Ok(None) => PAUSE,
            Err(KnockFailed::Token(why)) => {
                without = Instant::now() + TOKEN_AGAIN;
                tell(&why, &mut last);
                PAUSE
            }
            Err(failed) => {
                let text = failed.to_string();
                if text != last {
                    tracing::debug!(%seed, "knock: {text}");
                    last = text;
                }
                PAUSE_FAILED
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Says once why a token does not let this machine in. What another site's listener says is cut and cleaned.
fn tell(why: &TokenRefused, last: &mut String) {
    let text = crate::text::clean(&why.text);
    if text == *last {
        return;
    }
    let remedy = why.remedy.as_deref().map(crate::text::clean).unwrap_or_default();
    tracing::warn!(
        "the join token does not let this machine in: {text}; {remedy}; it goes on knocking for an administrator: qb node authorize --waiting"
    );
    *last = text;
}

/// One knock. `Some` when the node was let in (or put out).
async fn once(node: &Arc<Node>, seed: SocketAddr, with_token: bool) -> Result<Option<()>, KnockFailed> {
    let talk = |e: &dyn std::fmt::Display| KnockFailed::Talk(e.to_string());
    let mesh = node.mesh().ok_or_else(|| KnockFailed::Talk("the mesh is not up".into()))?;
    let (listener, mut stream) = mesh.knock(seed, None).await.map_err(|e| talk(&e))?;
    let challenge: Challenge = receive(&mut stream).await?;
    if challenge.site != node.enrolment.site {
        return Err(KnockFailed::OtherSite { address: seed, theirs: challenge.site });
    }
    let nonce = Nonce(challenge.nonce);
    let token = node.token.as_ref().filter(|_| with_token);
    let used = token.map(|t| t.sign(node.enrolment.site, node.id(), listener, nonce));
    let knock = knock_with(node, listener, nonce, used)
        .ok_or_else(|| KnockFailed::Talk("the executor did not tell its key yet".into()))?;
    stream.send(knock.to_bytes().into()).await.map_err(|e| talk(&e))?;
    match receive(&mut stream).await? {
        KnockAnswer::Waiting { founded, token } => {
            if founded {
                node.note_founded(seed);
            }
            match token {
                Some(why) => Err(KnockFailed::Token(why)),
                None => Ok(None),
            }
        }
        KnockAnswer::Refused(why) => Err(KnockFailed::Refused(why)),
        KnockAnswer::Admit(admit) => {
            verify_admit(&admit, &node.enrolment.charter, node.id()).map_err(|e| talk(&e))?;
            come_in(node, *admit).map_err(|e| talk(&e))?;
            Ok(Some(()))
        }
        KnockAnswer::Revoked { envelope, trust_log } => {
            let said = SaidRevoked { envelope: &envelope, trust_log: &trust_log };
            let mode = verify_revoked(said, &node.enrolment.charter, &node.site().trust().head(), node.id())
                .map_err(|e| talk(&e))?;
            node.put_out(mode);
            Ok(Some(()))
        }
    }
}

async fn receive<T: serde::de::DeserializeOwned>(stream: &mut KnockStream) -> Result<T, KnockFailed> {
    let bytes = stream.recv().await.map_err(|e| KnockFailed::Talk(e.to_string()))?;
    rpc::decode(&bytes).map_err(|e| KnockFailed::Talk(e.to_string()))
}

/// A knock of this node for one listener and its challenge, once the executor told its key.
pub fn signed_knock(node: &Node, listener: NodeId, nonce: Nonce) -> Option<SignedBytes> {
    knock_with(node, listener, nonce, None)
}

fn knock_with(
    node: &Node,
    listener: NodeId,
    nonce: Nonce,
    token_use: Option<SignedBytes>,
) -> Option<SignedBytes> {
    let facts = node.facts();
    let knock = Knock {
        v: 1,
        site: node.enrolment.site,
        node: node.id(),
        listener,
        nonce,
        seal_key: seal_record(node)?,
        machine: machine_digest(),
        host: facts.host.clone(),
        facts: postcard::to_stdvec(&facts).unwrap_or_default(),
        agent_version: qb_exec::VERSION.to_owned(),
        addresses: vec![node.mesh_address().to_string()],
        token_use,
    };
    Some(knock.sign(&node.identity.key))
}

/// Digest of a knock of this node at itself: what stands for it where it is listed at its own door.
pub fn own_knock(node: &Node) -> Digest {
    let knock = signed_knock(node, node.id(), Nonce([0; 32]));
    // Without an executor's key there is no knock yet; the node's own key stands for it then.
    let bare = || qb_model::dsse::digest_of(Purpose::Knock.media_type(), &node.id().0);
    knock.map_or_else(bare, |knock| knock.digest(Purpose::Knock))
}

/// The node's seal key, signed by itself; none until the executor told it.
pub fn seal_record(node: &Node) -> Option<SignedBytes> {
    let record = SealKeyRecord {
        v: 1,
        site: node.enrolment.site,
        node: node.id(),
        key: node.seal_key()?,
        seq: 1,
        not_after: Millis(u64::from(u32::MAX) * 1_000),
    };
    Some(record.sign(&node.identity.key))
}

/// What tells this machine from a clone of its disk.
fn machine_digest() -> Digest {
    let id = std::fs::read("/etc/machine-id").unwrap_or_default();
    qb_model::dsse::digest_of(Purpose::Knock.media_type(), &id)
}

/// Takes in an admission that was verified.
pub fn come_in(node: &Node, admit: Admit) -> Result<(), crate::files::FileError> {
    let by_token = qb_model::token::Entry::is_one(&admit.envelope);
    node.keep(|held| {
        held.addresses.clone_from(&admit.members);
        held.voters.clone_from(&admit.voters);
        held.admit = Some(admit);
    })?;
    if !node.admitted.send_replace(true) {
        node.events.say(crate::events::now(), "node", node.facts().host.as_str(), "was let in");
        let by = if by_token {
            "by its join token, on probation"
        } else {
            "an administrator authorized this node"
        };
        tracing::info!("let in: {by}");
    }
    super::token::erase(node.config.join_token.as_deref(), &node.config.state);
    Ok(())
}
