//! The port: when it is open, and what is said of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Backends;
use super::connection::reset;
use super::limits::{DRAIN_LIMIT, PORT_AGAIN, TICK};
use super::shared::{Counts, Shared, count};
use super::view::View;
use crate::host;

/// How often it is said that there are too many connections.
const REMIND: Duration = Duration::from_secs(60);

/// What the balancer is made of.
pub struct Balancer {
    /// Where it listens.
    pub listen: SocketAddr,
    /// With which server it begins; others for other nodes.
    pub seed: usize,
    /// The servers.
    pub backends: watch::Receiver<Option<Backends>>,
    /// Connections at a time.
    pub connections: usize,
    /// What people see.
    pub view: watch::Sender<View>,
    /// Says what happened.
    pub say: Box<dyn Fn(String) + Send + Sync>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// Balances until it is cancelled; listens while there are servers.
pub async fn balance(mut balancer: Balancer) {
    let counts = Arc::new(Counts::default());
    let mut told = None;
    while !balancer.cancel.is_cancelled() {
        let Some(backends) = balancer.backends.borrow_and_update().clone() else {
            told = None;
            balancer.view.send_replace(View { ended: counts.read(), ..View::default() });
            if !changed(&mut balancer, None).await {
                return;
            }
            continue;
        };
        match TcpListener::bind(balancer.listen).await {
            Ok(listener) => {
                told = None;
                Session::new(&balancer, &backends, counts.clone())
                    .run(&mut balancer, backends, listener)
                    .await;
            }
            Err(error) => {
                let why = refused(balancer.listen, error).await;
                let view = View {
                    waits: Some(why.clone()),
                    cluster: Some(backends.cluster),
                    ended: counts.read(),
                    ..View::default()
                };
                balancer.view.send_replace(view);
                if told.as_ref() != Some(&why) {
                    tracing::error!("{why}");
                    (balancer.say)(why.clone());
                    told = Some(why);
                }
                if !changed(&mut balancer, Some(PORT_AGAIN)).await {
                    return;
                }
            }
        }
    }
}

/// Waits until the servers change, or for some time. False if it is over.
async fn changed(balancer: &mut Balancer, at_most: Option<Duration>) -> bool {
    let slept = async {
        match at_most {
            Some(pause) => sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        changed = balancer.backends.changed() => changed.is_ok(),
        () = slept => true,
        () = balancer.cancel.cancelled() => false,
    }
}

/// Why the port cannot be opened, and what helps.
async fn refused(at: SocketAddr, error: std::io::Error) -> String {
    // It reads what every process has open.
    match tokio::task::spawn_blocking(move || host::port_holder(at)).await {
        Ok(Some(holder)) => format!(
            "port {at} is taken by {holder}: stop that, this node reaches its cluster's API server through it"
        ),
        _ => format!("port {at} cannot be opened: {error}; it is tried again"),
    }
}

/// The time in which the port is open for one cluster.
struct Session {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    listen: SocketAddr,
    reminded: Option<Instant>,
}

impl Session {
    fn new(balancer: &Balancer, backends: &Backends, counts: Arc<Counts>) -> Self {
        let shared = Shared::new(balancer.seed, counts);
        shared.take_authority(&backends.authority_pem);
        shared.take_list(backends, balancer.listen);
        Self {
            shared,
            tasks: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(balancer.connections)),
            listen: balancer.listen,
            reminded: None,
        }
    }

    /// Runs until there are no servers any more, or those of another cluster. False if all is over.
    async fn run(mut self, balancer: &mut Balancer, mut held: Backends, listener: TcpListener) -> bool {
        tracing::info!(listen = %self.listen, cluster = %held.cluster, "the way to the API servers is open");
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let goes_on = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) => self.accept(client),
                    // No descriptor is left: it would fail again at once.
                    Err(e) => {
                        tracing::warn!("a connection to {} is not taken: {e}", self.listen);
                        sleep(TICK).await;
                    }
                },
                _ = tick.tick() => self.judge(balancer, &held),
                () = self.shared.learned.notified() => self.judge(balancer, &held),
                changed = balancer.backends.changed() => {
                    if changed.is_err() {
                        break false;
                    }
                    let new = balancer.backends.borrow_and_update().clone();
                    match new {
                        Some(new) if new.cluster == held.cluster => {
                            if new.authority_pem != held.authority_pem {
                                self.shared.take_authority(&new.authority_pem);
                            }
                            self.shared.take_list(&new, self.listen);
                            held = new;
                            self.judge(balancer, &held);
                        }
                        _ => {
                            // What comes is for the next session to see.
                            balancer.backends.mark_changed();
                            break true;
                        }
                    }
                }
                () = balancer.cancel.cancelled() => break false,
            }
        };
        drop(listener);
        balancer.view.send_replace(View { ended: self.shared.counts.read(), ..View::default() });
        self.end().await;
        goes_on
    }

    /// Drains what is left.
    async fn end(self) {
        self.shared.end();
        self.tasks.close();
        if timeout(2 * DRAIN_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections to API servers did not end in time");
        }
    }

    fn accept(&mut self, client: TcpStream) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            reset(client);
            count(&self.shared.counts.refused);
            if self.reminded.is_none_or(|at| at.elapsed() >= REMIND) {
                self.reminded = Some(Instant::now());
                tracing::warn!(
                    "too many connections to {}: `ss -tnp 'dport = :{}'` shows root whose they are",
                    self.listen,
                    self.listen.port()
                );
            }
            return;
        };
        let shared = self.shared.clone();
        self.tasks.spawn(async move { shared.serve(client, permit).await });
    }

    /// Carries out what follows from what is known, shows it and says it.
    fn judge(&self, balancer: &Balancer, held: &Backends) {
        let (said, view) = self.shared.judge(held, self.listen);
        balancer.view.send_if_modified(|shown| {
            let differs = *shown != view;
            *shown = view;
            differs
        });
        for text in said {
            let text = format!("{}: {text}", held.cluster);
            tracing::info!("{text}");
            (balancer.say)(text);
        }
    }
}
