//! What stands between a browser and a relay and lies: a proxy on loopback that passes all on, swaps a
//! text for another of the same length in answers, or gives an old answer again and again.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};

/// Longest head of a request that is passed on.
const HEAD: usize = 64 * 1024;

/// The lies that are told now.
#[derive(Default)]
struct Lies {
    /// Path of the answers that are changed, text, and what stands in its place.
    swap: Option<(String, String, String)>,
    /// Ends of paths whose next answer is given for good.
    frozen: Vec<String>,
    /// The answers that are given again.
    kept: BTreeMap<String, Vec<u8>>,
    /// Requests whose answer was a lie.
    told: usize,
}

/// A proxy in front of a relay; its threads end with the test's process.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Mutex<Lies>>);

impl Proxy {
    /// Listens on loopback for a relay at another port.
    pub(crate) fn open(port: u16, to: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("the proxy's port is taken")?;
        let proxy = Self(Arc::default());
        let own = proxy.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let proxy = own.clone();
                // Whatever ends a connection ends it for both sides: there is nobody to tell.
                thread::spawn(move || proxy.pass(stream, SocketAddr::from((Ipv4Addr::LOCALHOST, to))));
            }
        });
        Ok(proxy)
    }

    fn lies(&self) -> MutexGuard<'_, Lies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on swaps a text in the answers of a path's end.
    pub(crate) fn swap(&self, leaf: &str, from: &str, to: &str) -> Result<()> {
        ensure!(from.len() == to.len(), "the answer's length must stay");
        self.lies().swap = Some((leaf.to_owned(), from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// From now on gives the next answers of these paths' ends again and again.
    pub(crate) fn freeze(&self, leaves: &[&str]) {
        self.lies().frozen = leaves.iter().map(|&l| l.to_owned()).collect();
    }

    /// Tells the truth again, and how often it lied.
    pub(crate) fn honest(&self) -> usize {
        std::mem::take(&mut *self.lies()).told
    }

    fn pass(&self, mut from: TcpStream, to: SocketAddr) -> Result<()> {
        let (head, rest) = read_head(&mut from)?;
        let path = head.split(' ').nth(1).context("no path")?.to_owned();
        let leaf = path.split('?').next().unwrap_or_default();
        let upgrade = head.to_ascii_lowercase().contains("\r\nupgrade:");
        let swap = self.lies().swap.clone().filter(|(end, ..)| leaf.ends_with(end.as_str()));
        let frozen = self.lies().frozen.iter().any(|end| leaf.ends_with(end.as_str()));
        if frozen && let Some(kept) = self.lies().kept.get(&path).cloned() {
            self.lies().told += 1;
            return Ok(from.write_all(&kept)?);
        }
        let mut relay = TcpStream::connect(to)?;
        // One request a connection, so that an answer ends where the connection does.
        let head =
            if upgrade { head } else { head.replace("\r\nConnection: keep-alive", "\r\nConnection: close") };
        relay.write_all(head.as_bytes())?;
        relay.write_all(&rest)?;
        let (mut up, mut over) = (from.try_clone()?, relay.try_clone()?);
        thread::spawn(move || {
            let _ = std::io::copy(&mut up, &mut over);
            let _ = over.shutdown(Shutdown::Write);
        });
        if swap.is_none() && !frozen {
            let _ = std::io::copy(&mut relay, &mut from);
            return Ok(from.shutdown(Shutdown::Both)?);
        }
        let mut answer = Vec::new();
        relay.read_to_end(&mut answer)?;
        if let Some((_, text, by)) = swap {
            let changed = String::from_utf8(answer)?.replace(&text, &by);
            self.lies().told += usize::from(changed.contains(&by));
            answer = changed.into_bytes();
        }
        if frozen && answer.starts_with(b"HTTP/1.1 200") {
            self.lies().kept.insert(path, answer.clone());
        }
        from.write_all(&answer)?;
        Ok(from.shutdown(Shutdown::Both)?)
    }
}

/// The head of a request as text, and what came behind it.
fn read_head(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut some = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8(bytes)?, rest));
        }
        ensure!(bytes.len() < HEAD, "a head without end");
        let read = stream.read(&mut some)?;
        ensure!(read > 0, "the request ends in its head");
        bytes.extend_from_slice(&some[..read]);
    }
}
