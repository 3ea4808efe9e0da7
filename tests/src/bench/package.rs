//! What a download of a site's package costs the relay: until the answer begins, which is when the
//! package is made, and until it ends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::links::Idle;
use super::print;
use crate::binaries::Binaries;
use crate::packages;
use crate::relay::Relay;

/// Bytes of a package: about what the agent's weighs.
const BYTES: usize = 16 * 1024 * 1024;
/// Downloads after the first one.
const LATER: usize = 20;
/// Port of the relay.
const PORT: u16 = 18_404;
/// Longest wait for a byte.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn measure(binaries: &Binaries) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("qb-bench-").tempdir()?;
    let mut relay = Relay::open(dir.path(), PORT, binaries)?;
    packages::stock(&relay.packages(), BYTES)?;
    relay.kill();
    relay.start()?;
    let site = Idle::found(0, &relay.url(), relay.key)?;
    relay.take(&site.registration()?)?;
    for format in ["deb", "rpm"] {
        let path = format!("/packages/{}/qb-agent.{format}", site.id());
        let first = download(relay.address, &relay.url(), &path)?;
        let mut later =
            (0..LATER).map(|_| download(relay.address, &relay.url(), &path)).collect::<Result<Vec<_>>>()?;
        later.sort_by_key(|one| one.begins);
        let ms = |time: Duration| Value::from((time.as_secs_f64() * 100_000.0).round() / 100.0);
        print(
            "relay_package",
            &json!({ "format": format, "bytes": first.bytes, "first_ms": ms(first.begins),
                "later_p50_ms": ms(later[LATER / 2].begins), "later_max_ms": ms(later[LATER - 1].begins),
                "whole_p50_ms": ms(later[LATER / 2].ends) }),
        )?;
    }
    Ok(())
}

struct Download {
    begins: Duration,
    ends: Duration,
    bytes: usize,
}

fn download(address: SocketAddr, url: &str, path: &str) -> Result<Download> {
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let asked = Instant::now();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = stream.read(&mut buffer)?;
    let begins = asked.elapsed();
    ensure!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..bytes.min(300)]));
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            more => bytes += more,
        }
    }
    Ok(Download { begins, ends: asked.elapsed(), bytes })
}
