//! A long-running program under systemd: its log with fields in the journal, its readiness, its status
//! line, its watchdog. Without systemd the log goes to standard error as lines, and nobody hears the rest.
//!
//! ```text
//!   agent, executor, relay ──> log()                      journal, or standard error
//!                          ──> ready, status, stopping,   NOTIFY_SOCKET
//!                              extend, alive
//! ```
//!
//! # Invariants
//! - A status is one line of bounded length: no text from outside can say anything else to systemd.
//! - Nothing here fails a program that runs: what cannot be told is logged.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Characters of a status: one line of `systemctl status`.
pub const STATUS_CHARS: usize = 400;

/// Starts logging: to the journal where standard error goes there, else to standard error as lines.
/// `QB_LOG` says how much, `filter` else. In the journal each line has `fields`, and its own fields
/// with `QB_` in front: `journalctl QB_CLUSTER=blue` finds them.
pub fn log(program: &str, filter: &str, fields: &[(&str, String)]) {
    let filter = EnvFilter::try_from_env("QB_LOG").unwrap_or_else(|_| EnvFilter::new(filter));
    let journal = is_journal().then(tracing_journald::layer).and_then(Result::ok).map(|layer| {
        layer
            .with_field_prefix(Some("QB".to_owned()))
            .with_syslog_identifier(program.to_owned())
            .with_custom_fields(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    });
    let lines =
        journal.is_none().then(|| tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false));
    tracing_subscriber::registry().with(filter).with(journal).with(lines).init();
}

/// Whether standard error goes to the journal: systemd names its device and inode.
fn is_journal() -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    let error = std::fs::metadata("/proc/self/fd/2");
    error.is_ok_and(|meta| said == format!("{}:{}", meta.dev(), meta.ino()))
}

/// Whether a service manager started this and wants to hear of it.
pub fn is_one() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells that the service answers, and how it is.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Tells how it is, in one line.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(&one_line(line))]);
}

/// Tells that it is about to end, and why.
pub fn stopping(why: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(&one_line(why))]);
}

/// Asks to be waited for so much longer, while it starts.
pub fn extend(by: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// Tells the watchdog that the service lives.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the watchdog must hear: half of what it waits; none if there is none.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_CHARS).collect()
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager was not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("a\nREADY=1"), "a READY=1");
        assert_eq!(one_line(&"x".repeat(9_999)).len(), STATUS_CHARS);
    }
}
