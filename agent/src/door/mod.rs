//! The site's own door: the API over a unix socket and TLS.

pub mod audit;
pub mod intents;
pub mod kept;
pub mod metrics;
pub mod plan;
pub mod preflight;
pub mod site;
pub mod tls;
pub mod upgrades;
pub mod views;
