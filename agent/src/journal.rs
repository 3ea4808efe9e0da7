//! Where this program's log goes: to the journal with fields, as `journalctl QB_CLUSTER=blue` finds
//! them, or to the standard error as lines.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::host;

/// What is logged where `QB_LOG` does not say.
const FILTER: &str = "info,openraft=error,libp2p=warn,multistream_select=warn";

/// Begins to log. In the journal every line has `fields`, and those of its own with `QB_` in front.
pub fn begin(fields: &[(&str, String)]) {
    let filter = EnvFilter::try_from_env("QB_LOG").unwrap_or_else(|_| EnvFilter::new(FILTER));
    let journal = host::logs_to_journal().then(tracing_journald::layer).and_then(Result::ok).map(|layer| {
        layer
            .with_field_prefix(Some("QB".to_owned()))
            .with_syslog_identifier("qb-agent".to_owned())
            .with_custom_fields(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    });
    let lines = journal
        .is_none()
        .then(|| tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false));
    tracing_subscriber::registry().with(filter).with(journal).with(lines).init();
}
