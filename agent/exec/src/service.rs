//! A long-running program under systemd: its log with fields in the journal, its readiness, its status
//! text, its watchdog. Without systemd all of that is its standard error, or nothing.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging: to the journal with fields where standard error is the journal, else to standard
/// error as lines. `QB_LOG` says how much, `default` else.
///
/// # Errors
/// The journal does not take it.
pub fn log(default: &str) -> io::Result<()> {
    let filter = EnvFilter::try_from_env("QB_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let all = tracing_subscriber::registry().with(filter);
    if is_journal() {
        all.with(tracing_journald::layer()?).init();
    } else {
        all.with(tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false)).init();
    }
    Ok(())
}

/// Whether standard error goes to the journal: systemd names its device and inode.
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let named = named.as_deref().and_then(|text| text.split_once(':'));
    let own = std::fs::metadata("/proc/self/fd/2").ok();
    matches!((named, own), (Some((device, inode)), Some(own))
        if device.parse() == Ok(own.dev()) && inode.parse() == Ok(own.ino()))
}

/// Tells the init system that the service answers.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells the init system what `systemctl status` is to show.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Tells the init system that the service is about to end.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Tells the watchdog that the service lives.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the watchdog must hear: half of what it waits; none if there is none.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the init system was not told: {error}");
    }
}
