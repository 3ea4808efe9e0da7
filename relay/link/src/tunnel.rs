//! An admin's tunnel to a cluster's API server: Noise from `qb` to an agent, whoever carries the bytes.
//!
//! ```text
//!  qb                                                        agent (its node's key)
//!    e                                                  >
//!                                                       <    e, ee, s, es, tunnel-agent.v1
//!    on the roster? this site? its Noise key?
//!    s, se, grant, certificate request                  >    the grant stands, names this client key,
//!                                                            was not used?
//!                                                       <    answer: open, a certificate, or why not
//!    yamux: one stream per connection                   <>   each to the one place that the agent knows
//! ```
//! The prologue holds site and cluster. There is no host and no port on this wire.

use std::io;

use qb_model::dsse::{Purpose, Signer};
use qb_model::statement::{SignedBytes, Statement};
use qb_model::{Name, NodeId, PublicKey, SiteId};
use serde::{Deserialize, Serialize};
use snow::HandshakeState;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::handshake::{LinkError, decode, encode, read, visible, write};
use crate::hello::NoiseKey;
use crate::limits::{
    GRANT_BYTES, REQUEST_BYTES, TUNNEL_ANSWER_BYTES, TUNNEL_HANDSHAKE, TUNNEL_MESSAGE_BYTES,
};
use crate::noise::{NoiseStream, StaticKey};

/// What an upgrade of a connection to a tunnel is called in HTTP.
pub const UPGRADE: &str = "qb-tunnel";
/// The beginning of every prologue.
const DOMAIN: &[u8] = b"qb-tunnel/1\0";

/// The node's end: message 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelAgent {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// Its Noise key of this handshake.
    pub noise: NoiseKey,
}

impl Statement for TunnelAgent {
    const PURPOSE: Purpose = Purpose::TunnelAgent;
    const MAX: usize = 256;

    fn version(&self) -> u8 {
        self.v
    }

    fn signer(&self) -> Option<PublicKey> {
        Some(self.node.public_key())
    }
}

/// What `qb` shows: message 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The envelope of the grant, at most [`GRANT_BYTES`].
    pub grant: Vec<u8>,
    /// For a certificate its request in DER form, at most [`REQUEST_BYTES`]; else empty.
    pub request: Vec<u8>,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelAnswer {
    /// Streams may be opened.
    Open,
    /// A certificate was signed; there is nothing more.
    Certificate(Credential),
    /// It is not opened.
    Refused {
        /// Stable code.
        code: String,
        /// The sentence, with the remedy.
        text: String,
    },
}

/// A client certificate and whom it is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The certificate, PEM.
    pub certificate: String,
    /// The cluster's authority, PEM.
    pub authority: String,
    /// When the certificate ends, ms since 1970.
    pub expires_ms: u64,
}

/// The client's end.
pub struct ClientEnd<'a> {
    /// The key that the grant names. One per grant.
    pub noise: &'a StaticKey,
    /// The site.
    pub site: SiteId,
    /// The cluster.
    pub cluster: &'a Name,
    /// Whether this node is proven to be of the site.
    pub known: &'a (dyn Fn(&NodeId) -> bool + Send + Sync),
}

/// The agent's end.
pub struct ServerEnd<'a> {
    /// The node's key.
    pub signer: &'a (dyn Signer + Send + Sync),
    /// The Noise key of this process.
    pub noise: &'a StaticKey,
    /// The site.
    pub site: SiteId,
    /// The cluster that the path named.
    pub cluster: &'a Name,
}

/// What a client asked, and the key that it proved.
#[derive(Debug)]
pub struct Asked {
    /// The grant and its request: nothing of it is verified.
    pub ask: Ask,
    /// The Noise key that the client has.
    pub client: NoiseKey,
}

fn prologue(site: &SiteId, cluster: &Name) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    out.extend_from_slice(&site.0.0);
    out.extend_from_slice(cluster.as_str().as_bytes());
    out
}

/// The client's end of the handshake: the stream, the node at its other end, and its answer. A refusal
/// is an error.
///
/// # Errors
/// The connection failed, whoever answers is no node of the site, or it refuses.
pub async fn dial<S>(
    mut io: S,
    end: &ClientEnd<'_>,
    ask: &Ask,
) -> Result<(NoiseStream<S>, NodeId, TunnelAnswer), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greet = async {
        let mut noise = end.noise.initiator(&prologue(&end.site, end.cluster))?;
        send(&mut io, &mut noise, &[]).await?;
        let hello = receive(&mut io, &mut noise).await?;
        let node = check_agent(&hello, &noise, end)?;
        send(&mut io, &mut noise, &encode(ask)).await?;
        let mut stream = NoiseStream::new(io, noise.into_transport_mode()?);
        let bytes = read(&mut stream, TUNNEL_ANSWER_BYTES).await?;
        match decode(&bytes, "the answer to the grant cannot be read")? {
            TunnelAnswer::Refused { code, text } => {
                Err(LinkError::Turned { code: visible(&code), text: visible(&text) })
            }
            answer => Ok((stream, node, answer)),
        }
    };
    tokio::time::timeout(TUNNEL_HANDSHAKE, greet).await.map_err(|_| LinkError::Slow)?
}

fn check_agent(bytes: &[u8], noise: &HandshakeState, end: &ClientEnd<'_>) -> Result<NodeId, LinkError> {
    let hello = SignedBytes::from_bytes(Purpose::TunnelAgent, bytes, TunnelAgent::MAX)?
        .open::<TunnelAgent>()?
        .into_value();
    let stranger = |what: String| LinkError::Mismatch {
        what,
        remedy: "somebody on the way answers in its place: look who ends the connection, and ask another door",
    };
    if noise.get_remote_static() != Some(&hello.noise[..]) {
        return Err(stranger("the node's hello was made for another connection".to_owned()));
    }
    if hello.site != end.site {
        return Err(stranger("the node at the end of the tunnel is of another site".to_owned()));
    }
    if !(end.known)(&hello.node) {
        let print = qb_model::words::fingerprint(&hello.node.0);
        return Err(stranger(format!("the signed log proves no node {print} to be of this site")));
    }
    Ok(hello.node)
}

/// The agent's end of the handshake, up to what is asked. [`answer`] is next, within the same time.
///
/// # Errors
/// Anything but a client that proved a key and asked within the bounds.
pub async fn accept<S>(mut io: S, end: &ServerEnd<'_>) -> Result<(NoiseStream<S>, Asked), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greet = async {
        let mut noise = end.noise.responder(&prologue(&end.site, end.cluster))?;
        receive(&mut io, &mut noise).await?;
        let node = NodeId(end.signer.public_key().0);
        let hello = TunnelAgent { v: 1, site: end.site, node, noise: end.noise.public() };
        send(&mut io, &mut noise, &hello.sign(end.signer).to_bytes()).await?;
        let bytes = receive(&mut io, &mut noise).await?;
        let ask: Ask = decode(&bytes, "what the tunnel asks for cannot be read")?;
        if ask.grant.len() > GRANT_BYTES || ask.request.len() > REQUEST_BYTES {
            return Err(LinkError::Form("a grant or a certificate request is too long"));
        }
        let key = noise.get_remote_static().and_then(|key| NoiseKey::try_from(key).ok());
        let client = key.ok_or(LinkError::Form("the client proved no key"))?;
        Ok((NoiseStream::new(io, noise.into_transport_mode()?), Asked { ask, client }))
    };
    tokio::time::timeout(TUNNEL_HANDSHAKE, greet).await.map_err(|_| LinkError::Slow)?
}

/// Sends the agent's answer, within [`TUNNEL_HANDSHAKE`].
///
/// # Errors
/// The connection failed.
pub async fn answer<S>(stream: &mut NoiseStream<S>, answer: &TunnelAnswer) -> Result<(), LinkError>
where
    S: AsyncWrite + Unpin,
{
    let bytes = encode(answer);
    let sending = write(stream, &bytes);
    Ok(tokio::time::timeout(TUNNEL_HANDSHAKE, sending).await.map_err(|_| LinkError::Slow)??)
}

async fn send<S>(io: &mut S, noise: &mut HandshakeState, payload: &[u8]) -> Result<(), LinkError>
where
    S: AsyncWrite + Unpin,
{
    let mut message = vec![0; TUNNEL_MESSAGE_BYTES];
    let length = noise.write_message(payload, &mut message)?;
    let message = message.get(..length).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(write(io, message).await?)
}

async fn receive<S>(io: &mut S, noise: &mut HandshakeState) -> Result<Vec<u8>, LinkError>
where
    S: AsyncRead + Unpin,
{
    let message = read(io, TUNNEL_MESSAGE_BYTES).await?;
    let mut payload = vec![0; message.len()];
    let length = noise.read_message(&message, &mut payload)?;
    payload.truncate(length);
    Ok(payload)
}
