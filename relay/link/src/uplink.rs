//! The agent's end: dials the relay, serves its requests, pushes what happens, and begins again
//! when the link ends.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use qb_model::dsse::Signer;
use qb_model::statement::SignedBytes;
use qb_model::trust::TrustEntry;
use qb_model::{Digest, Millis, Nonce, PublicKey, SiteId};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::backoff;
use crate::dial::{self, DialConfig, DialError};
use crate::handshake::{self, AgentEnd, LinkError, RelayPeer};
use crate::limits::{ADMIT_BYTES, BEAT, PUSH_QUEUE, SILENCE, STEADY, VERSION};
use crate::mux::{self, MuxEnd, Stream};
use crate::noise::StaticKey;
use crate::push::{self, Admission, Hints, Push, RosterEntry, Told};

/// What the uplink sends of the site by itself. Every method reads a copy that is at hand.
pub trait Source: Send + Sync + 'static {
    /// The site's time.
    fn log_time(&self) -> Millis;
    /// The site's epoch.
    fn epoch(&self) -> u64;
    /// The entries of the trust log after `head`; all of them if `head` is not in it.
    fn trust_after(&self, head: &Digest) -> Vec<TrustEntry>;
    /// The accepted `site.found`, `node.authorize` and `node.revoke` after record `index` of the
    /// audit chain, by index.
    fn roster_after(&self, index: u64) -> Vec<RosterEntry>;
    /// While this node waits to be let in: its signed `knock.v1` with the relay's key as listener and
    /// this nonce. None for a member.
    fn knock(&self, relay: PublicKey, nonce: Nonce) -> Option<SignedBytes>;
    /// Where members can be dialled, for nodes that are let in through the relay. None while this
    /// node waits itself.
    fn hints(&self) -> Option<Hints>;
    /// The relay says that this node was let in, and brings what proves it: nothing is to be
    /// believed of it unverified. Must not wait.
    fn admitted(&self, admission: Admission, trust: Vec<TrustEntry>);
    /// The relay says that this node was revoked, and brings the intent's envelope: nothing is to be
    /// believed of it unverified. Must not wait.
    fn revoked(&self, envelope: Vec<u8>, trust: Vec<TrustEntry>);
}

/// How an agent reaches one relay.
pub struct UplinkConfig {
    /// The way.
    pub dial: DialConfig,
    /// The pin: the relay's key in the site's trust state.
    pub relay: PublicKey,
    /// The site.
    pub site: SiteId,
    /// The node's key.
    pub signer: Arc<dyn Signer + Send + Sync>,
    /// How often the agent was started.
    pub incarnation: u64,
    /// What is sent of the site.
    pub source: Arc<dyn Source>,
}

/// How the link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Being tried for the first time.
    Dialling,
    /// Up: the relay has taken it, as a gateway's, a standby's, or that of a node that waits.
    Up {
        /// The relay's key.
        relay: PublicKey,
    },
    /// Down, for this reason; tried again after the pause.
    Down {
        /// The sentence, with what to do.
        why: String,
        /// The pause.
        pause: Duration,
    },
}

/// Says things through an [`Uplink`]. Copies share it.
#[derive(Clone)]
pub struct UplinkHandle {
    said: mpsc::Sender<Push>,
    changed: Arc<Notify>,
    state: watch::Receiver<LinkState>,
}

impl UplinkHandle {
    /// Sends what became of an intent: a `receipt.v1` of this node. False if the queue is full or
    /// the uplink has ended; the relay then asks again with the intent itself.
    pub fn receipt(&self, receipt: SignedBytes) -> bool {
        self.said.try_send(Push::Receipt(receipt)).is_ok()
    }

    /// Sends an event. False if there is no room: events may be lost, the relay reads the views.
    pub fn event(&self, at: Millis, kind: &str, subject: &str, text: &str) -> bool {
        let own = str::to_owned;
        self.said
            .try_send(Push::Event { at, kind: own(kind), subject: own(subject), text: own(text) })
            .is_ok()
    }

    /// Says that the site's state changed: trust and roster entries follow by themselves.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// How the link is, now and whenever that changes.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }
}

/// The task behind an [`UplinkHandle`].
pub struct Uplink {
    config: UplinkConfig,
    noise: StaticKey,
    said: mpsc::Receiver<Push>,
    changed: Arc<Notify>,
    state: watch::Sender<LinkState>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("link: {0}")]
    Io(#[from] io::Error),
    #[error("link: the streams ended: {0}")]
    Mux(String),
    #[error("link: the relay was silent for 45 s")]
    Silent,
    #[error("link: the relay ended it: {0}")]
    Bye(String),
}

impl Uplink {
    /// An uplink and its handle. Nothing happens until [`Self::run`].
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn new(config: UplinkConfig) -> io::Result<(Self, UplinkHandle)> {
        let (say, said) = mpsc::channel(PUSH_QUEUE);
        let (state, watched) = watch::channel(LinkState::Dialling);
        let changed = Arc::new(Notify::new());
        let handle = UplinkHandle { said: say, changed: changed.clone(), state: watched };
        Ok((Self { config, noise: StaticKey::generate()?, said, changed, state }, handle))
    }

    /// Keeps a link up until `stop` is ready. Each request of the relay comes as a stream that
    /// `accept` takes at once, to be served as HTTP/1.1; `accept` must not wait.
    pub async fn run(mut self, mut accept: impl FnMut(Stream) + Send, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        let mut attempt = 0;
        loop {
            let begun = Instant::now();
            let why = tokio::select! {
                () = &mut stop => return,
                why = self.once(&mut accept) => why,
            };
            attempt = if begun.elapsed() >= STEADY { 0 } else { attempt };
            let pause = backoff::pause(attempt, backoff::random());
            attempt = attempt.saturating_add(1);
            tracing::warn!(relay = %self.config.dial.url, pause_ms = pause.as_millis(), "{why}, trying again");
            self.state.send_replace(LinkState::Down { why: why.to_string(), pause });
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One link, from dialling to its end.
    async fn once(&mut self, accept: &mut (impl FnMut(Stream) + Send)) -> Ended {
        match self.link(accept).await {
            Ok(never) => match never {},
            Err(why) => why,
        }
    }

    async fn link(
        &mut self,
        accept: &mut (impl FnMut(Stream) + Send),
    ) -> Result<std::convert::Infallible, Ended> {
        let (io, target) = dial::dial(&self.config.dial).await?;
        let end = AgentEnd {
            signer: &*self.config.signer,
            noise: &self.noise,
            site: self.config.site,
            incarnation: self.config.incarnation,
            epoch: self.config.source.epoch(),
            host: &target.authority,
            relay: self.config.relay,
            versions: &[VERSION],
        };
        let (stream, peer) = handshake::connect(io, &end).await?;
        let (mux, mut incoming, driver) = mux::streams(stream, MuxEnd::Agent);
        let serve = async {
            while let Some(stream) = incoming.recv().await {
                accept(stream);
            }
            Ended::Mux("no more requests".into())
        };
        let push = async {
            let stream = mux.open().await?;
            let pushing = Pushing {
                source: &*self.config.source,
                url: &self.config.dial.url,
                said: &mut self.said,
                changed: &self.changed,
                state: &self.state,
            };
            pushing.run(stream, &peer).await
        };
        // Whichever ends first ends the link; dropping the others loses nothing but the link.
        tokio::select! {
            ended = driver => Err(Ended::Mux(ended.err().map_or_else(|| "closed".into(), |e| e.to_string()))),
            ended = serve => Err(ended),
            ended = push => ended,
        }
    }
}

/// The push stream of one link.
struct Pushing<'a> {
    source: &'a dyn Source,
    url: &'a str,
    said: &'a mut mpsc::Receiver<Push>,
    changed: &'a Notify,
    state: &'a watch::Sender<LinkState>,
}

/// How far the relay has the site.
struct Held {
    trust: Digest,
    roster: u64,
    /// What it was told of members' addresses over this link.
    hints: Option<Hints>,
}

impl Pushing<'_> {
    async fn run(self, stream: Stream, peer: &RelayPeer) -> Result<std::convert::Infallible, Ended> {
        let (mut from, mut to) = tokio::io::split(stream);
        let (tell, told) = watch::channel(None);
        let (source, url, state, relay) = (self.source, self.url, self.state, peer.relay);
        let listen = async {
            let mut log = Vec::new();
            loop {
                let message =
                    timeout(SILENCE, push::read::<_, Told>(&mut from)).await.map_err(|_| Ended::Silent)?;
                match message?.ok_or_else(|| Ended::Mux("the relay closed the push stream".into()))? {
                    Told::Beat => {}
                    Told::Held { trust, roster } => {
                        if tell.send_replace(Some((trust, roster))).is_none() {
                            tracing::info!(relay = %url, "link is up");
                            state.send_replace(LinkState::Up { relay });
                        }
                    }
                    Told::Bye { code, text } => return Err(Ended::Bye(format!("{text} ({code})"))),
                    Told::Trust(entries) => {
                        log.extend(entries);
                        if log.iter().map(|e: &TrustEntry| e.envelope.len()).sum::<usize>() > ADMIT_BYTES {
                            return Err(Ended::Mux("the relay sends a trust log that is over 6 MiB".into()));
                        }
                    }
                    Told::Admit(admission) => source.admitted(*admission, std::mem::take(&mut log)),
                    Told::Revoked(envelope) => source.revoked(envelope, std::mem::take(&mut log)),
                }
            }
        };
        tokio::select! {
            ended = listen => ended,
            ended = self.speak(&mut to, peer, told) => ended,
        }
    }

    /// Says what there is to say, one message at a time.
    async fn speak<W>(
        self,
        to: &mut W,
        peer: &RelayPeer,
        mut told: watch::Receiver<Option<(Digest, u64)>>,
    ) -> Result<std::convert::Infallible, Ended>
    where
        W: AsyncWrite + Unpin,
    {
        if let Some(knock) = self.source.knock(peer.relay, peer.channel) {
            push::write(to, &Push::Knock(knock)).await?;
        }
        let mut held: Option<Held> = None;
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Every arm is cancel-safe; what was taken from a queue is written before the next turn.
            tokio::select! {
                _ = beat.tick() => push::write(to, &Push::Beat { log_time: self.source.log_time() }).await?,
                Ok(()) = told.changed() => {
                    let hints = held.take().and_then(|held| held.hints);
                    held = (*told.borrow_and_update()).map(|(trust, roster)| Held { trust, roster, hints });
                    self.catch_up(to, &mut held).await?;
                }
                // Before the relay has taken the link nothing that rests on it is said.
                () = self.changed.notified(), if held.is_some() => {
                    self.catch_up(to, &mut held).await?;
                    push::write(to, &Push::Changed).await?;
                }
                said = self.said.recv(), if held.is_some() => match said {
                    Some(message) => {
                        // What a receipt rests on goes first.
                        self.catch_up(to, &mut held).await?;
                        push::write(to, &message).await?;
                    }
                    None => return Err(Ended::Mux("nobody holds the uplink any more".into())),
                },
            }
            to.flush().await?;
        }
    }

    /// Sends the entries and the addresses that the relay lacks.
    async fn catch_up<W: AsyncWrite + Unpin>(
        &self,
        to: &mut W,
        held: &mut Option<Held>,
    ) -> Result<(), Ended> {
        let Some(held) = held else { return Ok(()) };
        let trust = self.source.trust_after(&held.trust);
        if let Some(last) = trust.last() {
            held.trust = last.head();
        }
        let roster = self.source.roster_after(held.roster);
        if let Some(last) = roster.last() {
            held.roster = last.index;
        }
        for message in push::trust_batches(trust).into_iter().chain(push::roster_batches(roster)) {
            push::write(to, &message).await?;
        }
        let hints = self.source.hints().map(Hints::bounded);
        if let Some(new) = hints.filter(|new| held.hints.as_ref() != Some(new)) {
            held.hints = Some(new.clone());
            push::write(to, &Push::Members(new)).await?;
        }
        Ok(())
    }
}
