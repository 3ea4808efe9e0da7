//! What kubectl reads: a kubeconfig whose user asks `qb` for its certificate, and the answer to that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::{Millis, Name};
use serde_json::{Value, json};

use super::credential::Credential;
use crate::error::CliError;

/// What kubectl of 1.20 asks for, and that of 1.36 still does.
pub const OLDEST: &str = "client.authentication.k8s.io/v1beta1";
/// What newer ones ask for.
const NEWEST: &str = "client.authentication.k8s.io/v1";

/// A name that the certificate of every API server of driver kubeadm has.
pub const EVERY_SERVER: &str = "localhost";
/// Where an API server listens, and mostly a load balancer before them.
const PORT: u16 = 6443;

/// The address of an API server as kubeconfigs have it, from a cluster's own or a host and port.
pub fn server(endpoint: &str) -> String {
    let host = endpoint.strip_prefix("https://").unwrap_or(endpoint);
    format!("https://{host}")
}

/// `HOST[:PORT]` of a load balancer, with its port: a name, an IPv4 address or an IPv6 address in brackets.
///
/// # Errors
/// It is none.
pub fn load_balancer(text: &str) -> Result<String, String> {
    let wrong = || "HOST or HOST:PORT, such as api.example.com:6443 or [fd00::5]:6443".to_owned();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) => {
            v6.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (format!("[{v6}]"), port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, Some("")), |(h, p)| (h, Some(p)));
            let good = |part: &str| {
                let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
                (1..=63).contains(&part.len())
                    && part.bytes().all(inner)
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            };
            if host.len() > 253 || !host.split('.').all(good) || text.ends_with(':') {
                return Err(wrong());
            }
            (host.to_owned(), port)
        }
    };
    let port = match port.ok_or_else(wrong)? {
        "" => PORT,
        port => port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
    };
    Ok(format!("{host}:{port}"))
}

/// What a kubeconfig is made of.
pub struct Parts<'a> {
    /// The site's name on this computer.
    pub site: &'a Name,
    /// The cluster.
    pub cluster: &'a Name,
    /// `https://...` of the API server.
    pub server: &'a str,
    /// The cluster's authority, PEM.
    pub authority: &'a str,
    /// The program that gives certificates, and what it is called with: this very one.
    pub program: &'a str,
    /// Its arguments before `cluster credential`.
    pub arguments: &'a [String],
    /// Whether it becomes the current context.
    pub current: bool,
}

/// A kubeconfig. It holds nothing secret.
pub fn kubeconfig(parts: &Parts<'_>) -> Value {
    let name = format!("{}@{}", parts.cluster, parts.site);
    let mut arguments = parts.arguments.to_vec();
    arguments.extend(["cluster".to_owned(), "credential".to_owned(), parts.cluster.to_string()]);
    let cluster = json!({
        "server": parts.server,
        "certificate-authority-data": STANDARD.encode(parts.authority),
    });
    let exec = json!({ "apiVersion": OLDEST, "command": parts.program, "args": arguments });
    let mut file = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": cluster }],
        "users": [{ "name": name, "user": { "exec": exec } }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
    });
    if parts.current {
        file["current-context"] = Value::String(name);
    }
    file
}

/// The version of the answer that kubectl asks for by `KUBERNETES_EXEC_INFO`.
///
/// # Errors
/// It asks for one that is not known.
pub fn version(info: Option<&str>) -> Result<&'static str, CliError> {
    let Some(info) = info.filter(|info| info.len() <= 64 * 1024) else { return Ok(OLDEST) };
    let asked: Option<Value> = serde_json::from_str(info).ok();
    match asked.as_ref().and_then(|v| v["apiVersion"].as_str()) {
        None | Some(OLDEST) => Ok(OLDEST),
        Some(NEWEST) => Ok(NEWEST),
        Some(_) => Err(CliError::usage("kubectl asks for a version of its credentials that is not known.")
            .remedy("write the kubeconfig anew: qb cluster kubeconfig CLUSTER")),
    }
}

/// A credential as kubectl takes it. It holds the key.
pub fn exec_credential(credential: &Credential, version: &str) -> Value {
    json!({
        "apiVersion": version,
        "kind": "ExecCredential",
        "status": {
            "expirationTimestamp": timestamp(Millis(credential.expires_ms)),
            "clientCertificateData": credential.certificate,
            "clientKeyData": credential.key,
        },
    })
}

/// RFC 3339, in UTC, to the second.
fn timestamp(at: Millis) -> String {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default()
}
