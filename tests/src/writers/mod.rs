//! Open-loop writers: a new request at fixed times, none waiting for another, so that an interruption is
//! seen by as many requests as fall into it. Serial writers stop with the server and see little.
//!
//! ```text
//!  every 20 ms ── PATCH of one of 64 ConfigMaps ── client.rs ── 127.0.0.1:6444
//!  a file, one line a phase ("killed h2") ──┐       │ good answer, status, late, connection
//!                                           └──> figures.rs ── JSON
//! ```

pub mod client;
pub mod figures;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use client::{Client, Connections, Credentials};
use figures::{Record, Report};

/// Objects that are written in turn: more than requests can be under way, so that none waits for another
/// in the server either.
const OBJECTS: u64 = 64;
/// The label by which they are found.
const LABEL: &str = "qb-writers";
/// How long preparing and clearing away may take.
const SETUP: Duration = Duration::from_secs(10);
/// The line that ends a run.
const END: &str = "end";
/// Bytes of the file of phases that are looked at.
const PHASES_BYTES: u64 = 64 * 1024;
/// From one look at that file to the next.
const LOOK: Duration = Duration::from_millis(5);

/// What is run.
pub struct Settings {
    /// The API server, or a balancer before it.
    pub server: SocketAddr,
    /// Who writes.
    pub credentials: Credentials,
    /// How requests share connections.
    pub connections: Connections,
    /// Where the objects are.
    pub namespace: String,
    /// From one request to the next.
    pub every: Duration,
    /// How long a request waits for its answer.
    pub limit: Duration,
    /// How long it all takes at most.
    pub lasts: Duration,
    /// The file of phases: each line begins one, and the line `end` ends the run.
    pub phases: Option<PathBuf>,
}

/// Phases as the file has them; the first has no line.
struct Phases {
    path: Option<PathBuf>,
    names: Vec<String>,
    looked: Option<Instant>,
    ended: bool,
}

impl Phases {
    fn look(&mut self) {
        let due = self.looked.is_none_or(|at| at.elapsed() >= LOOK);
        let Some(path) = self.path.as_ref().filter(|_| due) else { return };
        self.looked = Some(Instant::now());
        let bounded = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= PHASES_BYTES);
        let text = if bounded { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        // A line without its end is still being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines().skip(self.names.len() - 1) {
            if line == END {
                self.ended = true;
                return;
            }
            self.names.push(line.to_owned());
        }
    }
}

/// Writes, and tells how it went.
///
/// # Errors
/// The objects cannot be made: nothing was measured.
pub async fn run(settings: Settings) -> Result<Report> {
    let client = Arc::new(Client::new(settings.server, &settings.credentials, settings.connections)?);
    let all = format!("/api/v1/namespaces/{}/configmaps", settings.namespace);
    prepare(&client, &all).await?;
    let mut phases =
        Phases { path: settings.phases.clone(), names: vec!["first".to_owned()], looked: None, ended: false };
    let began_unix = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let began = Instant::now();
    let mut ticks = interval(settings.every);
    // A tick that this machine was too busy for is made up for: the load stays what it is.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut under_way, mut records, mut number) = (JoinSet::new(), Vec::new(), 0u64);
    loop {
        ticks.tick().await;
        phases.look();
        if phases.ended || began.elapsed() >= settings.lasts {
            break;
        }
        let (client, path) = (client.clone(), format!("{all}/{LABEL}-{}", number % OBJECTS));
        let body = format!(r#"{{"data":{{"number":"{number}"}}}}"#);
        let (phase, limit) = (phases.names.len() - 1, settings.limit);
        number += 1;
        under_way.spawn(async move {
            let begun_us = micros(began);
            let done = client.call(Method::PATCH, &path, &body, limit).await;
            Record { phase, begun_us, ended_us: micros(began), failed: done.err() }
        });
        while let Some(done) = under_way.try_join_next() {
            records.push(done?);
        }
    }
    while let Some(done) = under_way.join_next().await {
        records.push(done?);
    }
    clear(&client, &all).await;
    let began_ms = u64::try_from(began_unix.as_millis()).unwrap_or(u64::MAX);
    Ok(figures::report(began_ms, &phases.names, &records))
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn prepare(client: &Client, all: &str) -> Result<()> {
    let until = Instant::now() + SETUP;
    for n in 0..OBJECTS {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{LABEL}-{n}","labels":{{"{LABEL}":"1"}}}}}}"#
        );
        loop {
            match client.call(Method::POST, all, &body, SETUP).await {
                Ok(_) => break,
                // It is there from a run before.
                Err(word) if word == "409" => break,
                // A refusal stays one; whoever is not up yet is asked again.
                Err(word) if word.starts_with('4') || Instant::now() > until => {
                    bail!("the objects cannot be made: {word}; is the server up, and may this client write?")
                }
                Err(_) => sleep(LOOK).await,
            }
        }
    }
    Ok(())
}

async fn clear(client: &Client, all: &str) {
    let path = format!("{all}?labelSelector={LABEL}");
    if let Err(word) = client.call(Method::DELETE, &path, "", SETUP).await {
        eprintln!("qb-writers: its ConfigMaps with the label {LABEL} stay: {word}");
    }
}

#[cfg(test)]
mod tests;
