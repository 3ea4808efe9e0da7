//! The way to a relay: address, proxy, TLS, WebSocket.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use qb_model::Digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::http::Uri;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::limits::{DIAL, PROXY_BYTES};
use crate::ws::{self, PATH, WsIo};

/// Where distributions keep the certificates that the machine trusts, for [`OuterTls::from_pem`].
pub const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Which certificates the TLS around the link may have. What authenticates the relay is its pinned
/// key, inside; TLS only hides who speaks to whom.
#[derive(Debug, Clone)]
pub enum OuterTls {
    /// One of these issuers.
    Roots(Arc<RootCertStore>),
    /// Exactly this key: SHA-256 of its SubjectPublicKeyInfo.
    Spki(Digest),
    /// Any: for networks whose firewall ends TLS itself.
    Any,
}

impl OuterTls {
    /// The public issuers that came with this program: what browsers trust, and no company's own
    /// issuer, whatever this machine's bundle holds.
    pub fn public() -> Self {
        Self::Roots(Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()))
    }

    /// Issuers from a PEM file's bytes, of which those that cannot be read are left out.
    pub fn from_pem(pem: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
        Self::Roots(Arc::new(roots))
    }
}

/// An HTTP proxy that lets through by CONNECT.
#[derive(Clone)]
pub struct Proxy {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`, if it wants one. Never logged.
    pub authorization: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

/// How to reach a relay.
#[derive(Debug, Clone)]
pub struct DialConfig {
    /// `https://HOST[:PORT]`, or `http://` for this very machine.
    pub url: String,
    /// The proxy on the way: only if configured, never from the environment.
    pub proxy: Option<Proxy>,
    /// The TLS outside.
    pub outer: OuterTls,
}

/// Why a relay cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address is not one of a relay.
    #[error("relay address {url:?}: {why}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// No connection.
    #[error("cannot connect to {to}: {why}")]
    Connect {
        /// Host and port.
        to: String,
        /// What failed.
        why: io::Error,
    },
    /// The proxy lets nothing through.
    #[error("proxy {proxy} does not connect to {to}: {why}")]
    Proxy {
        /// The proxy.
        proxy: String,
        /// Host and port behind it.
        to: String,
        /// What it said.
        why: String,
    },
    /// TLS fails.
    #[error("TLS to {to}: {why}")]
    Tls {
        /// Host and port.
        to: String,
        /// What failed.
        why: String,
    },
    /// There is no relay at that address.
    #[error("{to} answers, but not as a relay: {why}")]
    WebSocket {
        /// Host and port.
        to: String,
        /// What failed.
        why: String,
    },
    /// Nothing came in time.
    #[error("no connection to {0} within 20 s")]
    Slow(String),
}

/// An address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether TLS is outside.
    pub tls: bool,
    /// The host alone.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as the header `Host` has them, in lower case.
    pub authority: String,
}

impl Target {
    /// Reads an address.
    ///
    /// # Errors
    /// It is not `https://HOST[:PORT]`, or `http://` for this very machine.
    pub fn parse(url: &str) -> Result<Self, DialError> {
        let fail = |why| DialError::Url { url: url.chars().take(80).collect(), why };
        let uri: Uri = url.parse().map_err(|_| fail("it is no address"))?;
        let authority = uri.authority().ok_or_else(|| fail("it has no host"))?;
        if authority.as_str().contains('@') || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(fail("it has more than a host and a port"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let tls = match uri.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") if local => false,
            Some("http" | "ws") => return Err(fail("plain http goes to this very machine only: use https")),
            _ => return Err(fail("it does not begin with https://")),
        };
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port, authority: authority.as_str().to_ascii_lowercase() })
    }
}

/// Whatever carries the link's bytes.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for T {}

/// Dials, within [`DIAL`].
///
/// # Errors
/// What failed first on the way.
pub async fn dial(config: &DialConfig) -> Result<(Box<dyn Carrier>, Target), DialError> {
    let target = Target::parse(&config.url)?;
    let to = format!("{}:{}", target.host, target.port);
    let way = async {
        let tcp = match &config.proxy {
            None => connect(&target.host, target.port).await?,
            Some(proxy) => through(proxy, &to).await?,
        };
        if target.tls {
            let tls = tls(tcp, &target, &config.outer, &to).await?;
            upgrade(tls, &target, &to).await
        } else {
            upgrade(tcp, &target, &to).await
        }
    };
    let carrier = tokio::time::timeout(DIAL, way).await.map_err(|_| DialError::Slow(to.clone()))??;
    Ok((carrier, target))
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let fail = |why| DialError::Connect { to: format!("{host}:{port}"), why };
    let tcp = TcpStream::connect((host, port)).await.map_err(fail)?;
    tcp.set_nodelay(true).map_err(fail)?;
    Ok(tcp)
}

async fn upgrade<S: Carrier + 'static>(
    io: S,
    target: &Target,
    to: &str,
) -> Result<Box<dyn Carrier>, DialError> {
    let scheme = if target.tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{PATH}", target.authority);
    let fail = |why| DialError::WebSocket { to: to.to_owned(), why };
    match client_async_with_config(url, io, Some(ws::config())).await {
        Ok((socket, _)) => Ok(Box::new(WsIo::new(socket))),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// Asks a proxy for a way.
async fn through(proxy: &Proxy, to: &str) -> Result<TcpStream, DialError> {
    let name = format!("{}:{}", proxy.host, proxy.port);
    let fail = |why: String| DialError::Proxy { proxy: name.clone(), to: to.to_owned(), why };
    let mut tcp = connect(&proxy.host, proxy.port).await?;
    let mut ask = Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
    if let Some(authorization) = &proxy.authorization {
        ask.push_str("Proxy-Authorization: ");
        ask.push_str(authorization);
        ask.push_str("\r\n");
    }
    ask.push_str("\r\n");
    tcp.write_all(ask.as_bytes()).await.map_err(|e| fail(e.to_string()))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_BYTES {
            return Err(fail("its answer is too long".into()));
        }
        // Byte by byte: what follows the head belongs to the relay.
        head.push(tcp.read_u8().await.map_err(|e| fail(e.to_string()))?);
    }
    let line: Vec<u8> = head.into_iter().take_while(|b| *b != b'\r').take(100).collect();
    match line.split(|b| *b == b' ').nth(1) {
        Some(b"200") => Ok(tcp),
        _ => Err(fail(String::from_utf8_lossy(&line).escape_debug().collect())),
    }
}

async fn tls(
    tcp: TcpStream,
    target: &Target,
    outer: &OuterTls,
    to: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, DialError> {
    let fail = |why: String| DialError::Tls { to: to.to_owned(), why };
    let config = client_config(outer).map_err(|e| fail(e.to_string()))?;
    let name = ServerName::try_from(target.host.clone()).map_err(|e| fail(e.to_string()))?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| fail(e.to_string()))
}

fn client_config(outer: &OuterTls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let webpki = match outer {
        OuterTls::Roots(roots) => {
            let built = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
            Some(built.map_err(|e| TlsError::General(format!("no usable root certificates: {e}")))?)
        }
        OuterTls::Spki(_) | OuterTls::Any => None,
    };
    let pin = match outer {
        OuterTls::Spki(pin) => Some(*pin),
        OuterTls::Roots(_) | OuterTls::Any => None,
    };
    let verifier = Outer { webpki, pin, provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Checks certificates as [`OuterTls`] says, and names the issuer of one that is refused.
#[derive(Debug)]
struct Outer {
    webpki: Option<Arc<WebPkiServerVerifier>>,
    pin: Option<Digest>,
    provider: Arc<CryptoProvider>,
}

impl Outer {
    fn check_pin(&self, certificate: &CertificateDer<'_>) -> Result<(), TlsError> {
        let Some(pin) = self.pin else { return Ok(()) };
        let bad = |_| TlsError::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(bad)?;
        if pin.0[..] == Sha256::digest(parsed.public_key().raw)[..] {
            return Ok(());
        }
        Err(TlsError::General(intercepted(certificate)))
    }
}

fn intercepted(certificate: &CertificateDer<'_>) -> String {
    let issuer = X509Certificate::from_der(certificate).map(|(_, parsed)| parsed.issuer().to_string());
    let issuer: String = issuer.unwrap_or_default().chars().take(200).flat_map(char::escape_debug).collect();
    format!(
        "relay/tls-intercepted, issuer \"{issuer}\": that is no issuer this agent takes a relay's certificate from; if it is \
         the relay's own, start qb-agent with --relay-ca FILE, or with --relay-outer-tls system where this machine trusts it; \
         if your network ends TLS itself, with --relay-outer-tls any: the link inside stays the relay's own"
    )
}

impl ServerCertVerifier for Outer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.check_pin(certificate)?;
        let Some(webpki) = &self.webpki else { return Ok(ServerCertVerified::assertion()) };
        match webpki.verify_server_cert(certificate, between, name, ocsp, now) {
            // A foreign issuer, or one that borrows the name of a known one.
            Err(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Err(TlsError::General(intercepted(certificate))),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
