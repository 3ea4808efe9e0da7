//! Where bundles come from besides other nodes: a mirror that is configured, and files that somebody put
//! into a folder of this node. Neither is believed: what comes of them is verified like everything else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use qb_drivers::bundle::{CHUNK_BYTES, HEAD_BYTES};
use qb_link::dial::Target;
use qb_model::Digest;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::push::Taking;
use crate::files;
use crate::node::Node;
use crate::uplink::way;

/// Deadline of one ranged read: 1 MiB at 1 Mbit/s.
const READ: Duration = Duration::from_secs(20);
/// The folder in the agent's state for files that somebody brings.
const INBOX: &str = "bundles-in";
/// Bytes of a file that are read at a time.
const PIECE: usize = 256 * 1024;

/// A mirror that has a bundle.
pub(crate) enum Origin {
    /// A file below the configured folder.
    File(Arc<File>),
    /// A server that gives ranges.
    Http(Server),
}

/// A server and a path there.
pub(crate) struct Server {
    target: Target,
    path: String,
    head: Vec<u8>,
}

impl Origin {
    /// The configured mirror, if it has this bundle.
    pub(super) async fn of(node: &Arc<Node>, digest: &Digest) -> Option<Self> {
        let mirror = node.config.bundle_mirror.as_ref()?;
        let name = format!("{digest}.qbb");
        if !mirror.contains("://") {
            let file = files::open_read(&PathBuf::from(mirror).join(name));
            return file
                .inspect_err(|e| tracing::warn!("bundle mirror: {e}"))
                .ok()?
                .map(|f| Self::File(Arc::new(f)));
        }
        let found = Server::find(mirror, &name).await;
        found.inspect_err(|why| tracing::warn!("bundle mirror {mirror}: {why}")).ok().map(Self::Http)
    }

    /// The bundle's beginning.
    pub(super) async fn head(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(file) => read_file(file, 0, HEAD_BYTES).await,
            Self::Http(server) => Ok(server.head.clone()),
        }
    }

    /// These bytes of its file.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, String> {
        let size = usize::try_from(range.end - range.start).map_err(|e| e.to_string())?;
        match self {
            Self::File(file) => read_file(file, range.start, size).await,
            Self::Http(server) => server.read(range.start, size.min(CHUNK_BYTES)).await,
        }
    }
}

async fn read_file(file: &Arc<File>, from: u64, most: usize) -> Result<Vec<u8>, String> {
    let file = Arc::clone(file);
    let read = move || -> std::io::Result<Vec<u8>> {
        let (mut bytes, mut filled) = (vec![0; most], 0);
        while filled < most {
            match file.read_at(&mut bytes[filled..], from + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

impl Server {
    async fn find(mirror: &str, name: &str) -> Result<Self, String> {
        let scheme_ends = mirror.find("://").map_or(0, |at| at + 3);
        let path_begins = mirror[scheme_ends..].find('/').map_or(mirror.len(), |at| at + scheme_ends);
        let (place, path) = mirror.split_at(path_begins);
        let mut server = Self {
            target: target(place)?,
            path: format!("{}/{name}", path.trim_end_matches('/')),
            head: Vec::new(),
        };
        server.head = server.read(0, HEAD_BYTES).await?;
        Ok(server)
    }

    /// At most this many bytes from a place on.
    async fn read(&self, from: u64, most: usize) -> Result<Vec<u8>, String> {
        timeout(READ, self.exchange(from, most))
            .await
            .unwrap_or_else(|_| Err("it does not answer in time".into()))
    }

    async fn exchange(&self, from: u64, most: usize) -> Result<Vec<u8>, String> {
        let Target { host, port, tls, .. } = &self.target;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| e.to_string())?;
        if !tls {
            return self.ask(stream, from, most).await;
        }
        let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
        let config = way::machine_tls().map_err(|e| e.to_string())?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        self.ask(stream.map_err(|e| e.to_string())?, from, most).await
    }

    async fn ask<S>(&self, stream: S, from: u64, most: usize) -> Result<Vec<u8>, String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
        let request = Request::get(&self.path)
            .header("host", &self.target.authority)
            .header("range", format!("bytes={from}-{}", from + most as u64 - 1))
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
            // Whoever does not know ranges would send everything again for each chunk.
            if answer.status() != StatusCode::PARTIAL_CONTENT {
                return Err(format!("it answers {} to a ranged read", answer.status()));
            }
            let body = Limited::new(answer.into_body(), most).collect().await;
            Ok(body.map_err(|e| e.to_string())?.to_bytes().to_vec())
        };
        tokio::pin!(connection);
        tokio::select! {
            answer = exchange => answer,
            Err(error) = &mut connection => Err(error.to_string()),
        }
    }
}

/// Where a mirror is. Plain http will do: what comes is verified.
fn target(place: &str) -> Result<Target, String> {
    let read = |url: &str| Target::parse(url).map_err(|e| e.to_string());
    let Some(rest) = place.strip_prefix("http://") else { return read(place) };
    let target = read(&format!("https://{rest}"))?;
    let named = target.authority != target.host && target.authority != format!("[{}]", target.host);
    Ok(Target { tls: false, port: if named { target.port } else { 80 }, ..target })
}

/// Files in the folder that were looked at: size and time of those that were refused.
#[derive(Debug, Default)]
pub(super) struct Inbox(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

impl Inbox {
    /// Takes the bundles that somebody put into the folder; the files are deleted when they are taken. One
    /// that is refused stays, and is looked at again when it changes.
    pub(super) async fn take(&mut self, node: &Arc<Node>) {
        let dir = node.config.state.join(INBOX);
        if let Err(error) = files::make_dir(&dir) {
            tracing::warn!("{error}");
        }
        for path in files::with_extension(&dir, "qbb") {
            let Some(mark) = files::mark(&path) else { continue };
            if self.0.get(&path) == Some(&mark) {
                continue;
            }
            let taking = Taking::new(node);
            let from = path.clone();
            let taken = tokio::task::spawn_blocking(move || take_file(&from, taking)).await;
            match taken.unwrap_or_else(|e| Err(e.to_string())) {
                Ok(digest) => {
                    tracing::info!(%digest, "bundle taken from {}", path.display());
                    super::arrived(node, &digest);
                    self.0.remove(&path);
                    if let Err(error) = files::remove(&path) {
                        tracing::warn!("{error}");
                    }
                }
                Err(why) => {
                    tracing::warn!("{} is not taken: {why}", path.display());
                    self.0.insert(path, mark);
                }
            }
        }
    }
}

fn take_file(path: &std::path::Path, mut taking: Taking) -> Result<Digest, String> {
    let file = files::open_read(path).map_err(|e| e.to_string())?.ok_or("it is gone again")?;
    let (mut file, mut piece) = (file, vec![0; PIECE]);
    loop {
        let read = file.read(&mut piece).map_err(|e| e.to_string())?;
        if read == 0 {
            return taking.finish().map_err(|e| e.to_string());
        }
        taking.take(&piece[..read]).map_err(|e| e.to_string())?;
    }
}
