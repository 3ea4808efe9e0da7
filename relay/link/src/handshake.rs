//! The handshake: preface, Noise XX with both identities signed into it, the relay's verdict.
//!
//! ```text
//!  agent                                               relay
//!    preface: host, versions            in clear   >     host is one of its own?
//!    e                                             >
//!                                                  <     e, ee, s, es, link-relay.v1
//!    pin, host, versions, Noise key?
//!    s, se, link-agent.v1                          >     relay, versions, Noise key?
//!                                                  <     verdict: welcome, or why not
//! ```
//! The prologue holds the preface: whoever edits it on the way makes message 2 unreadable.

use std::io;

use qb_model::dsse::{Purpose, Signer};
use qb_model::statement::{SignedBytes, Statement, StatementError};
use qb_model::{NodeId, Nonce, PublicKey, SiteId};
use serde::{Deserialize, Serialize};
use snow::HandshakeState;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::hello::{LinkAgent, LinkRelay, NoiseKey, check_host, check_versions, common};
use crate::limits::{HANDSHAKE, PREFACE_BYTES};
use crate::noise::{NoiseStream, StaticKey};

/// The beginning of every prologue.
const DOMAIN: &[u8] = b"qb-link/1\0";
/// Bytes of a handshake message: keys, tags, a hello and its signature.
const MESSAGE_BYTES: usize = 1024;
/// Bytes of a verdict.
const VERDICT_BYTES: usize = 1024;
/// Characters of a refusal's text that are kept.
const REFUSAL_CHARS: usize = 300;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection failed.
    #[error("link: {0}")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("link: the handshake took more than 10 s")]
    Slow,
    /// Encryption does not come about: somebody changed a byte, or speaks something else.
    #[error("link: the handshake fails: what one end sent is not what the other received")]
    Noise(#[from] snow::Error),
    /// A hello is not valid.
    #[error("link: {0}")]
    Hello(#[from] StatementError),
    /// A message is not of the right form.
    #[error("link: {0}")]
    Form(&'static str),
    /// A valid hello that is not for this handshake.
    #[error("link: {what}; {remedy}")]
    Mismatch {
        /// What differs.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The relay does not want the link.
    #[error("link: the relay refuses: {text} ({code})")]
    Refused {
        /// Stable code.
        code: String,
        /// The sentence.
        text: String,
    },
    /// The agent at the end of a tunnel does not take the grant.
    #[error("{text}")]
    Turned {
        /// Stable code.
        code: String,
        /// The sentence, with the remedy.
        text: String,
    },
}

fn mismatch(what: impl Into<String>, remedy: &'static str) -> LinkError {
    LinkError::Mismatch { what: what.into(), remedy }
}

/// What travels in clear before anything else; bound by the prologue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preface {
    /// The host that the agent dialled.
    pub host: String,
    /// The versions that it offers, sorted.
    pub versions: Vec<u16>,
}

impl Preface {
    fn check(&self) -> Result<(), LinkError> {
        check_host(&self.host).map_err(LinkError::Form)?;
        check_versions(&self.versions).map_err(LinkError::Form)
    }

    /// `qb-link/1`, host and versions, each with its length.
    pub fn prologue(&self) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        out.extend(u16::try_from(self.host.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(self.host.as_bytes());
        out.extend(u16::try_from(self.versions.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(self.versions.iter().flat_map(|v| v.to_be_bytes()));
        out
    }
}

/// What the relay answers to a valid hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The link is up.
    Welcome,
    /// It is not.
    Refused {
        /// Stable code.
        code: String,
        /// The sentence.
        text: String,
    },
}

/// The agent's end.
pub struct AgentEnd<'a> {
    /// The node's key.
    pub signer: &'a (dyn Signer + Send + Sync),
    /// The Noise key of this process.
    pub noise: &'a StaticKey,
    /// The site.
    pub site: SiteId,
    /// How often the agent was started.
    pub incarnation: u64,
    /// The site's epoch.
    pub epoch: u64,
    /// The host that was dialled, with its port if the address has one.
    pub host: &'a str,
    /// The pin: the relay's key in the site's trust state.
    pub relay: PublicKey,
    /// The versions to offer, sorted.
    pub versions: &'a [u16],
}

/// The relay's end.
pub struct RelayEnd<'a> {
    /// The relay's key.
    pub signer: &'a (dyn Signer + Send + Sync),
    /// The Noise key of this process.
    pub noise: &'a StaticKey,
    /// The hosts that it is reached by, in lower case.
    pub hosts: &'a [String],
    /// The versions that it speaks, sorted.
    pub versions: &'a [u16],
}

/// The relay, as the agent knows it after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPeer {
    /// Its key: the pin.
    pub relay: PublicKey,
    /// The version to speak.
    pub version: u16,
    /// The handshake's hash: the nonce of a knock on this very link.
    pub channel: Nonce,
}

/// The agent, as the relay knows it after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPeer {
    /// The site that it says it belongs to: proven by nothing yet.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// The Noise key of its process: two processes differ.
    pub noise: NoiseKey,
    /// How often it was started.
    pub incarnation: u64,
    /// The site's epoch.
    pub epoch: u64,
    /// The version to speak.
    pub version: u16,
    /// The handshake's hash.
    pub channel: Nonce,
}

/// The agent's end of the handshake, within [`HANDSHAKE`].
///
/// # Errors
/// Anything but a welcome by the pinned relay.
pub async fn connect<S>(mut io: S, end: &AgentEnd<'_>) -> Result<(NoiseStream<S>, RelayPeer), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greet = async {
        let preface = Preface { host: end.host.to_owned(), versions: end.versions.to_vec() };
        preface.check()?;
        write(&mut io, &encode(&preface)).await?;
        let mut noise = end.noise.initiator(&preface.prologue())?;
        send(&mut io, &mut noise, &[]).await?;
        let hello = receive(&mut io, &mut noise).await?;
        let relay = open::<LinkRelay>(&hello, &noise, |hello| hello.noise)?;
        let version = check_relay(&relay, end)?;
        send(&mut io, &mut noise, &agent_hello(end).to_bytes()).await?;
        let channel = channel_of(&noise)?;
        let mut stream = NoiseStream::new(io, noise.into_transport_mode()?);
        match read_verdict(&mut stream).await? {
            Verdict::Welcome => Ok((stream, RelayPeer { relay: relay.relay, version, channel })),
            Verdict::Refused { code, text } => {
                Err(LinkError::Refused { code: visible(&code), text: visible(&text) })
            }
        }
    };
    tokio::time::timeout(HANDSHAKE, greet).await.map_err(|_| LinkError::Slow)?
}

/// The relay's end of the handshake, within [`HANDSHAKE`]. The verdict is the caller's:
/// [`answer`] sends it.
///
/// # Errors
/// Anything but a valid hello for this relay.
pub async fn accept<S>(mut io: S, end: &RelayEnd<'_>) -> Result<(NoiseStream<S>, AgentPeer), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greet = async {
        let preface = read(&mut io, PREFACE_BYTES).await?;
        let preface: Preface = decode(&preface, "the preface cannot be read")?;
        preface.check()?;
        if !end.hosts.contains(&preface.host) {
            return Err(mismatch(format!("this relay is not {}", preface.host), "dial one of its own names"));
        }
        let mut noise = end.noise.responder(&preface.prologue())?;
        receive(&mut io, &mut noise).await?;
        let hello = relay_hello(end, &preface.host);
        send(&mut io, &mut noise, &hello.to_bytes()).await?;
        let hello = receive(&mut io, &mut noise).await?;
        let agent = open::<LinkAgent>(&hello, &noise, |hello| hello.noise)?;
        let version = check_agent(&agent, end, &preface)?;
        let channel = channel_of(&noise)?;
        let stream = NoiseStream::new(io, noise.into_transport_mode()?);
        let LinkAgent { site, node, noise, incarnation, epoch, .. } = agent;
        Ok((stream, AgentPeer { site, node, noise, incarnation, epoch, version, channel }))
    };
    tokio::time::timeout(HANDSHAKE, greet).await.map_err(|_| LinkError::Slow)?
}

/// Sends the relay's verdict, within [`HANDSHAKE`].
///
/// # Errors
/// The connection failed.
pub async fn answer<S>(stream: &mut NoiseStream<S>, verdict: &Verdict) -> Result<(), LinkError>
where
    S: AsyncWrite + Unpin,
{
    let bytes = encode(verdict);
    let sending = write(stream, &bytes);
    Ok(tokio::time::timeout(HANDSHAKE, sending).await.map_err(|_| LinkError::Slow)??)
}

async fn read_verdict<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Verdict, LinkError> {
    let bytes = read(stream, VERDICT_BYTES).await?;
    decode(&bytes, "the verdict cannot be read")
}

fn agent_hello(end: &AgentEnd<'_>) -> SignedBytes {
    let hello = LinkAgent {
        v: 1,
        site: end.site,
        node: NodeId(end.signer.public_key().0),
        noise: end.noise.public(),
        incarnation: end.incarnation,
        epoch: end.epoch,
        relay: end.relay,
        versions: end.versions.to_vec(),
    };
    hello.sign(end.signer)
}

fn relay_hello(end: &RelayEnd<'_>, host: &str) -> SignedBytes {
    let hello = LinkRelay {
        v: 1,
        relay: end.signer.public_key(),
        noise: end.noise.public(),
        host: host.to_owned(),
        versions: end.versions.to_vec(),
    };
    hello.sign(end.signer)
}

/// Reads a hello whose Noise key is the one of this handshake.
fn open<T: Statement>(
    bytes: &[u8],
    noise: &HandshakeState,
    key_of: impl FnOnce(&T) -> NoiseKey,
) -> Result<T, LinkError> {
    let hello = SignedBytes::from_bytes(T::PURPOSE, bytes, T::MAX)?.open::<T>()?.into_value();
    if noise.get_remote_static() == Some(&key_of(&hello)[..]) {
        return Ok(hello);
    }
    let what = match T::PURPOSE {
        Purpose::LinkRelay => "the relay's hello was made for another connection",
        _ => "the agent's hello was made for another connection",
    };
    Err(mismatch(what, "somebody on the way answers in another's place: look who ends the connection"))
}

fn check_relay(hello: &LinkRelay, end: &AgentEnd<'_>) -> Result<u16, LinkError> {
    if hello.relay != end.relay {
        let what = format!("the relay has the key {}, the site trusts {}", hello.relay, end.relay);
        return Err(mismatch(what, "an owner must add a relay's new key: qb relay add"));
    }
    if hello.host != end.host {
        let what = format!("the relay was asked for {}, not {}", hello.host, end.host);
        return Err(mismatch(what, "look who ends the connection on the way"));
    }
    common(end.versions, &hello.versions).ok_or_else(|| {
        mismatch("the relay speaks no version that this agent speaks", "install the newer one")
    })
}

fn check_agent(hello: &LinkAgent, end: &RelayEnd<'_>, preface: &Preface) -> Result<u16, LinkError> {
    if hello.relay != end.signer.public_key() {
        let what = format!("the agent means the relay {}", hello.relay);
        return Err(mismatch(what, "give the agent this relay's key"));
    }
    if hello.versions != preface.versions {
        return Err(mismatch(
            "the agent offered other versions than were received",
            "look who is on the way",
        ));
    }
    common(end.versions, &hello.versions).ok_or_else(|| {
        mismatch("the agent speaks no version that this relay speaks", "install the newer one")
    })
}

fn channel_of(noise: &HandshakeState) -> Result<Nonce, LinkError> {
    let hash = noise.get_handshake_hash().try_into();
    hash.map(Nonce).map_err(|_| LinkError::Form("the handshake's hash has not 32 bytes"))
}

/// A text from the other end, fit to be logged.
pub(crate) fn visible(text: &str) -> String {
    text.chars().take(REFUSAL_CHARS).flat_map(char::escape_debug).collect()
}

async fn send<S>(io: &mut S, noise: &mut HandshakeState, payload: &[u8]) -> Result<(), LinkError>
where
    S: AsyncWrite + Unpin,
{
    let mut message = vec![0; MESSAGE_BYTES];
    let length = noise.write_message(payload, &mut message)?;
    Ok(write(io, &message[..length]).await?)
}

async fn receive<S>(io: &mut S, noise: &mut HandshakeState) -> Result<Vec<u8>, LinkError>
where
    S: AsyncRead + Unpin,
{
    let message = read(io, MESSAGE_BYTES).await?;
    let mut payload = vec![0; message.len()];
    let length = noise.read_message(&message, &mut payload)?;
    payload.truncate(length);
    Ok(payload)
}

/// Writes bytes with their length, at once.
pub(crate) async fn write<S: AsyncWrite + Unpin>(io: &mut S, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut out = length.to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    io.write_all(&out).await?;
    io.flush().await
}

/// Reads bytes with their length, at most `max` of them.
pub(crate) async fn read<S: AsyncRead + Unpin>(io: &mut S, max: usize) -> Result<Vec<u8>, LinkError> {
    let length = usize::from(io.read_u16().await?);
    if length > max {
        return Err(LinkError::Form("a message of the handshake is too long"));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Serializing into memory fails for no type of this module.
    postcard::to_stdvec(value).unwrap_or_default()
}

pub(crate) fn decode<'a, T: Deserialize<'a> + Serialize>(
    bytes: &'a [u8],
    what: &'static str,
) -> Result<T, LinkError> {
    let value: T = postcard::from_bytes(bytes).map_err(|_| LinkError::Form(what))?;
    if encode(&value) == bytes { Ok(value) } else { Err(LinkError::Form(what)) }
}
