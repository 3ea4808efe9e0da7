//! A relay that holds its own key and does with a site's link whatever it likes: it drops, delays,
//! reorders, doubles, replays, cuts off, edits, mixes sites and swaps keys, in random schedules.
//! Whatever it does: the site changes by intents that an admin of this site signed, each at most
//! once, and each that arrived whole has an outcome and a receipt (security rule S26).
//!
//! `QB_RELAY_SCHEDULES=n` runs n of them, `QB_RELAY_SEED=n` the site with that number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use qb_link::noise::StaticKey;
use qb_link::ws::{self, WsIo};
use qb_link::{Mux, MuxEnd, Push, RelayEnd, Stream, Told, Verdict, handshake, mux, push};
use qb_model::action::Action;
use qb_model::chain::AuditKind;
use qb_model::dsse::Signer as _;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::outcome::Outcome;
use qb_model::statement::Receipt;
use qb_model::{Digest, Name};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::agent::FakeAgent;
use crate::site::{FakeSite, OLGA, key};

/// Schedules of a run that is not told otherwise.
const SCHEDULES: u64 = 10_000;
/// Schedules that one site goes through.
const EACH: u64 = 50;
/// Receipts of one site: no schedule delivers more.
const RECEIPTS: usize = 4_096;
/// Sites at a time.
const AT_ONCE: usize = 3;
/// How long the link may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }
}

/// The relay's end of one link, in the wrong hands.
struct Hostile {
    mux: Mux,
    receipts: mpsc::Receiver<Receipt>,
    tasks: Vec<JoinHandle<()>>,
}

impl Hostile {
    /// Waits for the agent and lets it in.
    async fn accept(listener: &TcpListener, host: &str) -> Self {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let socket = tokio_tungstenite::accept_async_with_config(tcp, Some(ws::config())).await.unwrap();
        let (signer, noise) = (key(0, 0), StaticKey::generate().unwrap());
        let hosts = [host.to_owned()];
        let end = RelayEnd { signer: &signer, noise: &noise, hosts: &hosts, versions: &[1] };
        let (mut stream, _) = handshake::accept(WsIo::new(socket), &end).await.unwrap();
        handshake::answer(&mut stream, &Verdict::Welcome).await.unwrap();
        let (mux, mut incoming, driver) = mux::streams(stream, MuxEnd::Relay);
        let driver = tokio::spawn(async move { drop(driver.await) });
        let pushed = incoming.recv().await.unwrap();
        let (tell, receipts) = mpsc::channel(RECEIPTS);
        let listen = tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(pushed);
            let held = Told::Held { trust: Digest([0; 32]), roster: 0 };
            push::write(&mut to, &held).await.unwrap();
            to.flush().await.unwrap();
            while let Ok(Some(message)) = push::read::<_, Push>(&mut from).await {
                if let Push::Receipt(bytes) = message {
                    tell.try_send(bytes.open::<Receipt>().unwrap().into_value()).unwrap();
                }
            }
        });
        Self { mux, receipts, tasks: vec![driver, listen] }
    }

    /// Begins to send an intent: everything but the last bytes.
    async fn begin(&self, site: &str, body: &[u8], sent: usize) -> Stream {
        let mut stream = self.mux.open().await.unwrap();
        let head = format!(
            "POST /v1/sites/{site}/intents?wait=0s HTTP/1.1\r\nhost: site\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..sent]).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }

    /// Sends the rest and reads the status.
    async fn finish(mut stream: Stream, rest: &[u8]) -> u16 {
        stream.write_all(rest).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.expect("the site answers").unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status: {text}"))
    }

    async fn send(&self, site: &str, body: &[u8]) -> u16 {
        Self::finish(self.begin(site, body, 0).await, body).await
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One site, its hostile relay, and what its admin signed.
struct Play {
    random: Random,
    site: Arc<FakeSite>,
    /// Another site of the same admin: what was signed for it must not count here.
    other: Arc<FakeSite>,
    relay: Hostile,
    _agent: FakeAgent,
    signed: BTreeMap<Digest, Action>,
    /// Envelopes that the relay has in its hands.
    held: Vec<Vec<u8>>,
    /// Those that arrived whole.
    arrived: BTreeSet<Digest>,
    /// Sent in part; the rest may follow.
    open: Vec<(Stream, Vec<u8>, usize)>,
    made: usize,
    /// Records of the chain before the relay came.
    before: u64,
}

impl Play {
    async fn begin(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let url = format!("http://{host}");
        let relay_key = key(0, 0).public_key();
        let site = FakeSite::founded(1, "plant", &url, relay_key);
        let other = FakeSite::founded(1, "forge", &url, relay_key);
        // Labels of two sites never meet: they are random.
        other.skip_labels(1_000_000);
        let agent = FakeAgent::start(&site, 101, &url);
        let relay = Hostile::accept(&listener, &host).await;
        let before = site.lock().chain_head().0;
        Self {
            random: Random::new(seed),
            site,
            other,
            relay,
            _agent: agent,
            signed: BTreeMap::new(),
            held: Vec::new(),
            arrived: BTreeSet::new(),
            open: Vec::new(),
            made: 0,
            before,
        }
    }

    /// The admin signs something and hands it to the relay.
    fn sign(&mut self) {
        self.made += 1;
        let action = match self.random.below(3) {
            0 => Action::ClusterCreate {
                cluster: format!("c{}", self.made).parse().unwrap(),
                driver: "rehearsal".parse().unwrap(),
                version: "0.1.0".parse().unwrap(),
                bundle: Digest([5; 32]),
                settings: None,
            },
            _ => self.site.label(&format!("v{}", self.made)),
        };
        let envelope = self.site.sign("olga", action.clone(), OLGA);
        self.signed.insert(digest(&envelope), action);
        self.held.push(envelope);
    }

    fn pick(&mut self) -> Option<Vec<u8>> {
        let at = self.random.below(self.held.len());
        self.held.get(at).cloned()
    }

    /// One thing that the relay does.
    async fn step(&mut self) {
        let what = self.random.below(12);
        let Some(envelope) = self.pick() else { return self.sign() };
        match what {
            0 | 1 => self.sign(),
            2 => self.deliver(&envelope).await,
            3 => self.twice(&envelope).await,
            4 if self.held.len() > 4 => self.drop_one(),
            4 => self.sign(),
            5 => self.cut_off(&envelope).await,
            6 => self.delay(envelope).await,
            7 => self.edited(&envelope).await,
            8 => self.own_key(&envelope).await,
            9 => self.other_site().await,
            10 => self.unsigned(&envelope).await,
            _ => self.noise().await,
        }
    }

    async fn deliver(&mut self, envelope: &[u8]) {
        let status = self.relay.send("plant", envelope).await;
        assert!(matches!(status, 200 | 202), "{status}");
        self.arrived.insert(digest(envelope));
    }

    /// The same one on two streams at once.
    async fn twice(&mut self, envelope: &[u8]) {
        let (one, two) = tokio::join!(self.relay.send("plant", envelope), self.relay.send("plant", envelope));
        assert!(matches!((one, two), (200 | 202, 200 | 202)), "{one} {two}");
        self.arrived.insert(digest(envelope));
    }

    fn drop_one(&mut self) {
        let at = self.random.below(self.held.len());
        self.held.swap_remove(at);
    }

    /// Ends in the middle.
    async fn cut_off(&mut self, envelope: &[u8]) {
        let sent = self.random.below(envelope.len());
        drop(self.relay.begin("plant", envelope, sent).await);
    }

    /// Sends a part now; the rest comes after whatever else happens.
    async fn delay(&mut self, envelope: Vec<u8>) {
        if self.open.len() < 8 {
            let sent = self.random.below(envelope.len());
            let stream = self.relay.begin("plant", &envelope, sent).await;
            self.open.push((stream, envelope, sent));
        }
    }

    async fn edited(&mut self, envelope: &[u8]) {
        let mut bytes = envelope.to_vec();
        let at = self.random.below(bytes.len());
        bytes[at] ^= 1 << self.random.below(8);
        // Some edits leave the signed bytes and the signature as they are: then it is the same intent.
        let same = Envelope::parse(&bytes).is_ok_and(|e| self.signed.contains_key(&e.digest()));
        let status = self.relay.send("plant", &bytes).await;
        if same && status == 200 {
            self.arrived.insert(digest(&bytes));
        } else {
            assert!((400..500).contains(&status), "{status}");
        }
    }

    /// Its own words, signed with its own key.
    async fn own_key(&self, envelope: &[u8]) {
        let mut intent = Intent::parse(Envelope::parse(envelope).unwrap().payload()).unwrap();
        intent.action = self.site.revoke(102);
        let forged = intent.sign(&[&key(0, 0)]).unwrap().to_bytes();
        assert_eq!(self.relay.send("plant", &forged).await, 422);
    }

    /// The admin's true signature, on an intent for another site.
    async fn other_site(&self) {
        let envelope = self.other.sign("olga", self.other.label("elsewhere"), OLGA);
        let status = self.relay.send("plant", &envelope).await;
        assert!(matches!(status, 200 | 202 | 422), "{status}");
    }

    async fn unsigned(&self, envelope: &[u8]) {
        let mut bare: serde_json::Value = serde_json::from_slice(envelope).unwrap();
        // 64 bytes of nothing.
        bare["signatures"][0]["sig"] = format!("{}==", "A".repeat(86)).into();
        let bytes = serde_json::to_vec(&bare).unwrap();
        let status = self.relay.send("plant", &bytes).await;
        // Of an intent that is known already the outcome is told again, whoever asks.
        let expected = if self.arrived.contains(&digest(envelope)) { 200 } else { 422 };
        assert_eq!(status, expected);
    }

    /// Bytes that are no request.
    async fn noise(&mut self) {
        let mut stream = self.relay.mux.open().await.unwrap();
        let bytes: Vec<u8> = (0..64).map(|_| u8::try_from(self.random.below(256)).unwrap()).collect();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
    }

    /// Sends what was held back, in any order.
    async fn catch_up(&mut self) {
        while !self.open.is_empty() {
            let at = self.random.below(self.open.len());
            let (stream, envelope, sent) = self.open.swap_remove(at);
            let status = Hostile::finish(stream, &envelope[sent..]).await;
            assert!(matches!(status, 200 | 202), "{status}");
            self.arrived.insert(digest(&envelope));
        }
    }

    /// What must hold, whatever the relay did.
    fn check(&self) {
        let state = self.site.lock();
        let mut accepted = BTreeSet::new();
        let (mut label, mut clusters) = (None, BTreeSet::<Name>::new());
        for record in state.audit().iter().filter(|r| r.kind == AuditKind::Intent) {
            let took = matches!(record.outcome, Some(Outcome::Accepted { .. }));
            let Some(action) = self.signed.get(&record.digest) else {
                assert!(!took || record.index <= self.before, "{record:?}");
                continue;
            };
            assert!(took, "{record:?}");
            assert!(accepted.insert(record.digest), "{} was applied twice", record.digest);
            match action {
                Action::NodeLabel { labels, .. } => label = labels.first().map(|l| l.value.clone()),
                Action::ClusterCreate { cluster, .. } => drop(clusters.insert(cluster.clone())),
                other => panic!("the admin signed no {}", other.name()),
            }
        }
        assert_eq!(accepted, self.arrived, "what arrived whole was applied, and nothing else");
        let node = state.node(&self.site.node(101)).unwrap();
        assert_eq!(node.labels.first().map(|l| l.value.clone()), label);
        assert_eq!(state.clusters().keys().cloned().collect::<BTreeSet<_>>(), clusters);
        assert_eq!(state.nodes().len(), 2, "nobody was put out or let in");
        assert_eq!(state.trust().admins().len(), 2);
    }

    /// Every intent that arrived has a receipt of the site that says accepted.
    async fn receipts(&mut self) {
        let mut open = self.arrived.clone();
        let hear = async {
            while !open.is_empty() {
                let receipt = self.relay.receipts.recv().await.unwrap();
                assert_eq!(receipt.site, self.site.id());
                if matches!(receipt.outcome, Outcome::Accepted { .. }) {
                    open.remove(&receipt.intent);
                }
            }
        };
        tokio::time::timeout(PATIENCE, hear).await.expect("a receipt for each");
    }
}

fn digest(envelope: &[u8]) -> Digest {
    Envelope::parse(envelope).unwrap().digest()
}

async fn play(seed: u64) {
    let mut play = Play::begin(seed).await;
    for _ in 0..EACH {
        for _ in 0..3 + play.random.below(6) {
            play.step().await;
        }
        play.catch_up().await;
        play.check();
    }
    play.receipts().await;
    assert!(play.arrived.len() > 8, "a relay that delivers next to nothing proves nothing");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn t54_whatever_a_relay_does_only_signed_intents_count_and_each_once() {
    if let Some(seed) = number("QB_RELAY_SEED") {
        return play(seed).await;
    }
    let seeds = number("QB_RELAY_SCHEDULES").unwrap_or(SCHEDULES) / EACH;
    let plays = (0..seeds).map(|seed| async move { (seed, tokio::spawn(play(seed)).await) });
    let mut plays = futures::stream::iter(plays).buffer_unordered(AT_ONCE);
    while let Some((seed, played)) = plays.next().await {
        assert!(played.is_ok(), "QB_RELAY_SEED={seed} shows it again");
    }
}
