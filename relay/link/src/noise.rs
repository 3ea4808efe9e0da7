//! Noise: the key of a process, and the encrypted stream after the handshake.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

use crate::hello::NoiseKey;
use crate::limits::{FRAME_BYTES, LENGTH_BYTES, PLAIN_BYTES, TAG_BYTES};

/// The one pattern and suite of the link.
const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// The Noise key pair of a process: made at its start, never stored. Copies share one secret.
#[derive(Clone)]
pub struct StaticKey {
    secret: Arc<Zeroizing<[u8; 32]>>,
    public: NoiseKey,
}

impl std::fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StaticKey")
    }
}

impl StaticKey {
    /// A new key.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn generate() -> io::Result<Self> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut_slice()).map_err(io::Error::other)?;
        let public = x25519(*secret, X25519_BASEPOINT_BYTES);
        Ok(Self { secret: Arc::new(secret), public })
    }

    /// The public half.
    pub fn public(&self) -> NoiseKey {
        self.public
    }

    /// The agent's end of a bare handshake, for what checks the relay's.
    ///
    /// # Errors
    /// The library refuses its parameters.
    pub fn initiator(&self, prologue: &[u8]) -> Result<HandshakeState, snow::Error> {
        self.builder(prologue)?.build_initiator()
    }

    /// The relay's end of a bare handshake, for what checks the agent's.
    ///
    /// # Errors
    /// The library refuses its parameters.
    pub fn responder(&self, prologue: &[u8]) -> Result<HandshakeState, snow::Error> {
        self.builder(prologue)?.build_responder()
    }

    fn builder<'a>(&'a self, prologue: &'a [u8]) -> Result<Builder<'a>, snow::Error> {
        let builder = Builder::with_resolver(PATTERN.parse()?, Box::new(Resolver));
        builder.prologue(prologue)?.local_private_key(self.secret.as_slice())
    }
}

/// ring for ciphers and hashes, x25519-dalek for the exchange: ring has none with a static key.
struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(System))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(X25519::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        RingResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice)
    }
}

struct System;

impl Random for System {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        getrandom::fill(dest).map_err(|_| snow::Error::Rng)
    }
}

#[derive(Default)]
struct X25519 {
    secret: Zeroizing<[u8; 32]>,
    public: NoiseKey,
}

impl X25519 {
    fn keep(&mut self, secret: Zeroizing<[u8; 32]>) {
        self.public = x25519(*secret, X25519_BASEPOINT_BYTES);
        self.secret = secret;
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(privkey);
        self.keep(secret);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(secret.as_mut_slice())?;
        self.keep(secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_slice()
    }

    /// A key of small order would make the secret known to all: refused.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let point = pubkey.get(..32).and_then(|p| <[u8; 32]>::try_from(p).ok()).ok_or(snow::Error::Dh)?;
        let shared = Zeroizing::new(x25519(*self.secret, point));
        if *shared == [0; 32] {
            return Err(snow::Error::Dh);
        }
        out.get_mut(..32).ok_or(snow::Error::Dh)?.copy_from_slice(shared.as_slice());
        Ok(())
    }
}

/// What was received of the next frame.
enum Incoming {
    Length([u8; LENGTH_BYTES], usize),
    Body(Vec<u8>, usize),
}

/// The encrypted stream. Any error ends it for good.
pub struct NoiseStream<S> {
    inner: S,
    keys: TransportState,
    incoming: Incoming,
    /// Decrypted bytes, from `taken` on still unread.
    plain: Vec<u8>,
    taken: usize,
    /// Encrypted bytes, from `sent` on still unwritten.
    out: Vec<u8>,
    sent: usize,
}

impl<S> NoiseStream<S> {
    pub(crate) fn new(inner: S, keys: TransportState) -> Self {
        let incoming = Incoming::Length([0; LENGTH_BYTES], 0);
        Self { inner, keys, incoming, plain: Vec::new(), taken: 0, out: Vec::new(), sent: 0 }
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads into `buffer` from `have` on. Ready with false at the end of the stream.
fn fill<S: AsyncRead + Unpin>(
    inner: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
    have: &mut usize,
) -> Poll<io::Result<bool>> {
    while *have < buffer.len() {
        let mut rest = ReadBuf::new(&mut buffer[*have..]);
        ready!(Pin::new(&mut *inner).poll_read(cx, &mut rest))?;
        match rest.filled().len() {
            0 => return Poll::Ready(Ok(false)),
            read => *have += read,
        }
    }
    Poll::Ready(Ok(true))
}

impl<S: AsyncRead + Unpin> NoiseStream<S> {
    /// Receives and decrypts the next frame. Ready with false at the end of the stream.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            match &mut self.incoming {
                Incoming::Length(bytes, have) => {
                    if !ready!(fill(&mut self.inner, cx, bytes, have))? {
                        let clean = *have == 0;
                        return Poll::Ready(if clean {
                            Ok(false)
                        } else {
                            Err(broken("the link ended inside a frame"))
                        });
                    }
                    let length = usize::from(u16::from_be_bytes(*bytes));
                    if !(TAG_BYTES..=FRAME_BYTES - LENGTH_BYTES).contains(&length) {
                        return Poll::Ready(Err(broken("a frame is shorter than its tag or over 16 KiB")));
                    }
                    self.incoming = Incoming::Body(vec![0; length], 0);
                }
                Incoming::Body(body, have) => {
                    if !ready!(fill(&mut self.inner, cx, body, have))? {
                        return Poll::Ready(Err(broken("the link ended inside a frame")));
                    }
                    self.plain.resize(body.len(), 0);
                    let read = self.keys.read_message(body, &mut self.plain);
                    self.plain.truncate(read.map_err(|_| broken("a frame is not authentic"))?);
                    self.taken = 0;
                    self.incoming = Incoming::Length([0; LENGTH_BYTES], 0);
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NoiseStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.taken == self.plain.len() {
            if !ready!(self.poll_frame(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        let rest = self.plain.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.plain.len() {
            // An idle link keeps no buffer.
            (self.plain, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> NoiseStream<S> {
    /// Writes what is encrypted already.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.out[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        (self.out, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NoiseStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let plain = &buf[..buf.len().min(PLAIN_BYTES)];
        let mut out = vec![0; LENGTH_BYTES + plain.len() + TAG_BYTES];
        let written = self.keys.write_message(plain, &mut out[LENGTH_BYTES..]);
        let written = written.map_err(|_| broken("a frame cannot be encrypted"))?;
        let length = u16::try_from(written).map_err(|_| broken("a frame is too long"))?;
        out[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        (self.out, self.sent) = (out, 0);
        // It is taken already; what cannot be written now is written by the next call.
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(plain.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
