//! Requests to one API server over TLS with a client certificate.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use clap::ValueEnum;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes of an answer: an object of these has some hundreds.
const ANSWER_BYTES: usize = 64 * 1024;
/// Bytes of a kubeconfig: three certificates and a key.
const KUBECONFIG_BYTES: u64 = 256 * 1024;

/// How requests share connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Connections {
    /// All over one connection of HTTP/2, as clients of Kubernetes do; a new one only when it ended
    One,
    /// A new one for each
    Each,
}

/// Who asks, PEM.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Whose certificates are believed.
    pub authority: Vec<u8>,
    /// The client's certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

impl Credentials {
    /// Those of a kubeconfig as kubeadm writes it: one user, with its data in the file.
    ///
    /// # Errors
    /// It cannot be read or lacks one of them.
    pub fn of_kubeconfig(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).with_context(|| format!("no {}", path.display()))?.len();
        ensure!(size <= KUBECONFIG_BYTES, "{} is no kubeconfig: {size} bytes", path.display());
        Self::parse(&std::fs::read_to_string(path)?).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let data = |key: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
            let line = line.with_context(|| format!("there is no {key}"))?;
            base64::engine::general_purpose::STANDARD
                .decode(line.trim())
                .with_context(|| format!("{key} is no base64"))
        };
        Ok(Self {
            authority: data("certificate-authority-data")?,
            certificate: data("client-certificate-data")?,
            key: data("client-key-data")?,
        })
    }

    fn tls(&self, connections: Connections) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.authority) {
            roots.add(certificate.context("the authority is no PEM")?)?;
        }
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let key = PrivateKeyDer::from_pem_slice(&self.key).ok().context("the key is no PEM")?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_client_auth_cert(chain.context("the certificate is no PEM")?, key)?;
        config.alpn_protocols = match connections {
            Connections::One => vec![b"h2".to_vec()],
            Connections::Each => vec![b"http/1.1".to_vec()],
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

type Body = Full<Bytes>;

/// See the module.
pub struct Client {
    server: SocketAddr,
    tls: TlsConnector,
    connections: Connections,
    one: Mutex<Option<http2::SendRequest<Body>>>,
}

impl Client {
    /// A client of one server.
    ///
    /// # Errors
    /// The credentials are none.
    pub fn new(server: SocketAddr, who: &Credentials, connections: Connections) -> Result<Self> {
        Ok(Self { server, tls: who.tls(connections)?, connections, one: Mutex::default() })
    }

    /// One request; the word for what went wrong, if the answer is no good one.
    ///
    /// # Errors
    /// `late`, `connection`, or the number of the status.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: &str,
        limit: Duration,
    ) -> Result<StatusCode, String> {
        match tokio::time::timeout(limit, self.exchange(method, path, body)).await {
            Ok(Ok(status)) if status.is_success() => Ok(status),
            Ok(Ok(status)) => Err(status.as_u16().to_string()),
            Ok(Err(_)) => Err("connection".to_owned()),
            Err(_) => Err("late".to_owned()),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: &str) -> Result<StatusCode> {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let uri = match self.connections {
            Connections::One => format!("https://{}{path}", self.server),
            Connections::Each => path.to_owned(),
        };
        let request = Request::builder().method(method).uri(uri).header("content-type", kind);
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        match self.connections {
            Connections::One => {
                let mut sender = self.shared().await?;
                whole(sender.send_request(request.body(body)?).await?).await
            }
            Connections::Each => {
                let stream = TokioIo::new(self.connect().await?);
                let (mut sender, connection) = http1::handshake(stream).await?;
                let request = request.header("host", self.server.to_string()).header("connection", "close");
                let answer = async { whole(sender.send_request(request.body(body)?).await?).await };
                tokio::pin!(connection);
                tokio::select! {
                    answer = answer => answer,
                    Err(error) = &mut connection => Err(error.into()),
                }
            }
        }
    }

    /// The connection that all share. While one is made, others wait for it.
    async fn shared(&self) -> Result<http2::SendRequest<Body>> {
        let mut one = self.one.lock().await;
        if let Some(sender) = one.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = TokioIo::new(self.connect().await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        // It ends with the connection; who sends on it hears how.
        tokio::spawn(async move { drop(connection.await) });
        Ok(one.insert(sender).clone())
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.server).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.server.ip().into());
        Ok(self.tls.connect(name, stream).await?)
    }
}

async fn whole(response: Response<hyper::body::Incoming>) -> Result<StatusCode> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    ensure!(body.is_ok(), "the answer was cut off");
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_has_what_is_needed() {
        let text = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: QQ==\n    server: https://127.0.0.1:6444\nusers:\n- name: a\n  user:\n    client-certificate-data: Qg==\n    client-key-data: Qw==\n";
        let read = Credentials::parse(text).unwrap();
        assert_eq!([&*read.authority, &*read.certificate, &*read.key], [b"A", b"B", b"C"]);
        let error = Credentials::parse(&text.replace("client-key-data", "token")).err().unwrap();
        assert!(error.to_string().contains("client-key-data"), "{error}");
    }
}
