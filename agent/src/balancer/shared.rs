//! What the tasks of an open port share: the servers, what is known of them, and who looks at them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use qb_model::Millis;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Backends;
use super::choose::Pool;
use super::connection::{End, Link, Noted, pass, reset};
use super::health::{At, Health, Look, Readiness, Verdict};
use super::limits::{AGAIN, CONNECT_LIMIT, PROBE_EVERY, PROBE_LIMIT, READY_EVERY};
use super::probe::{Asker, look, pinned};
use super::view::{Ended, ServerView, View};
use crate::events;

/// How many connections ended in which way, since the agent started.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) cut: AtomicU64,
    pub(super) drained: AtomicU64,
    pub(super) unserved: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Counts {
    pub(super) fn read(&self) -> Ended {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ended {
            cut: read(&self.cut),
            drained: read(&self.drained),
            unserved: read(&self.unserved),
            refused: read(&self.refused),
        }
    }
}

pub(super) fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// One server: what its connections listen to, and who looks at it.
struct Server {
    verdict: watch::Sender<Verdict>,
    heard: Arc<Noted>,
    told: Told,
    _looks: AbortOnDropHandle<()>,
    asks: Option<AbortOnDropHandle<()>>,
}

/// What people know of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It never took a connection: it may just be coming.
    Never,
    /// It takes connections.
    Alive,
    /// It took some, and takes none now.
    Dead,
}

struct State {
    pool: Pool,
    servers: BTreeMap<SocketAddr, Server>,
    tls: Option<TlsConnector>,
    /// What is wrong with the list.
    trouble: Option<String>,
}

/// See the module.
pub(super) struct Shared {
    began: Instant,
    began_wall: Millis,
    state: Mutex<State>,
    /// Something was learned.
    pub(super) learned: Notify,
    pub(super) counts: Arc<Counts>,
    over: CancellationToken,
}

impl Shared {
    pub(super) fn new(seed: usize, counts: Arc<Counts>) -> Arc<Self> {
        let state = State { pool: Pool::new(seed), servers: BTreeMap::new(), tls: None, trouble: None };
        Arc::new(Self {
            began: Instant::now(),
            began_wall: events::now(),
            state: Mutex::new(state),
            learned: Notify::new(),
            counts,
            over: CancellationToken::new(),
        })
    }

    /// Lets go of all servers: connections to them are drained, and those that look for one are closed.
    pub(super) fn end(&self) {
        self.over.cancel();
        let mut state = self.state();
        state.pool.set(&[], None);
        let servers = std::mem::take(&mut state.servers);
        // Out of the lock first: what is dropped with them may want it.
        drop(state);
        drop(servers);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code that holds the lock can panic")
    }

    fn now(&self) -> At {
        self.began.elapsed()
    }

    fn wall(&self, at: At) -> Millis {
        self.began_wall.plus(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
    }

    fn learn(&self, learn: impl FnOnce(&mut Pool)) {
        learn(&mut self.state().pool);
        self.learned.notify_one();
    }

    /// What a connection that a server has just taken knows of it; none if it left the list. It took one,
    /// whatever looks said before: it must not be cut for having been dead until now.
    fn link(&self, at: &SocketAddr, began: At) -> Option<Link> {
        let mut guard = self.state();
        let state = &mut *guard;
        let server = state.servers.get(at)?;
        state.pool.looked(at, Look { began, answered: true });
        server.verdict.send_replace(state.pool.verdict(at, self.now()));
        Some(Link { verdict: server.verdict.subscribe(), heard: server.heard.clone() })
    }

    /// A connection to the first server that takes one.
    async fn connect(&self) -> Option<(TcpStream, Link)> {
        let until = Instant::now() + CONNECT_LIMIT;
        while Instant::now() < until {
            let order = self.state().pool.order();
            for at in order {
                let began = self.now();
                match timeout(PROBE_LIMIT, TcpStream::connect(at)).await {
                    Ok(Ok(stream)) => {
                        if let Some(link) = self.link(&at, began) {
                            return Some((stream, link));
                        }
                        // It left the list meanwhile.
                        reset(stream);
                    }
                    _ => self.learn(|pool| pool.failed(&at, self.now())),
                }
            }
            sleep_until(until.min(Instant::now() + AGAIN)).await;
        }
        None
    }

    /// Serves a client to its end.
    pub(super) async fn serve(&self, client: TcpStream, _permit: OwnedSemaphorePermit) {
        let found = tokio::select! {
            found = self.connect() => found,
            () = self.over.cancelled() => None,
        };
        let Some((server, link)) = found else {
            count(&self.counts.unserved);
            return reset(client);
        };
        // Answers of an API server are often smaller than a packet; without it they are only later.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        match pass(client, server, link).await {
            End::Own => {}
            End::Drained => count(&self.counts.drained),
            End::Cut => count(&self.counts.cut),
        }
    }

    /// Takes over whose certificates are believed; every server is asked anew.
    pub(super) fn take_authority(self: &Arc<Self>, pem: &[u8]) {
        let (tls, trouble) = match pem {
            [] => (None, None),
            pem => match pinned(pem) {
                Ok(tls) => (Some(tls), None),
                Err(e) => (None, Some(format!("{e}: no API server's readiness is asked; qb audit verify"))),
            },
        };
        if let Some(trouble) = &trouble {
            tracing::error!("{trouble}");
        }
        let mut state = self.state();
        state.tls = tls;
        state.trouble = trouble;
        state.pool.forget_readiness();
        let asks = |at: &SocketAddr| Some(self.asks(*at, state.tls.clone()?));
        let asks: Vec<_> = state.servers.keys().map(asks).collect();
        for (server, asks) in state.servers.values_mut().zip(asks) {
            server.asks = asks;
        }
    }

    /// Takes the list over. `listen` is no server: a way that leads back here would fill itself.
    pub(super) fn take_list(self: &Arc<Self>, backends: &Backends, listen: SocketAddr) {
        let list: Vec<SocketAddr> = backends.backends.iter().copied().filter(|at| *at != listen).collect();
        let mut state = self.state();
        let (new, gone) = state.pool.set(&list, backends.own);
        for at in gone {
            state.servers.remove(&at);
        }
        for at in new {
            let server = Server {
                verdict: watch::channel(Verdict::Keep).0,
                heard: Arc::new(Noted::new(self.began)),
                told: Told::Never,
                _looks: self.looks(at),
                asks: state.tls.clone().map(|tls| self.asks(at, tls)),
            };
            state.servers.insert(at, server);
        }
    }

    fn looks(self: &Arc<Self>, at: SocketAddr) -> AbortOnDropHandle<()> {
        let shared = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let begins = Instant::now();
                let began = shared.now();
                if let Some(answered) = look(at).await {
                    shared.learn(|pool| pool.looked(&at, Look { began, answered }));
                }
                sleep_until(begins + PROBE_EVERY).await;
            }
        }))
    }

    fn asks(self: &Arc<Self>, at: SocketAddr, tls: TlsConnector) -> AbortOnDropHandle<()> {
        let shared = self.clone();
        let mut asker = Asker::new(at, tls);
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let begins = Instant::now();
                if let Some(asked) = asker.ask().await {
                    shared.learn(|pool| pool.asked(&at, asked, shared.now()));
                }
                sleep_until(begins + READY_EVERY).await;
            }
        }))
    }

    /// Carries out what follows from what is known. What is to be said, and what is seen.
    pub(super) fn judge(&self, held: &Backends, listen: SocketAddr) -> (Vec<String>, View) {
        let now = self.now();
        let mut said = Vec::new();
        let mut guard = self.state();
        let state = &mut *guard;
        for (at, server) in &state.servers {
            if let Some(heard) = server.heard.last() {
                state.pool.heard(at, At::from_millis(heard));
            }
        }
        for (at, server) in &mut state.servers {
            let verdict = state.pool.verdict(at, now);
            let connections = server.verdict.receiver_count();
            let is_new = server.verdict.send_if_modified(|held| std::mem::replace(held, verdict) != verdict);
            if is_new && verdict != Verdict::Keep && connections > 0 {
                tracing::info!(server = %at, connections, "connections to an API server end: {verdict:?}");
            }
        }
        let view = self.view(state, held, listen);
        for (at, health) in state.pool.healths() {
            let Some(server) = state.servers.get_mut(at) else { continue };
            let now = match (server.told, health.dead()) {
                (Told::Alive, Some(_)) => Told::Dead,
                (Told::Never | Told::Dead, None) if health.alive() => Told::Alive,
                (same, _) => same,
            };
            match (std::mem::replace(&mut server.told, now), now) {
                (Told::Alive, Told::Dead) => said.push(format!("API server {at} takes no connections")),
                (Told::Dead, Told::Alive) => said.push(format!("API server {at} takes connections again")),
                _ => {}
            }
        }
        (said, view)
    }

    fn view(&self, state: &State, held: &Backends, listen: SocketAddr) -> View {
        let server = |(at, health): (&SocketAddr, &Health)| {
            let (not_ready, why) = match health.readiness() {
                Readiness::Not { since, why } => (Some(*since), why.clone()),
                _ => (None, String::new()),
            };
            let connections = state.servers.get(at).map_or(0, |server| server.verdict.receiver_count());
            ServerView {
                at: *at,
                rank: health.rank(),
                since: health.dead().or(not_ready).map(|since| self.wall(since)),
                why,
                connections,
            }
        };
        View {
            listens: Some(listen),
            waits: state.trouble.clone(),
            cluster: Some(held.cluster.clone()),
            servers: state.pool.healths().map(server).collect(),
            ended: self.counts.read(),
        }
    }
}
