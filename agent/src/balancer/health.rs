//! What is known of one API server, and what becomes of its connections. Pure: time is given.
//!
//! Two signals, and each decides one thing. Whether it takes connections says if it is *dead*: then its
//! connections are cut, since their clients would wait for answers that never come. What it says of its
//! readiness decides where *new* connections go. During an election of etcd every server is not ready,
//! and no connection is the worse for it.

use std::time::Duration;

use super::limits::{FRESH, MISSES, PATIENCE};

/// A moment: time since the balancer began. It never goes back.
pub type At = Duration;

/// What a server said of its readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It was not asked yet, or does not tell strangers.
    Unknown,
    /// It is ready, etcd included.
    Ready,
    /// It is not, or gave no answer that can be trusted: since when, and what it was the last time.
    Not {
        /// Since when.
        since: At,
        /// What was heard last.
        why: String,
    },
}

/// What a server answered to the question for its readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is ready.
    Ready,
    /// It is not, or nothing was heard that can be trusted.
    Not(String),
    /// It answers, and does not tell strangers.
    Untold,
}

/// What one look whether a server takes connections came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When it began.
    pub began: At,
    /// Whether it was answered with a connection.
    pub answered: bool,
}

/// How a server stands, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It takes connections and is ready.
    Ready,
    /// Nothing speaks against it, and it did not say that it is ready.
    Unknown,
    /// It would be one of these, but a connection to it failed since it was looked at.
    Suspect,
    /// It takes connections and is not ready.
    NotReady,
    /// It takes no connections.
    Dead,
}

/// What becomes of the connections to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They go on.
    Keep,
    /// Each ends when it is quiet, and soon.
    Drain,
    /// They end at once, and their clients are told by a reset.
    Cut,
}

/// What is known of the servers beside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// One of them takes connections.
    pub alive: bool,
    /// One of them is ready.
    pub ready: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Health {
    /// Looks in a row that failed, and when the first of them began.
    misses: (u32, At),
    /// It was answered once.
    answered: bool,
    readiness: Readiness,
    /// When a connection for a client failed, until a later look is answered.
    suspect: Option<At>,
    /// When its last byte came.
    heard: Option<At>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            misses: (0, At::ZERO),
            answered: false,
            readiness: Readiness::Unknown,
            suspect: None,
            heard: None,
        }
    }
}

impl Health {
    /// Takes in what a look came to.
    pub fn looked(&mut self, look: Look) {
        if !look.answered {
            if self.misses.0 == 0 {
                self.misses.1 = look.began;
            }
            self.misses.0 = self.misses.0.saturating_add(1);
            return;
        }
        self.misses.0 = 0;
        self.answered = true;
        self.suspect = self.suspect.filter(|failed| *failed > look.began);
    }

    /// Takes in what it said of its readiness.
    pub fn asked(&mut self, asked: Asked, now: At) {
        self.readiness = match asked {
            Asked::Ready => Readiness::Ready,
            Asked::Untold => Readiness::Unknown,
            Asked::Not(why) => {
                let since = match &self.readiness {
                    Readiness::Not { since, .. } => *since,
                    _ => now,
                };
                Readiness::Not { since, why }
            }
        };
    }

    /// What it said of its readiness counts no more.
    pub fn forget_readiness(&mut self) {
        self.readiness = Readiness::Unknown;
    }

    /// A connection for a client failed. Two of them do not make it dead: under a burst of connections
    /// they fail where the server does well, and cutting all others would make the burst larger.
    pub fn failed(&mut self, now: At) {
        self.suspect = Some(now);
    }

    /// A byte of it came.
    pub fn heard(&mut self, at: At) {
        self.heard = self.heard.max(Some(at));
    }

    /// Since when it takes no connections.
    pub fn dead(&self) -> Option<At> {
        (self.misses.0 >= MISSES).then_some(self.misses.1)
    }

    /// Whether it was found to take connections.
    pub fn alive(&self) -> bool {
        self.answered && self.dead().is_none()
    }

    /// What it said of its readiness.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Where it stands among those that a new connection may go to.
    pub fn rank(&self) -> Rank {
        if self.dead().is_some() {
            return Rank::Dead;
        }
        match (&self.readiness, self.suspect) {
            (Readiness::Not { .. }, _) => Rank::NotReady,
            (_, Some(_)) => Rank::Suspect,
            (Readiness::Ready, None) => Rank::Ready,
            (Readiness::Unknown, None) => Rank::Unknown,
        }
    }

    /// What becomes of its connections now.
    pub fn verdict(&self, others: Others, now: At) -> Verdict {
        let lasts = |since: At| now.saturating_sub(since) > PATIENCE;
        if let Some(since) = self.dead() {
            // Alone, or with all others: it may be this machine's own network, and a connection that is
            // cut has nowhere to go. After a while the client is told all the same.
            let of_use = others.alive || lasts(since);
            let speaks = self.heard.is_some_and(|at| now.saturating_sub(at) <= FRESH);
            return if of_use && !speaks { Verdict::Cut } else { Verdict::Keep };
        }
        match &self.readiness {
            Readiness::Not { since, .. } if lasts(*since) && others.ready => Verdict::Drain,
            _ => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Others = Others { alive: false, ready: false };
    const ALIVE: Others = Others { alive: true, ready: false };
    const READY: Others = Others { alive: true, ready: true };

    fn ms(at: u64) -> At {
        At::from_millis(at)
    }

    enum Event {
        Look(bool),
        Asked(Asked),
        Failed,
        Heard,
    }
    use Event::{Failed, Heard, Look as Looked};

    fn not() -> Event {
        Event::Asked(Asked::Not("etcd failed".into()))
    }

    fn after(events: Vec<(u64, Event)>) -> Health {
        let mut health = Health::default();
        for (at, event) in events {
            match event {
                Looked(answered) => health.looked(Look { began: ms(at), answered }),
                Event::Asked(asked) => health.asked(asked, ms(at)),
                Failed => health.failed(ms(at)),
                Heard => health.heard(ms(at)),
            }
        }
        health
    }

    #[test]
    fn signals_become_ranks_and_verdicts() {
        use Verdict::{Cut, Drain, Keep};
        let ready = || Event::Asked(Asked::Ready);
        for (what, events, (others, now), want) in [
            ("new", vec![], (READY, 9_000), (Rank::Unknown, Keep)),
            ("one miss", vec![(0, Looked(true)), (100, Looked(false))], (READY, 260), (Rank::Unknown, Keep)),
            (
                "dead",
                vec![(0, Looked(true)), (0, ready()), (100, Looked(false)), (250, Looked(false))],
                (ALIVE, 400),
                (Rank::Dead, Cut),
            ),
            (
                "never answered, and another does",
                vec![(0, Looked(false)), (100, Looked(false))],
                (ALIVE, 260),
                (Rank::Dead, Cut),
            ),
            (
                "dead with all others: wait",
                vec![(0, Looked(false)), (100, Looked(false))],
                (NONE, 2_000),
                (Rank::Dead, Keep),
            ),
            (
                "dead with all others: enough",
                vec![(0, Looked(false)), (100, Looked(false))],
                (NONE, 2_001),
                (Rank::Dead, Cut),
            ),
            (
                "takes no new ones, and speaks",
                vec![(100, Looked(false)), (250, Looked(false)), (300, Heard)],
                (READY, 500),
                (Rank::Dead, Keep),
            ),
            (
                "spoke last before it fell silent",
                vec![(100, Heard), (100, Looked(false)), (250, Looked(false))],
                (READY, 400),
                (Rank::Dead, Cut),
            ),
            (
                "misses that are not in a row",
                vec![(0, Looked(false)), (100, Looked(true)), (200, Looked(false))],
                (READY, 400),
                (Rank::Unknown, Keep),
            ),
            (
                "an election",
                vec![(0, Looked(true)), (0, ready()), (100, not())],
                (READY, 2_100),
                (Rank::NotReady, Keep),
            ),
            (
                "not ready for good",
                vec![(0, Looked(true)), (100, not()), (900, not())],
                (READY, 2_101),
                (Rank::NotReady, Drain),
            ),
            (
                "nobody else is ready",
                vec![(0, Looked(true)), (100, not())],
                (ALIVE, 9_000),
                (Rank::NotReady, Keep),
            ),
            (
                "ready in between",
                vec![(0, not()), (1_000, ready()), (1_250, not())],
                (READY, 3_000),
                (Rank::NotReady, Keep),
            ),
            (
                "tells strangers nothing",
                vec![(0, Looked(true)), (0, not()), (100, Event::Asked(Asked::Untold))],
                (READY, 9_000),
                (Rank::Unknown, Keep),
            ),
            ("refused a client", vec![(0, ready()), (50, Failed)], (READY, 60), (Rank::Suspect, Keep)),
            (
                "a look that began before clears nothing",
                vec![(0, ready()), (50, Failed), (40, Looked(true))],
                (READY, 60),
                (Rank::Suspect, Keep),
            ),
            (
                "a later one does",
                vec![(0, ready()), (50, Failed), (100, Looked(true))],
                (READY, 110),
                (Rank::Ready, Keep),
            ),
        ] {
            let health = after(events);
            assert_eq!((health.rank(), health.verdict(others, ms(now))), want, "{what}");
        }
    }
}
