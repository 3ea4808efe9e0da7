//! A bundle's files from upstream addresses, by a list that pins each one's digest: downloaded into a cache,
//! resumed, compared, put into place. Nothing that has no digest is taken.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use qb_drivers::RelPath;
use qb_drivers::bundle::BUNDLE_BYTES;
use qb_model::Version;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::send::Bar;
use crate::client::webpki;
use crate::error::CliError;
use crate::files;
use crate::out::Out;

/// Bytes of a list: 256 sources with long addresses fit.
const LIST_BYTES: u64 = 256 * 1024;
/// Addresses that one download is sent on to.
const REDIRECTS: usize = 5;
/// Longest time for an answer to begin, and for each piece of it.
const PIECE: Duration = Duration::from_secs(60);
/// Times that a download which broke off goes on.
const TRIES: usize = 5;

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sources {
    /// The version that the list is for.
    pub version: Version,
    /// The files.
    pub source: Vec<Source>,
}

/// Where something comes from, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// `https://...`, or a path of this computer.
    pub url: String,
    /// SHA-256 of what is there, 64 hexadecimal digits.
    pub sha256: String,
    /// The place in the tree of a plain file.
    #[serde(default)]
    pub place: Option<RelPath>,
    /// Of a tar archive, plain or packed with gzip: place in the tree by path in the archive.
    #[serde(default)]
    pub take: BTreeMap<String, RelPath>,
}

impl Sources {
    /// Reads a list.
    ///
    /// # Errors
    /// It is none, a digest is not pinned, or it is for another version.
    pub(super) fn read(path: &Path, version: &Version) -> Result<Self, CliError> {
        let shown = path.display();
        let list: Self = toml::from_str(&files::read_text(path, LIST_BYTES)?)
            .map_err(|e| CliError::usage(format!("{shown} is no list of sources: {}.", e.message())))?;
        if list.version != *version {
            let text = format!("{shown} is for version {}, not {version}.", list.version);
            return Err(CliError::usage(text).remedy(format!("--version {}", list.version)));
        }
        let open: Vec<&str> =
            list.source.iter().filter(|s| digest(&s.sha256).is_none()).map(|s| s.url.as_str()).collect();
        if !open.is_empty() {
            let text = format!(
                "{shown} pins no digest of {} sources: {}.",
                open.len(),
                open.iter().take(5).copied().collect::<Vec<_>>().join(", ")
            );
            return Err(CliError::usage(text).remedy(
                "write sha256 = \"64 hexadecimal digits\" for each, from the publisher's signed list of checksums",
            ));
        }
        if let Some(source) = list.source.iter().find(|s| s.place.is_none() == s.take.is_empty()) {
            let text = format!("{shown}: {} needs one of place and take.", source.url);
            return Err(CliError::usage(text)
                .remedy("place = \"bin/kubelet\", or take = { \"in/archive\" = \"bin/name\" }"));
        }
        Ok(list)
    }

    /// Fetches what is not in the cache, and lays everything out below `into`.
    ///
    /// # Errors
    /// A source does not answer, is not what is pinned, or lacks something.
    pub(super) async fn lay_out(&self, cache: &Path, into: &Path, out: &Out) -> Result<(), CliError> {
        for source in &self.source {
            let file = source.fetch(cache, out).await?;
            let fail = |e: io::Error| CliError::failed(format!("{}: {e}.", source.url));
            match &source.place {
                Some(place) => {
                    copy(&mut File::open(&file).map_err(fail)?, &into.join(place.as_str())).map_err(fail)?;
                }
                None => unpack(&file, &source.take, into).map_err(fail)?,
            }
        }
        Ok(())
    }
}

/// The digest in 64 hexadecimal digits.
fn digest(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(out)
}

impl Source {
    /// The file with the pinned digest.
    async fn fetch(&self, cache: &Path, out: &Out) -> Result<PathBuf, CliError> {
        if !self.url.contains("://") {
            let path = PathBuf::from(&self.url);
            return self.check(&path).map(|()| path);
        }
        let hex = self.sha256.to_ascii_lowercase();
        let (whole, part) = (cache.join(format!("sha256-{hex}")), cache.join(format!("sha256-{hex}.part")));
        std::fs::create_dir_all(cache).map_err(|e| CliError::file("make the folder", cache, &e))?;
        if whole.is_file() {
            return self.check(&whole).map(|()| whole);
        }
        let mut why = String::new();
        for _ in 0..TRIES {
            match self.go_on(&part, out).await {
                Ok(()) => {
                    if let Err(error) = self.check(&part) {
                        // The next try begins anew.
                        let _ = std::fs::remove_file(&part);
                        return Err(error);
                    }
                    std::fs::rename(&part, &whole).map_err(|e| CliError::file("write", &whole, &e))?;
                    return Ok(whole);
                }
                Err(error) => why = error,
            }
        }
        Err(CliError::unreachable(format!("{}: {why}.", self.url))
            .remedy("run it again: what is there stays"))
    }

    fn check(&self, path: &Path) -> Result<(), CliError> {
        let fail = |e: io::Error| CliError::file("read", path, &e);
        let (mut file, mut hash) = (File::open(path).map_err(fail)?, Sha256::new());
        let mut piece = vec![0; 256 * 1024];
        loop {
            match file.read(&mut piece).map_err(fail)? {
                0 => break,
                read => hash.update(&piece[..read]),
            }
        }
        if digest(&self.sha256).is_some_and(|pinned| hash.finalize().as_slice() == pinned) {
            return Ok(());
        }
        Err(CliError::refused(format!("{} is not what the list pins.", self.url)).remedy(
            "compare the digest with the publisher's list of checksums; take nothing that differs from it",
        ))
    }

    /// Downloads what is missing of a file.
    async fn go_on(&self, part: &Path, out: &Out) -> Result<(), String> {
        let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(|e| e.to_string())?;
        let had = file.metadata().map_err(|e| e.to_string())?.len();
        let answer = self.follow(had).await?;
        let more = match answer.status() {
            StatusCode::PARTIAL_CONTENT => had,
            StatusCode::OK => {
                file.set_len(0).map_err(|e| e.to_string())?;
                0
            }
            // All of it is there already.
            StatusCode::RANGE_NOT_SATISFIABLE if had > 0 => return Ok(()),
            status => return Err(format!("the server answers {status}")),
        };
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let name = self.url.rsplit('/').next().unwrap_or_default();
        let mut bar = Bar::new(out, name, more + length.unwrap_or_default());
        bar.add(more);
        let (mut body, mut total) = (answer.into_body(), more);
        while let Some(frame) = timeout(PIECE, body.frame()).await.map_err(|_| "nothing more comes")? {
            let Ok(data) = frame.map_err(|e| e.to_string())?.into_data() else { continue };
            total += data.len() as u64;
            if total > BUNDLE_BYTES {
                return Err("it is larger than any bundle".into());
            }
            file.write_all(&data).map_err(|e| e.to_string())?;
            bar.add(data.len() as u64);
        }
        file.sync_all().map_err(|e| e.to_string())
    }

    /// Asks, wherever it is sent on to: what counts is the digest.
    async fn follow(&self, from: u64) -> Result<Response<Incoming>, String> {
        let mut url: Uri = self.url.parse().map_err(|_| "it is no address".to_owned())?;
        for _ in 0..=REDIRECTS {
            let answer =
                timeout(PIECE, get(&url, from)).await.map_err(|_| "it does not answer in time")??;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let to = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok());
            let to: Uri = to.and_then(|to| to.parse().ok()).ok_or("it sends on to no address")?;
            url = if to.authority().is_some() { to } else { beside(&url, &to)? };
        }
        Err("it sends on for ever".into())
    }
}

/// An address without a host, below that of another.
fn beside(url: &Uri, to: &Uri) -> Result<Uri, String> {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = to.path_and_query().cloned();
    Uri::from_parts(parts).map_err(|e| e.to_string())
}

async fn get(url: &Uri, from: u64) -> Result<Response<Incoming>, String> {
    let host = url.host().ok_or("it has no host")?;
    let tls = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("it begins neither with https:// nor with http://".into()),
    };
    let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
    if !tls {
        return ask(stream, url, from).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "its name is none")?;
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(&webpki::config()?)).connect(name, stream).await;
    ask(stream.map_err(|e| webpki::explain(&e))?, url, from).await
}

async fn ask<S>(stream: S, url: &Uri, from: u64) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|e| e.to_string())?;
    // Ends with the answer.
    tokio::spawn(async move { drop(connection.await) });
    let authority = url.authority().map(ToString::to_string).unwrap_or_default();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).header(HOST, authority).header(USER_AGENT, "qb");
    if from > 0 {
        request = request.header(RANGE, format!("bytes={from}-"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    sender.send_request(request).await.map_err(|e| e.to_string())
}

fn copy(from: &mut dyn Read, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    io::copy(from, &mut File::create(to)?).map(drop)
}

/// Takes the named files out of an archive; each must be there as a plain file.
fn unpack(archive: &Path, take: &BTreeMap<String, RelPath>, into: &Path) -> io::Result<()> {
    let mut magic = [0; 2];
    let packed = File::open(archive)?.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let file = File::open(archive)?;
    let reader: Box<dyn Read> = if packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let mut left = take.clone();
    for entry in tar::Archive::new(reader).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        if entry.header().entry_type() == tar::EntryType::Regular
            && let Some(place) = left.remove(&path)
        {
            // Bounded: what unpacks to more than a bundle is none of its files.
            let mut bounded = (&mut entry).take(BUNDLE_BYTES);
            copy(&mut bounded, &into.join(place.as_str()))?;
        }
    }
    match left.keys().next() {
        None => Ok(()),
        Some(missing) => Err(io::Error::other(format!("the archive holds no file {missing}"))),
    }
}
