//! Tunnels of admins through the relay: bytes between a door's connection and a stream of a link. What is
//! in them is between `qb` and an agent; the relay counts them, and ends them with the session.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HOST, UPGRADE};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use qb_model::{Name, PublicKey};
use qb_portal::tunnel::{Duplex, UPGRADE as TUNNEL, Upgrading};
use qb_portal::view::Problem;
use qb_portal::{Answer, LoginOk, paths};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::limits::{ANSWER_BYTES, TUNNEL_LOOK, TUNNEL_OPEN, TUNNEL_PIECE, TUNNELS, TUNNELS_KEY};
use crate::link::Link;
use crate::relay::Relay;
use crate::site::LiveSite;

/// How many tunnels each key has open.
#[derive(Default)]
pub(crate) struct Tunnels(Mutex<HashMap<PublicKey, usize>>);

impl Tunnels {
    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, usize>> {
        // Every change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, key: &PublicKey) -> Answer<()> {
        let mut open = self.lock();
        if open.values().sum::<usize>() >= TUNNELS {
            return Err(Problem::busy("tunnels", TUNNELS));
        }
        let own = open.entry(*key).or_default();
        if *own >= TUNNELS_KEY {
            return Err(Problem::busy("tunnels of one key", TUNNELS_KEY));
        }
        *own += 1;
        Ok(())
    }

    fn leave(&self, key: &PublicKey) {
        let mut open = self.lock();
        if let Some(own) = open.get_mut(key) {
            *own -= 1;
            if *own == 0 {
                open.remove(key);
            }
        }
    }
}

/// Room for one tunnel; given back when dropped.
struct Room {
    relay: Arc<Relay>,
    key: PublicKey,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.relay.tunnels.leave(&self.key);
    }
}

/// Why a link takes no tunnel.
enum Not {
    /// The site says so.
    Said(Problem),
    /// The link failed.
    Link(String),
}

/// Opens a tunnel at the first linked member that takes it, and moves bytes from then on.
pub(crate) async fn take(
    relay: &Arc<Relay>,
    site: &Arc<LiveSite>,
    cluster: &Name,
    login: LoginOk,
    io: Upgrading,
) -> Answer<()> {
    relay.tunnels.enter(&login.key)?;
    let room = Room { relay: Arc::clone(relay), key: login.key };
    let path = paths::tunnel(&site.id().to_string(), cluster.as_str());
    let mut why = Not::Link("there is no link to the site".to_owned());
    for link in site.links.live() {
        let opened = timeout(TUNNEL_OPEN, open(relay, &link, &path)).await;
        match opened.unwrap_or_else(|_| Err(Not::Link("no answer came in time".to_owned()))) {
            Ok(upgraded) => {
                let carried = Carried { site: Arc::clone(site), cluster: cluster.clone(), login, room };
                relay.tasks.spawn(carried.run(io, upgraded));
                return Ok(());
            }
            Err(not) => why = not,
        }
    }
    Err(match why {
        Not::Said(problem) => problem,
        Not::Link(why) => {
            let remedy = "ask at a node of the site, or try again when the link is back";
            Problem::unavailable("The site cannot be reached through the relay", why, remedy)
        }
    })
}

async fn open(relay: &Relay, link: &Link, path: &str) -> Result<Upgraded, Not> {
    let failed = |e: &dyn std::fmt::Display| Not::Link(e.to_string());
    let stream = link.mux.open().await.map_err(|e| failed(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
    // It hands itself over where it is driven; without an upgrade it ends with its sender.
    relay.tasks.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a stream of a tunnel");
        }
    });
    let request = Request::builder()
        .uri(path)
        .header(HOST, "site")
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, TUNNEL)
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed(&e))?;
    let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return hyper::upgrade::on(response).await.map_err(|e| failed(&e));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|e| failed(&e))?;
    let problem = serde_json::from_slice(&body.to_bytes());
    Err(Not::Said(problem.unwrap_or_else(|_| Problem::internal("Reading the site's answer"))))
}

/// A tunnel that is carried.
struct Carried {
    site: Arc<LiveSite>,
    cluster: Name,
    login: LoginOk,
    room: Room,
}

impl Carried {
    async fn run(self, io: Upgrading, upgraded: Upgraded) {
        let Ok(Ok(client)) = timeout(TUNNEL_OPEN, io).await else { return };
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let why = tokio::select! {
            moved = move_bytes(client, TokioIo::new(upgraded), &up, &down) => {
                if moved.is_ok() { "closed" } else { "broken" }
            }
            () = self.over() => "its session is over",
            () = self.room.relay.cancel.cancelled() => "the relay ends",
        };
        let (up, down) = (up.into_inner(), down.into_inner());
        let (site, cluster, admin) = (&self.site.name, &self.cluster, &self.login.admin);
        tracing::info!(%site, %cluster, %admin, up, down, "a tunnel ended: {why}");
    }

    /// Ready when the admin, the key or the role is no longer what it was, or the site is not served.
    async fn over(&self) {
        let mut look = interval(TUNNEL_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let who = self.site.signatory(&self.login.key).filter(|_| self.site.is_served());
            if !who.is_some_and(|w| w.admin == self.login.admin && w.role == self.login.role) {
                return;
            }
        }
    }
}

async fn move_bytes(
    client: Box<dyn Duplex>,
    site: impl AsyncRead + AsyncWrite + Unpin,
    up: &AtomicU64,
    down: &AtomicU64,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_site, mut to_site) = tokio::io::split(site);
    // What is encrypted ends as a whole: either end is the end.
    tokio::select! {
        moved = copy(&mut from_client, &mut to_site, up) => moved,
        moved = copy(&mut from_site, &mut to_client, down) => moved,
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &AtomicU64,
) -> io::Result<()> {
    let mut piece = vec![0; TUNNEL_PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..read]).await?;
        to.flush().await?;
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}
