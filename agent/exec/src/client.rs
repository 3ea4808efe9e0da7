//! A small HTTPS client for one API server: one authority pinned, one request per connection,
//! bounded answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::pki::{self, PkiError};

/// Bytes of an answer: a list of 400 nodes fits ten times.
const ANSWER_BYTES: usize = 1 << 20;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("{0} breaks HTTP: {1}")]
    Http(SocketAddr, hyper::Error),
    #[error("{0} gives an answer that cannot be read")]
    Answer(SocketAddr),
    #[error("{0} does not answer within {1:?}")]
    Late(SocketAddr, Duration),
    #[error("the request has no form")]
    Request,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Client {
    server: SocketAddr,
    tls: TlsConnector,
}

impl Client {
    /// A client for one server, whose certificate must come from this authority (PEM).
    pub(crate) fn new(server: SocketAddr, authority: &[u8]) -> Result<Self, PkiError> {
        Ok(Self { server, tls: TlsConnector::from(Arc::new(pki::client(authority)?)) })
    }

    /// Status and body of one request. The body goes out as JSON.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        timeout(limit, self.exchange(method, path, body))
            .await
            .unwrap_or(Err(ClientError::Late(self.server, limit)))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let connect = |e| ClientError::Connect(self.server, e);
        let http = |e| ClientError::Http(self.server, e);
        let stream = TcpStream::connect(self.server).await.map_err(connect)?;
        let name = ServerName::IpAddress(self.server.ip().into());
        let stream = self.tls.connect(name, stream).await.map_err(connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.server.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| ClientError::Request)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
            Ok((status, body.map_err(|_| ClientError::Answer(self.server))?.to_bytes()))
        };
        // The connection moves the bytes; it ends by itself when the exchange is over.
        tokio::pin!(connection);
        tokio::select! {
            answer = exchange => answer,
            Err(error) = &mut connection => Err(http(error)),
        }
    }
}
