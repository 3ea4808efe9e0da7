//! What comes before an agent runs: whose state this is, who the node is, to which site it belongs, on
//! which address it serves.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::config::{self, Config, Options};
use crate::enroll::{self, Enrolment};
use crate::files::{self, Lock, LockError};
use crate::host::address::{self, Choice};
use crate::host::{self, clock};
use crate::identity::Identity;
use crate::starts::Record;
use crate::{door::views::words_of, events};

/// Pause between two looks for an address.
const LOOK: Duration = Duration::from_secs(1);
/// How long the system is asked to wait on, with each look: some looks may come late.
const EXTEND: Duration = Duration::from_secs(30);
/// Pause before a start that could not be noted, in a service: it will fail again, on the same disk.
const UNNOTED: Duration = Duration::from_secs(10);

/// An agent that can run.
pub struct Prepared {
    /// What it was told.
    pub options: Options,
    /// Its site.
    pub enrolment: Enrolment,
    /// Who it is.
    pub identity: Identity,
    /// When it started, this time and before.
    pub record: Record,
    /// What people should know, besides.
    pub notices: Vec<String>,
    /// Held as long as the agent runs.
    lock: Lock,
}

/// Takes the state, notes the start, reads site and identity. As a service it may wait for a while
/// first, so that a loop of starts costs the machine nothing.
///
/// # Errors
/// The state is another agent's or another user's, or site or identity cannot be read.
pub fn prepare(options: Options) -> Result<Prepared> {
    let state = options.state_dir();
    files::make_dir(&state)?;
    let me = rustix::process::geteuid().as_raw();
    if let Some(owner) = files::owner(&state)?.filter(|owner| *owner != me) {
        bail!(
            "{0} belongs to user {owner}, this agent runs as user {me}: start it as that user (systemctl start qb-agent), \
             or `chown -R {me} {0}`",
            state.display()
        );
    }
    let lock = files::lock(&state).inspect_err(|e| {
        if let LockError::File(e) = e {
            slow(UNNOTED, &e.to_string());
        }
    })?;
    let now = events::now();
    let (record, unnoted) = Record::begin(&state, now);
    let pause = if unnoted.is_some() { UNNOTED } else { record.starts().pause(now) };
    let count = record.starts().unasked(now);
    let looped = || format!("the agent ended unasked and started again {count} times in 10 min");
    slow(pause, &unnoted.map_or_else(looped, |e| e.to_string()));
    let chosen = enroll::choose(options.enroll.as_deref(), &state)?;
    let identity = Identity::open(&state.join("identity"), true)?;
    let mut notices: Vec<String> = chosen.notice.iter().cloned().collect();
    if let Err(e) = chosen.keep(&state) {
        notices.push(format!("the copy of the enrolment file is not up to date: {e}"));
    }
    Ok(Prepared { options, enrolment: chosen.enrolment, identity, record, notices, lock })
}

/// Waits where a service manager would start the agent again and again. Who starts it by hand is told
/// at once.
fn slow(pause: Duration, why: &str) {
    if qb_service::is_one() && !pause.is_zero() {
        qb_service::status(&format!("waiting {} s before it starts: {why}", pause.as_secs()));
        // Nothing runs yet that would have to end: a signal ends this.
        std::thread::sleep(pause);
    }
}

impl Prepared {
    /// Says in the journal who starts, and what people should know.
    pub fn tell(&self) {
        let node = &self.identity.node;
        let version = qb_exec::VERSION;
        tracing::info!(
            site = %self.enrolment.site,
            %node,
            "qb-agent {version} starts: site {}, node {}",
            enroll::called(&self.enrolment),
            words_of(&node.0)
        );
        for notice in &self.notices {
            tracing::error!("{notice}");
        }
        let charter = qb_model::charter::Charter::verify(&self.enrolment.charter);
        if let Ok(charter) = charter {
            let known = clock::Known { charter: charter.body().issued_ms, log: qb_model::Millis(0) };
            if let Some(wrong) = clock::wrong(events::now(), known) {
                tracing::error!("{wrong}");
            }
        }
    }

    /// The address that is to be served on, once the machine has it, and what is left.
    ///
    /// # Errors
    /// People must choose one.
    pub async fn with_address(self) -> Result<(Config, Parts)> {
        let mut told = String::new();
        let address = loop {
            let why = match self.look()? {
                Ok(address) => break address,
                Err(why) => why,
            };
            if told != why {
                tracing::warn!("{why}");
                qb_service::status(&why);
                told = why;
            }
            qb_service::extend(EXTEND);
            tokio::time::sleep(LOOK).await;
        };
        let Self { options, enrolment, identity, record, notices, lock } = self;
        let config = options.at(address, host::runtime_dir().as_deref());
        Ok((config, Parts { enrolment, identity, record, notices, lock }))
    }

    /// The address, or why it must be waited for.
    fn look(&self) -> Result<Result<IpAddr, String>> {
        if let Some(given) = self.options.address {
            return Ok(if host::has_address(given) {
                Ok(given)
            } else {
                Err(format!("waiting until this machine has the address {given}, as it was told to serve on"))
            });
        }
        match address::choose(&address::see(&self.enrolment.seeds)) {
            Choice::Take(address) => {
                tracing::info!(%address, "serves on {address}: it leads to the site, or is the only one");
                Ok(Ok(address))
            }
            Choice::Wait => {
                Ok(Err("waiting until this machine has an address that others can reach".to_owned()))
            }
            Choice::Ask(own) => bail!("{}", address::ask(&own, config::FILE)),
        }
    }
}

/// A [`Prepared`] agent without what went into its [`Config`].
pub struct Parts {
    /// Its site.
    pub enrolment: Enrolment,
    /// Who it is.
    pub identity: Identity,
    /// When it started.
    pub record: Record,
    /// What people should know.
    pub notices: Vec<String>,
    /// Held as long as the agent runs.
    pub lock: Lock,
}
