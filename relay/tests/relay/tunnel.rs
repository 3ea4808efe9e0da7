//! A tunnel between `qb` and an agent: what who carries it sees, and whom either end believes (S62).

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use qb_link::mux::streams;
use qb_link::noise::StaticKey;
use qb_link::tunnel::{Ask, Asked, ClientEnd, ServerEnd, TunnelAnswer, accept, answer, dial};
use qb_link::{LinkError, MuxEnd};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::{Digest, Name, NodeId, SiteId};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

const GRANT: &[u8] = b"the envelope of a grant, which is a bearer token";
const REQUEST: &[u8] = b"GET /api/v1/secrets HTTP/1.1";

/// A pipe that keeps what goes through it, as a relay could.
struct Tapped {
    io: DuplexStream,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.seen.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.seen.lock().unwrap().extend_from_slice(bytes);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn node_key() -> SecretKey {
    SecretKey::from_bytes(&[4; 32])
}

fn site(byte: u8) -> SiteId {
    SiteId(Digest([byte; 32]))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// An agent of site 1 that echoes what comes over the first stream.
async fn agent(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    cluster: Name,
) -> Result<Asked, LinkError> {
    let (key, noise) = (node_key(), StaticKey::generate().unwrap());
    let end = ServerEnd { signer: &key, noise: &noise, site: site(1), cluster: &cluster };
    let (mut stream, asked) = accept(io, &end).await?;
    answer(&mut stream, &TunnelAnswer::Open).await?;
    let (_mux, mut incoming, driver) = streams(stream, MuxEnd::Relay);
    let echo = async {
        let (mut from, mut to) = tokio::io::split(incoming.recv().await.unwrap());
        let _ = tokio::io::copy(&mut from, &mut to).await;
    };
    tokio::select! { () = echo => {}, _ = driver => {} }
    Ok(asked)
}

struct Client {
    noise: StaticKey,
    site: SiteId,
    cluster: Name,
    known: bool,
}

impl Client {
    fn new() -> Self {
        Self { noise: StaticKey::generate().unwrap(), site: site(1), cluster: name("blue"), known: true }
    }

    async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: S,
    ) -> Result<(qb_link::noise::NoiseStream<S>, NodeId, TunnelAnswer), LinkError> {
        let known = |node: &NodeId| self.known && *node == NodeId(node_key().public_key().0);
        let end = ClientEnd { noise: &self.noise, site: self.site, cluster: &self.cluster, known: &known };
        dial(io, &end, &Ask { grant: GRANT.to_vec(), request: Vec::new() }).await
    }
}

fn holds(seen: &[u8], part: &[u8]) -> bool {
    seen.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn who_carries_a_tunnel_reads_neither_the_grant_nor_what_goes_through() {
    let (here, there) = tokio::io::duplex(1 << 16);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tapped = Tapped { io: here, seen: Arc::clone(&seen) };
    let serving = tokio::spawn(agent(there, name("blue")));
    let client = Client::new();
    let (stream, node, said) = client.dial(tapped).await.unwrap();
    assert_eq!((node, said), (NodeId(node_key().public_key().0), TunnelAnswer::Open));
    let (mux, _incoming, driver) = streams(stream, MuxEnd::Agent);
    let driving = tokio::spawn(driver);
    let mut inner = mux.open().await.unwrap();
    inner.write_all(REQUEST).await.unwrap();
    inner.flush().await.unwrap();
    let mut back = vec![0; REQUEST.len()];
    inner.read_exact(&mut back).await.unwrap();
    assert_eq!(back, REQUEST);
    inner.shutdown().await.unwrap();
    let asked = serving.await.unwrap().unwrap();
    assert_eq!((asked.ask.grant.as_slice(), asked.client), (GRANT, client.noise.public()));
    driving.abort();
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() > GRANT.len() + 2 * REQUEST.len(), "{} bytes", seen.len());
    for part in [GRANT, REQUEST, &client.noise.public()[..], b"secrets"] {
        assert!(!holds(&seen, part), "{}", String::from_utf8_lossy(part));
    }
}

#[tokio::test]
async fn a_node_that_is_not_proven_never_gets_the_grant() {
    let (here, there) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(agent(there, name("blue")));
    let client = Client { known: false, ..Client::new() };
    let error = client.dial(here).await.err().unwrap();
    assert!(matches!(&error, LinkError::Mismatch { what, .. } if what.contains("proves no node")), "{error}");
    assert!(serving.await.unwrap().is_err(), "nothing was asked");
}

#[tokio::test]
async fn the_ends_mean_the_same_site_and_cluster_or_do_not_meet() {
    for (site, cluster) in [(site(2), name("blue")), (site(1), name("red"))] {
        let (here, there) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(agent(there, name("blue")));
        let client = Client { site, cluster, ..Client::new() };
        assert!(client.dial(here).await.is_err());
        assert!(serving.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn whoever_answers_in_the_nodes_place_is_found_out() {
    // It relays the node's own signed hello, and has not the Noise key that this names.
    let (here, mut there) = tokio::io::duplex(1 << 16);
    let dialling = tokio::spawn(async move { Client::new().dial(here).await.err().unwrap() });
    let mut length = [0; 2];
    there.read_exact(&mut length).await.unwrap();
    let mut first = vec![0; usize::from(u16::from_be_bytes(length))];
    there.read_exact(&mut first).await.unwrap();
    let liar = StaticKey::generate().unwrap();
    let mut prologue = b"qb-tunnel/1\0".to_vec();
    prologue.extend_from_slice(&[1; 32]);
    prologue.extend_from_slice(b"blue");
    let mut noise = liar.responder(&prologue).unwrap();
    let mut buffer = vec![0; 4096];
    noise.read_message(&first, &mut buffer).unwrap();
    use qb_model::statement::Statement as _;
    let honest = StaticKey::generate().unwrap();
    let hello = qb_link::tunnel::TunnelAgent {
        v: 1,
        site: site(1),
        node: NodeId(node_key().public_key().0),
        noise: honest.public(),
    };
    let signed = hello.sign(&node_key()).to_bytes();
    let length = noise.write_message(&signed, &mut buffer).unwrap();
    there.write_all(&u16::try_from(length).unwrap().to_be_bytes()).await.unwrap();
    there.write_all(&buffer[..length]).await.unwrap();
    let error = dialling.await.unwrap();
    assert!(
        matches!(&error, LinkError::Mismatch { what, .. } if what.contains("another connection")),
        "{error}"
    );
}
