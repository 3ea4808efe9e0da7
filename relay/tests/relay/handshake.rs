//! The handshake over a pipe: every byte that somebody on the way may change (S35).

use std::sync::Mutex;
use std::time::Duration;

use qb_link::handshake::{Preface, accept, answer, connect};
use qb_link::hello::{LinkAgent, LinkRelay};
use qb_link::noise::{NoiseStream, StaticKey};
use qb_link::{AgentEnd, AgentPeer, LinkError, RelayEnd, RelayPeer, Verdict, backoff, limits};
use qb_model::dsse::{Purpose, SecretKey, Signer};
use qb_model::statement::Statement as _;
use qb_model::{Digest, NodeId, PublicKey, SiteId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use crate::site::{key, public};

const RELAY: u8 = 200;
const NODE: u8 = 101;

/// How an end differs from a good one.
struct Ends {
    agent: Box<dyn Signer + Send + Sync>,
    relay: Box<dyn Signer + Send + Sync>,
    pin: PublicKey,
    host: &'static str,
    offers: &'static [u16],
    speaks: &'static [u16],
}

fn good() -> Ends {
    Ends {
        agent: Box::new(key(1, NODE)),
        relay: Box::new(key(1, RELAY)),
        pin: public(1, RELAY),
        host: "relay.example",
        offers: &[1],
        speaks: &[1],
    }
}

type Joined = (Result<(NoiseStream<DuplexStream>, RelayPeer), LinkError>, Result<AgentPeer, LinkError>);

/// Lets both ends meet; `edit` sees every message of the agent (0, 1, ...) with its length.
async fn meet(ends: Ends, mut edit: impl FnMut(usize, &mut Vec<u8>)) -> Joined {
    let (agent_io, mut agent_far) = duplex(4096);
    let (relay_io, relay_far) = duplex(4096);
    let noise = (StaticKey::generate().unwrap(), StaticKey::generate().unwrap());
    let agent_end = AgentEnd {
        signer: &*ends.agent,
        noise: &noise.0,
        site: SiteId(Digest([1; 32])),
        incarnation: 3,
        epoch: 1,
        host: ends.host,
        relay: ends.pin,
        versions: ends.offers,
    };
    let hosts = ["relay.example".to_owned()];
    let relay_end = RelayEnd { signer: &*ends.relay, noise: &noise.1, hosts: &hosts, versions: ends.speaks };
    let serve = async {
        let (mut stream, peer) = accept(relay_io, &relay_end).await?;
        answer(&mut stream, &Verdict::Welcome).await?;
        Ok(peer)
    };
    let (mut far_read, mut far_write) = tokio::io::split(relay_far);
    let (mut near_read, mut near_write) = tokio::io::split(&mut agent_far);
    let up = async {
        let mut at = 0;
        while let Ok(length) = near_read.read_u16().await {
            let mut bytes = vec![0; usize::from(length)];
            if near_read.read_exact(&mut bytes).await.is_err() {
                break;
            }
            edit(at, &mut bytes);
            at += 1;
            let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
            out.extend(bytes);
            if far_write.write_all(&out).await.is_err() {
                break;
            }
        }
    };
    let down = tokio::io::copy(&mut far_read, &mut near_write);
    let both = async { tokio::join!(connect(agent_io, &agent_end), serve) };
    let limit = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            joined = both => joined,
            () = async { tokio::join!(up, down).1.ok(); std::future::pending().await } => unreachable!("copying never ends this"),
        }
    });
    limit.await.expect("both ends end by themselves")
}

#[tokio::test]
async fn two_good_ends_meet() {
    let (agent, relay) = meet(good(), |_, _| ()).await;
    let ((_, relay_peer), agent_peer) = (agent.unwrap(), relay.unwrap());
    assert_eq!(relay_peer.relay, public(1, RELAY));
    assert_eq!(agent_peer.node.0, public(1, NODE).0);
    assert_eq!((agent_peer.incarnation, agent_peer.version, relay_peer.version), (3, 1, 1));
    assert_eq!(agent_peer.channel, relay_peer.channel);
}

#[tokio::test(start_paused = true)]
async fn whoever_edits_a_byte_on_the_way_makes_it_fail() {
    for message in 0..3 {
        for bit in [0, 77, 303] {
            let (agent, relay) = meet(good(), |at, bytes| {
                if at == message {
                    let place = bit % (bytes.len() * 8);
                    bytes[place / 8] ^= 1 << (place % 8);
                }
            })
            .await;
            assert!(agent.is_err() && relay.is_err(), "message {message}, bit {bit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn versions_cannot_be_edited_and_must_meet() {
    for edited in [vec![1], vec![1, 3], vec![2, 3]] {
        let (agent, relay) = meet(Ends { offers: &[1, 2], speaks: &[1, 2, 3], ..good() }, |at, bytes| {
            if at == 0 {
                let preface = Preface { host: "relay.example".into(), versions: edited.clone() };
                *bytes = postcard::to_stdvec(&preface).unwrap();
            }
        })
        .await;
        // Before anything signed is read: the prologues differ.
        assert!(matches!(agent, Err(LinkError::Noise(_))), "{edited:?}");
        assert!(relay.is_err());
    }
    let (agent, _) = meet(Ends { offers: &[1, 2], speaks: &[1, 2, 3], ..good() }, |_, _| ()).await;
    assert_eq!(agent.unwrap().1.version, 2);
    let (agent, relay) = meet(Ends { offers: &[2], ..good() }, |_, _| ()).await;
    assert!(matches!(agent, Err(LinkError::Mismatch { .. })) && relay.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_host_or_another_relay_is_refused() {
    let (agent, relay) = meet(Ends { host: "other.example", ..good() }, |_, _| ()).await;
    assert!(agent.is_err() && matches!(relay, Err(LinkError::Mismatch { .. })));
    // The host is put right on the way, so that the relay takes it: the agent dialled another one.
    let (agent, relay) = meet(Ends { host: "other.example", ..good() }, |at, bytes| {
        if at == 0 {
            let preface = Preface { host: "relay.example".into(), versions: vec![1] };
            *bytes = postcard::to_stdvec(&preface).unwrap();
        }
    })
    .await;
    assert!(agent.is_err() && relay.is_err());
    // A relay with another key than the pin.
    let (agent, relay) = meet(Ends { relay: Box::new(key(1, 201)), ..good() }, |_, _| ()).await;
    let Err(LinkError::Mismatch { what, .. }) = agent else { panic!("the pin must hold") };
    assert!(what.contains("the site trusts"), "{what}");
    assert!(relay.is_err());
    // The agent means another relay than the one that answers.
    let (agent, relay) = meet(Ends { pin: public(1, 201), ..good() }, |_, _| ()).await;
    assert!(agent.is_err() && relay.is_err());
}

/// Remembers signatures, to be used in another handshake.
struct Recorder(SecretKey, Mutex<Vec<[u8; 64]>>);

impl Signer for Recorder {
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }
    fn sign(&self, purpose: Purpose, body: &[u8]) -> [u8; 64] {
        let signature = self.0.sign(purpose, body);
        self.1.lock().unwrap().push(signature);
        signature
    }
}

/// Claims a key without having it.
struct Thief(PublicKey, [u8; 64]);

impl Signer for Thief {
    fn public_key(&self) -> PublicKey {
        self.0
    }
    fn sign(&self, _: Purpose, _: &[u8]) -> [u8; 64] {
        self.1
    }
}

/// Both a recorder and its copy.
struct Shared(std::sync::Arc<Recorder>);

impl Signer for Shared {
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }
    fn sign(&self, purpose: Purpose, body: &[u8]) -> [u8; 64] {
        self.0.sign(purpose, body)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_of_another_handshake_is_worth_nothing() {
    for agents in [true, false] {
        let number = if agents { NODE } else { RELAY };
        let recorder = std::sync::Arc::new(Recorder(key(1, number), Mutex::default()));
        let shared = || Box::new(Shared(recorder.clone()));
        let ends =
            if agents { Ends { agent: shared(), ..good() } } else { Ends { relay: shared(), ..good() } };
        let (agent, relay) = meet(ends, |_, _| ()).await;
        assert!(agent.is_ok() && relay.is_ok());
        let stolen = recorder.1.lock().unwrap()[0];
        let thief = Box::new(Thief(public(1, number), stolen));
        let ends = if agents { Ends { agent: thief, ..good() } } else { Ends { relay: thief, ..good() } };
        let (agent, relay) = meet(ends, |_, _| ()).await;
        assert!(agent.is_err() && relay.is_err(), "agents: {agents}");
    }
}

async fn send(io: &mut DuplexStream, bytes: &[u8]) {
    io.write_u16(bytes.len() as u16).await.unwrap();
    io.write_all(bytes).await.unwrap();
}

async fn receive(io: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(io.read_u16().await.unwrap())];
    io.read_exact(&mut bytes).await.unwrap();
    bytes
}

fn preface() -> Preface {
    Preface { host: "relay.example".into(), versions: vec![1] }
}

/// Sends a node's whole hello, which names the Noise key `named` and `relay`, over a connection whose
/// Noise key is `own`.
async fn send_hello(named: &StaticKey, own: &StaticKey, relay: PublicKey) -> Result<AgentPeer, LinkError> {
    let hello = LinkAgent {
        v: 1,
        site: SiteId(Digest([1; 32])),
        node: NodeId(public(1, NODE).0),
        noise: named.public(),
        incarnation: 3,
        epoch: 1,
        relay,
        versions: vec![1],
    };
    let hello = hello.sign(&key(1, NODE)).to_bytes();
    let (mut io, relay_io) = duplex(8192);
    let by_hand = async {
        let mut noise = own.initiator(&preface().prologue()).unwrap();
        let mut out = vec![0; 1024];
        send(&mut io, &postcard::to_stdvec(&preface()).unwrap()).await;
        let length = noise.write_message(&[], &mut out).unwrap();
        send(&mut io, &out[..length]).await;
        let message = receive(&mut io).await;
        noise.read_message(&message, &mut [0; 1024]).unwrap();
        let length = noise.write_message(&hello, &mut out).unwrap();
        send(&mut io, &out[..length]).await;
    };
    let (signer, noise) = (key(1, RELAY), StaticKey::generate().unwrap());
    let hosts = ["relay.example".to_owned()];
    let end = RelayEnd { signer: &signer, noise: &noise, hosts: &hosts, versions: &[1] };
    let (accepted, ()) = tokio::join!(accept(relay_io, &end), by_hand);
    accepted.map(|(_, peer)| peer)
}

#[tokio::test(start_paused = true)]
async fn a_whole_stolen_hello_does_not_fit_another_connection() {
    let victim = StaticKey::generate().unwrap();
    let thief = StaticKey::generate().unwrap();
    let error = send_hello(&victim, &thief, public(1, RELAY)).await.unwrap_err().to_string();
    assert!(error.contains("made for another connection"), "{error}");
    // Nor does the relay's: the thief answers for the pinned relay with its recorded hello.
    let hello = LinkRelay {
        v: 1,
        relay: public(1, RELAY),
        noise: victim.public(),
        host: "relay.example".into(),
        versions: vec![1],
    };
    let hello = hello.sign(&key(1, RELAY)).to_bytes();
    let (own, agents) = (StaticKey::generate().unwrap(), StaticKey::generate().unwrap());
    let (mut io, agent_io) = duplex(8192);
    let by_hand = async {
        receive(&mut io).await;
        let mut noise = own.responder(&preface().prologue()).unwrap();
        let message = receive(&mut io).await;
        noise.read_message(&message, &mut [0; 1024]).unwrap();
        let mut out = vec![0; 1024];
        let length = noise.write_message(&hello, &mut out).unwrap();
        send(&mut io, &out[..length]).await;
    };
    let signer = key(1, NODE);
    let end = AgentEnd {
        signer: &signer,
        noise: &agents,
        site: SiteId(Digest([1; 32])),
        incarnation: 3,
        epoch: 1,
        host: "relay.example",
        relay: public(1, RELAY),
        versions: &[1],
    };
    let (connected, ()) = tokio::join!(connect(agent_io, &end), by_hand);
    let error = connected.err().unwrap().to_string();
    assert!(error.contains("made for another connection"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_means_another_relay_is_refused_by_this_one() {
    // As if the agent's own check of the pin were gone.
    let own = StaticKey::generate().unwrap();
    let error = send_hello(&own, &own, public(1, 201)).await.unwrap_err().to_string();
    assert!(error.contains("the agent means the relay"), "{error}");
    assert!(send_hello(&own, &own, public(1, RELAY)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn recorded_bytes_played_again_are_refused() {
    let tape = Mutex::new(Vec::<Vec<u8>>::new());
    let (agent, relay) = meet(good(), |_, bytes| tape.lock().unwrap().push(bytes.clone())).await;
    assert!(agent.is_ok() && relay.is_ok());
    let (mut io, relay_io) = duplex(8192);
    let tape = tape.into_inner().unwrap();
    for bytes in &tape {
        io.write_u16(bytes.len() as u16).await.unwrap();
        io.write_all(bytes).await.unwrap();
    }
    let (signer, noise) = (key(1, RELAY), StaticKey::generate().unwrap());
    let hosts = ["relay.example".to_owned()];
    let end = RelayEnd { signer: &signer, noise: &noise, hosts: &hosts, versions: &[1] };
    assert!(matches!(accept(relay_io, &end).await, Err(LinkError::Noise(_))));
}

#[tokio::test(start_paused = true)]
async fn a_slow_or_boundless_handshake_ends() {
    let (signer, noise) = (key(1, RELAY), StaticKey::generate().unwrap());
    let hosts = ["relay.example".to_owned()];
    let end = RelayEnd { signer: &signer, noise: &noise, hosts: &hosts, versions: &[1] };
    let (_held, io) = duplex(64);
    let begun = tokio::time::Instant::now();
    assert!(matches!(accept(io, &end).await, Err(LinkError::Slow)));
    assert_eq!(begun.elapsed(), limits::HANDSHAKE);
    let (mut held, io) = duplex(64);
    held.write_all(&[0xff; 64]).await.unwrap();
    assert!(matches!(accept(io, &end).await, Err(LinkError::Form(_))));
}

#[test]
fn pauses_double_within_their_bounds() {
    let most = |attempt| backoff::pause(attempt, u64::MAX);
    for attempt in 0..100 {
        for random in [0, 1, 12_345, u64::MAX / 3, u64::MAX] {
            let pause = backoff::pause(attempt, random);
            assert!(pause >= limits::RETRY_MIN / 2 && pause <= limits::RETRY_MAX, "{attempt} {pause:?}");
        }
        assert!(backoff::pause(attempt + 1, 0) >= backoff::pause(attempt, 0));
    }
    assert!(most(0) <= limits::RETRY_MIN);
    assert!(backoff::pause(60, 0) == limits::RETRY_MAX / 2);
}
