//! The two questions to an API server: does it take connections, and is it ready.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::health::Asked;
use super::limits::{ANSWER_BYTES, PROBE_LIMIT, READY_LIMIT, STALL};
use crate::text;

/// Why an authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    /// It is no certificate.
    #[error("the cluster's authority is no certificate in PEM")]
    Pem,
    /// TLS does not take it.
    #[error("the cluster's authority cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS that believes the certificates of an authority (PEM, one or more certificates) and no others.
pub(super) fn pinned(authority: &[u8]) -> Result<TlsConnector, AuthorityError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        roots.add(certificate.map_err(|_| AuthorityError::Pem)?)?;
    }
    if roots.is_empty() {
        return Err(AuthorityError::Pem);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whether a server takes connections; none if nothing was learned of it, since this machine was too
/// busy or had no socket left.
pub(super) async fn look(at: SocketAddr) -> Option<bool> {
    let began = Instant::now();
    match timeout(PROBE_LIMIT, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => {
            // Nothing was said, and ten closed sockets a second would be kept for a minute each.
            let _ = stream.set_zero_linger();
            Some(true)
        }
        Ok(Err(e)) => (!is_local(&e)).then_some(false),
        Err(_) => (began.elapsed() <= PROBE_LIMIT + STALL).then_some(false),
    }
}

/// Whether an error is this machine's want of descriptors, ports or memory.
fn is_local(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let local = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| local.iter().any(|errno| errno.raw_os_error() == code))
}

type Sender = SendRequest<Empty<Bytes>>;

/// Asks one server for its readiness, on one connection for as long as that lasts.
pub(super) struct Asker {
    at: SocketAddr,
    tls: TlsConnector,
    open: Option<(Sender, AbortOnDropHandle<()>)>,
}

impl Asker {
    pub(super) fn new(at: SocketAddr, tls: TlsConnector) -> Self {
        Self { at, tls, open: None }
    }

    /// One question. None if nothing was learned, since this machine was too busy.
    pub(super) async fn ask(&mut self) -> Option<Asked> {
        let began = Instant::now();
        let asked = match timeout(READY_LIMIT, self.exchange()).await {
            Ok(Ok(asked)) => return Some(asked),
            Ok(Err(why)) => Some(Asked::Not(why)),
            Err(_) if began.elapsed() > READY_LIMIT + STALL => None,
            Err(_) => Some(Asked::Not(format!("no answer within {} ms", READY_LIMIT.as_millis()))),
        };
        self.open = None;
        asked
    }

    async fn exchange(&mut self) -> Result<Asked, String> {
        let mut open = match self.open.take() {
            Some(open) if !open.0.is_closed() => open,
            _ => self.connect().await?,
        };
        let request = Request::get("/readyz").header("host", self.at.to_string()).body(Empty::new());
        let request = request.map_err(|e| e.to_string())?;
        let response = open.0.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|e| format!("its answer cannot be read: {e}"))?.to_bytes();
        self.open = Some(open);
        Ok(match status {
            StatusCode::OK => Asked::Ready,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Asked::Untold,
            _ => Asked::Not(reason(status, &body)),
        })
    }

    async fn connect(&self) -> Result<(Sender, AbortOnDropHandle<()>), String> {
        let stream = TcpStream::connect(self.at).await.map_err(|e| e.to_string())?;
        let name = ServerName::IpAddress(self.at.ip().into());
        let stream = self.tls.connect(name, stream).await.map_err(|e| e.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        // Moves the bytes; what goes wrong with it is seen by the one who asks.
        let moves = tokio::spawn(async move { drop(connection.await) });
        Ok((sender, AbortOnDropHandle::new(moves)))
    }
}

/// What a server says that is not ready: the checks that fail, bounded and cleaned.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let said = String::from_utf8_lossy(body);
    let failed: Vec<&str> = said.lines().filter_map(|l| l.strip_prefix("[-]")).take(3).collect();
    let code = status.as_u16();
    match failed.is_empty() {
        true => format!("/readyz says {code}"),
        false => format!("/readyz says {code}: {}", text::clean_line(&failed.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_that_fail_are_told() {
        let body = b"[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(reason(status, body), "/readyz says 500: etcd failed: reason withheld");
        assert_eq!(reason(status, b"\xff\x1b[2J"), "/readyz says 500");
        assert!(reason(status, format!("[-]{}", "x".repeat(60_000)).as_bytes()).len() < 4_096);
    }

    #[test]
    fn an_authority_must_be_a_certificate() {
        for bad in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(pinned(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
