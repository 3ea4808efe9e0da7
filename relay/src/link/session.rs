//! One link, from the handshake to its end.
//!
//! ```text
//!  handshake > site registered? > first message -- a knock: waits, and hears when it was let in
//!                                   '-- another: on the roster? -- yes: gateway or standby (clone rule)
//!                                                   '-- no: has 10 s to bring a roster with itself on it
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use qb_link::handshake::{accept, answer};
use qb_link::limits::{SILENCE, VERSION};
use qb_link::mux::streams;
use qb_link::{AgentPeer, LinkError, MuxEnd, Push, RelayEnd, RosterEntry, Stream, Told, Verdict, push};
use qb_model::statement::{Knock, Receipt, SignedBytes};
use qb_model::trust::TrustEntry;
use qb_model::{Digest, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::registry::{Link, Place};
use super::speak::{Speaker, put_out};
use crate::ask;
use crate::limits::{BATCH_BYTES, LAST_WORD, PROBE, PROVE};
use crate::outbox;
use crate::relay::Relay;
use crate::site::{LearnError, LiveSite, Mark, now};
use crate::trust::BeliefError;

/// Why a link ends, as the agent is told.
#[derive(Debug)]
struct Bye {
    code: &'static str,
    text: String,
}

fn bye(code: &'static str, text: impl Into<String>) -> Bye {
    Bye { code, text: text.into() }
}

impl From<std::io::Error> for Bye {
    fn from(error: std::io::Error) -> Self {
        bye("broken", format!("the push stream failed: {error}"))
    }
}

impl From<LearnError> for Bye {
    fn from(error: LearnError) -> Self {
        match error {
            LearnError::Belief(why) => bye("not_believed", why.to_string()),
            other => bye("relay_failed", other.to_string()),
        }
    }
}

/// Serves one link until it ends.
pub(crate) async fn serve<S>(relay: Arc<Relay>, io: S, room: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ended = relay.cancel.clone();
    tokio::select! {
        result = greet(&relay, io, room) => if let Err(error) = result {
            tracing::debug!("{error}");
        },
        () = ended.cancelled() => {}
    }
}

async fn greet<S>(relay: &Arc<Relay>, io: S, room: OwnedSemaphorePermit) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let end =
        RelayEnd { signer: &*relay.key, noise: &relay.noise, hosts: &relay.hosts, versions: &[VERSION] };
    let (mut stream, peer) = accept(io, &end).await?;
    let site = relay.site(&peer.site).filter(|site| site.is_served());
    // A revoked node is greeted too, only to hear that: this may be its only way to learn it.
    let revoked = site.as_ref().is_some_and(|site| site.belief().roster.is_revoked(&peer.node));
    let verdict = match &site {
        Some(_) => Verdict::Welcome,
        None => refused("unknown_site", "no owner registered this site here: qb relay register"),
    };
    answer(&mut stream, &verdict).await?;
    let _room = revoked.then_some(room);
    let Some(site) = site.filter(|_| verdict == Verdict::Welcome) else { return Ok(()) };
    let (mux, incoming, driver) = streams(stream, MuxEnd::Relay);
    let link = Link::new(peer, mux, relay.cancel.child_token());
    let session =
        Session { relay, site: &site, link: &link, proven: false, trust: Vec::new(), roster: Vec::new() };
    tracing::info!(site = %site.name, node = %link.peer.node, "a link is up");
    let mut driver = std::pin::pin!(driver);
    let why = tokio::select! {
        ended = &mut driver => bye("closed", ended.err().map_or_else(String::new, |e| e.to_string())),
        ended = session.run(incoming) => ended,
    };
    site.links.remove(&link);
    site.knocks.remove(&link.peer.node);
    site.moved();
    tracing::info!(site = %site.name, node = %link.peer.node, code = why.code, "a link ended: {}", why.text);
    // The last word has yet to reach the wire; an agent that heard it closes the connection.
    let _ = timeout(LAST_WORD, driver).await;
    Ok(())
}

fn refused(code: &str, text: &str) -> Verdict {
    Verdict::Refused { code: code.to_owned(), text: text.to_owned() }
}

struct Session<'a> {
    relay: &'a Arc<Relay>,
    site: &'a Arc<LiveSite>,
    link: &'a Arc<Link>,
    proven: bool,
    /// Batches whose end has not come.
    trust: Vec<TrustEntry>,
    roster: Vec<RosterEntry>,
}

/// What the writer is to say.
struct Says {
    /// How far the relay has the site.
    held: watch::Sender<Option<(Digest, u64)>>,
    /// Whether the node knocked.
    knocked: watch::Sender<bool>,
}

impl Session<'_> {
    /// The push stream: one that speaks, one that listens, until either ends.
    async fn run(mut self, mut incoming: mpsc::Receiver<Stream>) -> Bye {
        let stream = match timeout(PROVE, incoming.recv()).await {
            Ok(Some(stream)) => stream,
            _ => return bye("silent", "no push stream was opened"),
        };
        // One is all: whoever opens more finds nobody there.
        drop(incoming);
        let (mut from, mut to) = tokio::io::split(stream);
        let ((held, holds), (knocked, knocks)) = (watch::channel(None), watch::channel(false));
        let says = Says { held, knocked };
        let speaker = Speaker {
            relay: self.relay,
            site: self.site,
            node: self.link.peer.node,
            held: holds,
            knocked: knocks,
        };
        let close = self.link.close.clone();
        let why = tokio::select! {
            why = self.listen(&mut from, &says) => why,
            why = speaker.run(&mut to) => why.err().map_or_else(|| bye("closed", ""), Bye::from),
            () = close.cancelled() => bye("ended", "the relay ended the link: revoked, replaced, or shutting down"),
        };
        let node = &self.link.peer.node;
        let why = if self.site.belief().roster.is_revoked(node) {
            // As long as a whole trust log may take. It may be gone already.
            let _ = timeout(PROVE, put_out((self.relay, self.site, node), &mut to)).await;
            bye("revoked", "this node was revoked")
        } else {
            why
        };
        let last = Told::Bye { code: why.code.to_owned(), text: why.text.clone() };
        // It may be gone already.
        let _ = timeout(LAST_WORD, async {
            push::write(&mut to, &last).await?;
            to.flush().await?;
            // What it still says is taken: an agent whose writing fails would not read that word.
            tokio::io::copy(&mut from, &mut tokio::io::sink()).await
        })
        .await;
        why
    }

    async fn listen(&mut self, from: &mut (impl AsyncRead + Unpin), says: &Says) -> Bye {
        let first = match hear(from, PROVE).await {
            Ok(first) => first,
            Err(why) => return why,
        };
        if self.site.belief().roster.is_revoked(&self.link.peer.node) {
            return bye("revoked", "this node was revoked");
        }
        let site = Arc::clone(self.site);
        // Held as long as nothing is proven. A node that knocks takes no gateway's place, even where
        // the roster has it already: it does not know yet.
        let mut _room = None;
        if matches!(first, Push::Knock(_)) {
            if let Err(why) = self.take(first, says).await {
                return why;
            }
            self.tell_held(says);
        } else {
            if site.belief().roster.host(&self.link.peer.node).is_some() {
                if let Err(why) = self.prove().await {
                    return why;
                }
            } else {
                _room = site.links.unproven();
                if _room.is_none() {
                    return bye("full", "too many links of this site have proven nothing: try again");
                }
            }
            self.tell_held(says);
            if let Err(why) = self.take(first, says).await {
                return why;
            }
        }
        let until = Instant::now() + PROVE;
        loop {
            let known = self.proven || *says.knocked.borrow();
            if known {
                _room = None;
            }
            // Dropping a half-read message is fine: the link ends then.
            let message = tokio::select! {
                message = hear(from, SILENCE) => message,
                () = sleep_until(until), if !known => {
                    return bye("unproven", "this node is not on the roster that the relay has verified");
                }
            };
            let taken = match message {
                Ok(message) => self.take(message, says).await,
                Err(why) => return why,
            };
            if let Err(why) = taken {
                return why;
            }
        }
    }

    fn tell_held(&self, says: &Says) {
        let belief = self.site.belief();
        says.held.send_replace(Some((belief.trust.head(), belief.roster.last())));
    }

    async fn take(&mut self, message: Push, says: &Says) -> Result<(), Bye> {
        match message {
            Push::Beat { .. } => Ok(()),
            Push::Trust { entries, more } => {
                self.trust.extend(entries);
                let bytes: usize = self.trust.iter().map(|e| e.envelope.len()).sum();
                check_batch(bytes)?;
                if more { Ok(()) } else { self.learn_trust().await }
            }
            Push::Roster { entries, more } => {
                self.roster.extend(entries);
                let bytes: usize = self.roster.iter().map(|e| e.envelope.len()).sum();
                check_batch(bytes)?;
                if more { Ok(()) } else { self.learn_roster(says).await }
            }
            Push::Knock(knock) => self.knock(&knock, says),
            _ if !self.proven => Err(bye("unproven", "only a node of the roster may say this")),
            Push::Receipt(receipt) => self.receipt(receipt).await,
            Push::Event { at, kind, subject, text } => {
                // The standby tells the same events.
                if self.site.links.gateway().is_some_and(|gateway| gateway.serial == self.link.serial) {
                    self.site.feed.say(at, kind, subject, text);
                }
                self.site.fold.ask_again();
                Ok(())
            }
            Push::Members(hints) => {
                self.site.put_hints(hints.bounded());
                Ok(())
            }
            Push::Changed => {
                self.site.fold.ask_again();
                Ok(())
            }
        }
    }

    async fn learn_trust(&mut self) -> Result<(), Bye> {
        let entries = std::mem::take(&mut self.trust);
        let learned = self.site.learn_trust(&self.relay.store, entries).await;
        if let Err(LearnError::Belief(BeliefError::Fork)) = learned {
            self.site.marks.put(Mark::Fork(self.link.peer.node), now());
        }
        self.relay.index(self.site);
        learned?;
        if self.site.is_served() {
            Ok(())
        } else {
            Err(bye("unknown_site", "the site's owners removed this relay"))
        }
    }

    async fn learn_roster(&mut self, says: &Says) -> Result<(), Bye> {
        let entries = std::mem::take(&mut self.roster);
        self.site.learn_roster(&self.relay.store, entries).await?;
        let belief = self.site.belief();
        if belief.roster.is_revoked(&self.link.peer.node) {
            return Err(bye("revoked", "this node was revoked"));
        }
        if !self.proven && belief.roster.host(&self.link.peer.node).is_some() {
            self.prove().await?;
        }
        self.tell_held(says);
        Ok(())
    }

    /// The node is on the roster: its link becomes gateway or standby, unless the node has one.
    async fn prove(&mut self) -> Result<(), Bye> {
        let (site, link) = (self.site, self.link);
        let other = match site.links.prove(link) {
            Place::Taken => return self.proven(),
            Place::Full => return Err(bye("full", "the site has its gateway and its standby here")),
            Place::Twice(other) => other,
        };
        let same = other.peer.noise == link.peer.noise && other.peer.incarnation == link.peer.incarnation;
        // The same process came back before its old connection was missed; or the old process is
        // gone and the new one was started. Only two that both answer are a clone.
        if !same && lives(&other).await {
            site.marks.put(Mark::Clone(link.peer.node), now());
            return Err(bye("clone", "this node's key has a link already, of another process that lives"));
        }
        other.close.cancel();
        site.links.remove(&other);
        match site.links.prove(link) {
            Place::Taken => self.proven(),
            _ => Err(bye("full", "the site has its gateway and its standby here")),
        }
    }

    fn proven(&mut self) -> Result<(), Bye> {
        self.proven = true;
        self.site.knocks.remove(&self.link.peer.node);
        self.site.fold.ask_again();
        self.site.moved();
        Ok(())
    }

    /// A node that waits to be let in: its knock must be for this relay and this very connection.
    fn knock(&self, bytes: &SignedBytes, says: &Says) -> Result<(), Bye> {
        let AgentPeer { site, node, channel, .. } = &self.link.peer;
        let knock = bytes.open::<Knock>().map_err(|e| bye("knock", e.to_string()))?;
        let value = knock.value();
        let listener = NodeId(self.relay.public.0);
        if (value.site, value.node, value.listener, value.nonce) != (*site, *node, listener, *channel) {
            return Err(bye("knock", "the knock was made for another connection"));
        }
        if self.proven {
            return Ok(());
        }
        let waits = self.site.belief().roster.host(node).is_none();
        if (waits && !self.site.knocks.put(&knock, now())) || !self.site.links.wait(self.link) {
            return Err(bye("full", "too many nodes knock through this relay"));
        }
        says.knocked.send_replace(true);
        self.site.moved();
        Ok(())
    }

    async fn receipt(&self, bytes: SignedBytes) -> Result<(), Bye> {
        let receipt = bytes.open::<Receipt>().map_err(|e| bye("receipt", e.to_string()))?;
        let value = receipt.value();
        if value.site != self.site.id() || self.site.belief().roster.host(&value.node).is_none() {
            return Err(bye("receipt", "the receipt is not by a node of this site's roster"));
        }
        outbox::keep_receipt(self.relay, self.site, &receipt)
            .await
            .map_err(|e| bye("relay_failed", e.to_string()))
    }
}

fn check_batch(bytes: usize) -> Result<(), Bye> {
    if bytes <= BATCH_BYTES { Ok(()) } else { Err(bye("too_large", "a batch is over 6 MiB")) }
}

/// Whether a link's agent answers.
async fn lives(link: &Link) -> bool {
    let question = ask::Question::new(Method::GET, qb_portal::paths::HEALTHZ.to_owned());
    ask::ask(link, question, PROBE).await.is_ok()
}

/// The next message.
async fn hear(from: &mut (impl AsyncRead + Unpin), limit: Duration) -> Result<Push, Bye> {
    match timeout(limit, push::read::<_, Push>(from)).await {
        Err(_) => Err(bye("silent", format!("nothing was heard for {} s", limit.as_secs()))),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(None)) => Err(bye("closed", "the agent closed the push stream")),
        Ok(Ok(Some(message))) => Ok(message),
    }
}
