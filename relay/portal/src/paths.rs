//! The paths of the API, for its clients. The router has the same ones; a test compares.

use std::fmt::Write as _;
use std::time::Duration;

/// `/healthz`.
pub const HEALTHZ: &str = "/healthz";
/// The API document.
pub const OPENAPI: &str = "/v1/openapi.json";
/// Login: GET a challenge, POST the signed answer, DELETE the session.
pub const LOGIN: &str = "/v1/login";
/// The sites behind a door.
pub const SITES: &str = "/v1/sites";

/// The site.
pub fn site(site: &str) -> String {
    format!("{SITES}/{}", segment(site))
}

macro_rules! below_site {
    ($($(#[$doc:meta])* $name:ident $leaf:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(site: &str) -> String {
            format!(concat!("{}/", $leaf), self::site(site))
        }
    )*};
}

/// The file of a bundle, named by its digest.
pub fn bundle_file(site: &str, digest: &str) -> String {
    format!("{}/{digest}", bundles(site))
}

below_site! {
    /// All nodes.
    nodes "nodes";
    /// All clusters.
    clusters "clusters";
    /// All admins.
    admins "admins";
    /// The join tokens that have not ended.
    tokens "tokens";
    /// All bundles; POST adds one.
    bundles "bundles";
    /// The latest intents; POST sends one.
    intents "intents";
    /// Plans: POST.
    plan "plan";
    /// Preflights: POST.
    preflight "preflight";
    /// The site's last hour.
    history "history";
    /// Alerts.
    alerts "alerts";
    /// Metrics.
    metrics "metrics";
    /// The head.
    head "head";
    /// What voters signed.
    attestation "attestation";
    /// The charter.
    charter "charter";
    /// The packages of agents that the door hands out.
    packages "packages";
}

/// The enrolment file.
pub fn enrolment(site: &str) -> String {
    format!("/enroll/{}", segment(site))
}

/// A package of a site's agents, as a relay hands it out: `qb-agent.deb`, `qb-agent.rpm`.
pub fn package(site: &str, file: &str) -> String {
    format!("/packages/{}/{}", segment(site), segment(file))
}

/// The vendor's package, which belongs to no site.
pub fn vendor_package(file: &str) -> String {
    format!("/packages/{}", segment(file))
}

/// A node, by name, key, or a prefix of either.
pub fn node(site: &str, node: &str) -> String {
    format!("{}/{}", nodes(site), segment(node))
}

/// A node's last hour.
pub fn node_history(site: &str, name: &str) -> String {
    format!("{}/history", node(site, name))
}

/// A cluster.
pub fn cluster(site: &str, name: &str) -> String {
    format!("{}/{}", clusters(site), segment(name))
}

/// Where a tunnel to a cluster's API server is opened.
pub fn tunnel(site: &str, name: &str) -> String {
    format!("{}/tunnel", cluster(site, name))
}

/// Where an intent is sent, waiting up to `wait` for its outcome.
pub fn submit(site: &str, wait: Duration) -> String {
    format!("{}{}", intents(site), wait_query(wait))
}

/// An intent, by digest or id, waiting up to `wait` for its outcome.
pub fn intent(site: &str, key: &str, wait: Duration) -> String {
    format!("{}/{}{}", intents(site), segment(key), wait_query(wait))
}

/// Events after a number, or from now on.
pub fn events(site: &str, after: Option<u64>) -> String {
    let query = after.map(|n| format!("?after={n}")).unwrap_or_default();
    format!("{}/events{query}", self::site(site))
}

/// Audit records from a number on.
pub fn audit(site: &str, from: u64, limit: u32) -> String {
    format!("{}/audit?from={from}&limit={limit}", self::site(site))
}

/// `?wait=10s`; nothing for no wait.
fn wait_query(wait: Duration) -> String {
    match wait.as_millis() {
        0 => String::new(),
        ms if ms % 1_000 == 0 => format!("?wait={}s", ms / 1_000),
        ms => format!("?wait={ms}ms"),
    }
}

/// One segment of a path, with everything escaped that is not plain. A text that comes from a
/// person can so never reach another path.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
        // A dot is plain, but `.` and `..` alone would be steps.
        if plain || (byte == b'.' && text.bytes().any(|b| b != b'.')) {
            out.push(byte as char);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
