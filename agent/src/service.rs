//! The agent as a service of systemd: ready, alive, how it is, and the words on the console. Without
//! systemd nothing of this is heard.
//!
//! ```text
//!  own socket answers /healthz ── READY=1
//!  Sight (node, state) ── line() ── STATUS=, and the words that login prompts show
//!  runtime, mesh's loop answer ── WATCHDOG=1; the Raft core has a watchdog of its own, which ends the process
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use qb_model::Millis;
use qb_model::action::NodeRole;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::door::views::words_of;
use crate::host::clock::{self, utc};
use crate::node::Node;
use crate::{events, files, host};

/// How long the own socket may take to answer.
const ANSWERS: Duration = Duration::from_secs(10);
/// How often it is looked whether the status has changed.
const LOOK: Duration = Duration::from_secs(1);
/// A leader that is away for less than this is being elected, in milliseconds.
const ELECTION_MS: u64 = 5_000;
/// How often a node that waits says so in the journal.
const REMIND: Duration = Duration::from_secs(3_600);
/// The file that login prompts on the console show, in the directory of this service.
const ISSUE: &str = "issue";

/// Tells that it is ready, once its own door answers.
///
/// # Errors
/// The door does not.
pub async fn ready(node: &Arc<Node>) -> Result<()> {
    let path = &node.config.socket;
    let asked = timeout(ANSWERS, healthz(path)).await;
    asked
        .with_context(|| format!("{} has not answered for {} s", path.display(), ANSWERS.as_secs()))?
        .with_context(|| format!("{} does not answer", path.display()))?;
    qb_service::ready(&line(&sight(node)));
    Ok(())
}

async fn healthz(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut head = [0u8; 12];
    stream.read_exact(&mut head).await?;
    if head != *b"HTTP/1.1 200" {
        bail!("/healthz says {}", String::from_utf8_lossy(&head));
    }
    Ok(())
}

/// What a status line is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    site: String,
    host: String,
    /// Words of the site and of the node.
    words: (String, String),
    standing: Standing,
    /// Something that people should do first.
    notice: Option<String>,
}

/// Where a node stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Standing {
    /// Not let in.
    #[default]
    Waits,
    /// Let in; its copy of the state is not here yet.
    ComesIn,
    /// Revoked.
    Revoked,
    /// A member: its part, its cluster and role there, since when it knows no leader.
    Member { part: &'static str, cluster: Option<(String, &'static str)>, away: Option<Millis> },
}

/// The status: what matters first.
fn line(sight: &Sight) -> String {
    let Sight { site, host, words, standing, notice } = sight;
    let stands = match standing {
        Standing::Waits => format!(
            "waiting to be authorized by site {site}: qb node authorize {host}, words of this node: {}",
            words.1
        ),
        Standing::ComesIn => format!("let into site {site}, reads or looks for its state"),
        Standing::Revoked => {
            format!("revoked by site {site}: takes no more orders; qb-agent reset starts anew")
        }
        Standing::Member { part, cluster, away } => {
            let cluster = match cluster {
                Some((name, role)) => format!("cluster {name} ({role})"),
                None => "in the pool".to_owned(),
            };
            let away = away.map(|at| format!("; away from quorum since {}", utc(at))).unwrap_or_default();
            format!("member of site {site}, {part}, {cluster}{away}")
        }
    };
    match notice {
        Some(notice) => format!("{notice}; {stands}"),
        None => stands,
    }
}

fn sight(node: &Node) -> Sight {
    let (state, raft, now) = (node.site(), node.raft(), node.site_now());
    let record = state.node(&node.id());
    let standing = if *node.revoked.borrow() {
        Standing::Revoked
    } else if let Some(record) = record.filter(|_| state.founded()) {
        let votes = raft.raft_id.is_some_and(|id| raft.voters.contains_key(&id));
        let role = |role| if role == NodeRole::ControlPlane { "control plane" } else { "worker" };
        Standing::Member {
            part: match (raft.is_leader(), votes) {
                (true, _) => "leads",
                (false, true) => "votes",
                (false, false) => "follows",
            },
            cluster: record
                .phase
                .cluster()
                .map(|c| (c.to_string(), record.phase.role().map_or("member", role))),
            away: node.watch.leaderless().filter(|at| now.since(*at) > ELECTION_MS),
        }
    } else if *node.admitted.borrow() || node.membership().founding.is_some() {
        Standing::ComesIn
    } else {
        Standing::Waits
    };
    Sight {
        site: node.site().name().to_string(),
        host: node.facts().host.to_string(),
        words: (words_of(&node.enrolment.site.0.0), words_of(&node.id().0)),
        standing,
        notice: clock::wrong(events::now(), node.known_time()).or_else(|| node.notices.first().cloned()),
    }
}

/// What the login prompt on the console says while a node waits; backslashes mean something there.
fn issue(sight: &Sight) -> Option<String> {
    (sight.standing == Standing::Waits).then(|| {
        format!(
            "qb: {} waits to be authorized\nsite {}: {}\nnode: {}\n\n",
            sight.host, sight.site, sight.words.0, sight.words.1
        )
        .replace('\\', "/")
    })
}

/// Keeps the console's words true.
struct Console {
    path: Option<PathBuf>,
    shown: Option<String>,
}

impl Console {
    fn show(&mut self, text: Option<String>) {
        let Some(path) = self.path.as_ref().filter(|_| self.shown != text) else { return };
        let done = match &text {
            Some(text) => files::write_atomic(path, text.as_bytes(), 0o644),
            None => files::remove(path).map(drop),
        };
        if let Err(e) = done {
            tracing::debug!("the console shows no words: {e}");
        }
        self.shown = text;
    }
}

/// Writes the words for the console before it is ready, so that what runs then can show them.
pub fn first_words(node: &Node) {
    console().show(issue(&sight(node)));
}

fn console() -> Console {
    Console { path: host::runtime_dir().map(|dir| dir.join(ISSUE)), shown: None }
}

/// Keeps the status true for as long as the agent runs.
pub async fn run(node: Arc<Node>) {
    let (mut told, mut console) = (String::new(), console());
    // What an agent left that was killed goes, also if nothing is to be shown now.
    console.shown = Some(String::new());
    let mut reminded = Instant::now();
    for notice in &node.notices {
        node.events.say(events::now(), "agent", node.facts().host.as_str(), notice.clone());
    }
    loop {
        let sight = sight(&node);
        let line = line(&sight);
        if line != told {
            qb_service::status(&line);
            tracing::debug!("{line}");
            told = line;
        }
        if sight.standing == Standing::Waits && reminded.elapsed() >= REMIND {
            reminded = Instant::now();
            tracing::info!("{told}");
        }
        console.show(issue(&sight));
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

/// Says that it lives, for as long as it does: each time through the runtime and the mesh's loop. If
/// one of them hangs, nothing is said, and the system starts the agent anew.
pub async fn watchdog(node: Arc<Node>) {
    let Some(every) = qb_service::watchdog() else { return };
    loop {
        match timeout(every / 2, alive(&node)).await {
            Ok(Ok(())) => qb_service::alive(),
            Ok(Err(why)) => tracing::error!("a part of this agent is gone: {why}"),
            Err(_) => tracing::error!("the mesh's loop has not answered for {:?}", every / 2),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

async fn alive(node: &Node) -> Result<(), String> {
    // Through the queue of the runtime, which a task that never yields would keep from turning.
    tokio::spawn(async {}).await.map_err(|e| e.to_string())?;
    match node.mesh() {
        Some(mesh) => mesh.alive().await.map_err(|e| e.to_string()),
        None => Err("the mesh is not up".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(standing: Standing, notice: Option<&str>) -> Sight {
        Sight {
            site: "lyon".into(),
            host: "r1-01".into(),
            words: ("able baker".into(), "coal dune".into()),
            standing,
            notice: notice.map(str::to_owned),
        }
    }

    #[test]
    fn the_status_is_one_true_line() {
        let member = |part, cluster: Option<(&str, &'static str)>, away: Option<u64>| Standing::Member {
            part,
            cluster: cluster.map(|(name, role)| (name.to_owned(), role)),
            away: away.map(Millis),
        };
        for (standing, notice, want) in [
            (
                Standing::Waits,
                None,
                "waiting to be authorized by site lyon: qb node authorize r1-01, words of this node: coal dune",
            ),
            (Standing::ComesIn, None, "let into site lyon, reads or looks for its state"),
            (member("votes", None, None), None, "member of site lyon, votes, in the pool"),
            (
                member("follows", Some(("blue", "worker")), Some(0)),
                None,
                "member of site lyon, follows, cluster blue (worker); away from quorum since 1970-01-01 00:00 UTC",
            ),
            (
                member("leads", None, None),
                Some("the clock is wrong"),
                "the clock is wrong; member of site lyon, leads, in the pool",
            ),
            (
                Standing::Revoked,
                None,
                "revoked by site lyon: takes no more orders; qb-agent reset starts anew",
            ),
        ] {
            assert_eq!(line(&sight(standing, notice)), want);
        }
    }

    #[test]
    fn the_console_shows_words_only_while_the_node_waits() {
        let text = issue(&sight(Standing::Waits, None)).unwrap();
        assert!(text.contains("able baker") && text.contains("coal dune") && !text.contains('\\'), "{text}");
        assert_eq!(issue(&sight(Standing::ComesIn, None)), None);
        let dir = std::env::temp_dir().join(format!("qb-issue-{}", std::process::id()));
        files::make_dir(&dir).unwrap();
        let path = dir.join(ISSUE);
        let mut console = Console { path: Some(path.clone()), shown: Some(String::new()) };
        console.show(Some(text.clone()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        console.show(None);
        assert!(!path.exists());
        std::fs::write(&path, "of an agent that was killed").unwrap();
        Console { path: Some(path.clone()), shown: Some(String::new()) }.show(None);
        assert!(!path.exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn a_door_that_answers_is_told_from_one_that_does_not() {
        let dir = std::env::temp_dir().join(format!("qb-ready-{}", std::process::id()));
        files::make_dir(&dir).unwrap();
        let path = dir.join("agent.sock");
        assert!(healthz(&path).await.is_err(), "there is none");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        for (answer, good) in
            [("HTTP/1.1 200 OK\r\n\r\nok", true), ("HTTP/1.1 503 no\r\n\r\n", false), ("", false)]
        {
            let asked = healthz(&path);
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0u8; 64];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let (asked, ()) = tokio::join!(asked, serve);
            assert_eq!(asked.is_ok(), good, "{answer:?}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
