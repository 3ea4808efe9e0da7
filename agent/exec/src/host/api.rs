//! The cluster's API, by the tree's own kubectl.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use qb_drivers::RelPath;
use qb_model::ids::{HostName, Version};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::Host;
use super::place::{clean, tree};
use super::run::Call;
use crate::client::Client;
use crate::progress::StepError;

/// An administrator's credential: on control plane nodes only.
pub(crate) const ADMIN: &str = "etc/kubernetes/admin.conf";
/// The kubelet's own.
const KUBELET: &str = "etc/kubernetes/kubelet.conf";
/// The cluster's authority.
pub(crate) const AUTHORITY: &str = "etc/kubernetes/pki/ca.crt";
/// Folder of the tree with what is applied after the first node is up.
const MANIFESTS: &str = "manifests";
/// Where it is kept which of them were applied.
const APPLIED: &str = "applied";
/// Bytes of an authority's certificate, and of a credential file.
const FILE_BYTES: u64 = 64 * 1024;
/// How long one question to the API may take.
const ASK: Duration = Duration::from_secs(20);
const PROBE: Duration = Duration::from_secs(2);
/// Pause between two looks.
const AGAIN: Duration = Duration::from_millis(250);
/// How long applying may take: an API server that has just come up is slow.
const APPLY: Duration = Duration::from_secs(120);
const REMEDY: &str = "it is tried again; `qb cluster list` shows the control plane nodes";

/// The middle number of a version of Kubernetes: what flags depend on.
pub(crate) fn minor(version: &Version) -> u32 {
    version.to_string().split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or_default()
}

/// Whether a file is there and not empty: an empty one is what a power cut leaves.
pub(crate) fn has(host: &Host, path: &str) -> Result<bool, StepError> {
    let at = clean(path)?;
    let size = host.root.file(&at).and_then(|file| file.map(|f| f.metadata().map(|m| m.len())).transpose());
    Ok(size.map_err(|e| StepError::disk(format!("/{path}"), &e))?.is_some_and(|size| size > 0))
}

/// kubectl with the rights of an administrator where this node has them, else with the kubelet's.
pub(crate) fn kubectl<'a>(host: &Host, args: impl IntoIterator<Item = &'a str>) -> Result<Call, StepError> {
    let config = if has(host, ADMIN)? { ADMIN } else { KUBELET };
    let config = host.root.path().join(config).display().to_string();
    let limit = format!("--request-timeout={}s", ASK.as_secs());
    let all = [format!("--kubeconfig={config}"), limit].into_iter();
    Ok(Call::tree("kubectl", all.chain(args.into_iter().map(str::to_owned))).limit(ASK + PROBE))
}

/// What an API server says of itself to everybody.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(rename = "gitVersion")]
    version: String,
}

/// Whether an API server is ready, and of that version, if one is wanted.
pub(super) async fn is_ready(
    host: &Host,
    server: &str,
    version: Option<&Version>,
) -> Result<bool, StepError> {
    let at = clean(AUTHORITY)?;
    let Some(authority) = host.root.read(&at, FILE_BYTES).map_err(|e| StepError::disk(&at, &e))? else {
        return Ok(false);
    };
    let server: SocketAddr = server.parse().map_err(|_| StepError::damaged(server))?;
    let Ok(client) = Client::new(server, &authority) else { return Ok(false) };
    let answer = client.call(Method::GET, "/readyz", Vec::new(), PROBE).await;
    if !answer.is_ok_and(|(status, _)| status.is_success()) {
        return Ok(false);
    }
    let Some(version) = version else { return Ok(true) };
    let answer = client.call(Method::GET, "/version", Vec::new(), PROBE).await;
    let said = answer.ok().and_then(|(_, body)| serde_json::from_slice::<Said>(&body).ok());
    Ok(said.is_some_and(|said| said.version == format!("v{version}")))
}

pub(super) async fn await_ready(
    host: &Host,
    server: &str,
    version: Option<&Version>,
    limit_s: u16,
) -> Result<(), StepError> {
    let until = Instant::now() + Duration::from_secs(limit_s.into());
    let of = version.map(|version| format!(" at {version}")).unwrap_or_default();
    while !is_ready(host, server, version).await? {
        if Instant::now() > until {
            return Err(StepError::new(
                format!("the API server at {server} is not ready{of} after {limit_s} s"),
                "on this machine `journalctl -u kubelet` and the files in /var/log/pods show why; the step is tried again",
            ));
        }
        host.tell.tell(&format!("waiting for {server}/readyz"));
        sleep(AGAIN).await;
    }
    Ok(())
}

/// What is looked at of a node.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(rename = "nodeInfo", default)]
    info: NodeInfo,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Default, Deserialize)]
struct NodeInfo {
    #[serde(rename = "kubeletVersion", default)]
    kubelet: String,
}

impl Node {
    /// Whether it is ready, or why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        match self.status.conditions.iter().find(|c| c.kind == "Ready") {
            Some(ready) if ready.status == "True" => Ok(()),
            Some(ready) => Err(ready.message.chars().filter(|c| !c.is_control()).take(200).collect()),
            None => Err("it has not said anything yet".to_owned()),
        }
    }

    /// Whether it is ready with this version of the kubelet, or why not.
    fn is(&self, version: &Version) -> Result<(), String> {
        let wanted = format!("v{version}");
        if self.status.info.kubelet != wanted {
            return Err(format!("its kubelet is {:?}, not {wanted}", self.status.info.kubelet));
        }
        self.ready()
    }
}

/// A node object; none if there is none, or why nobody knows.
pub(crate) async fn node(host: &Host, name: &str) -> Result<Option<Node>, StepError> {
    let call = kubectl(host, ["get", "node", name, "--ignore-not-found", "-o", "json"])?.most(1 << 20);
    let found = host.programs.run(call).await?.done("kubectl get node", REMEDY)?;
    if found.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let damaged = |_| StepError::new("kubectl get node gives no node", REMEDY);
    serde_json::from_slice(&found).map(Some).map_err(damaged)
}

async fn fits(host: &Host, name: &HostName, version: &Version) -> Result<(), String> {
    match node(host, name.as_str()).await {
        Ok(Some(node)) => node.is(version),
        Ok(None) => Err("it is not known to the API server".to_owned()),
        // The API server may come back: what it said is shown if it does not.
        Err(error) => Err(error.text),
    }
}

pub(super) async fn is_node(host: &Host, name: &HostName, version: &Version) -> bool {
    fits(host, name, version).await.is_ok()
}

pub(super) async fn await_node(
    host: &Host,
    name: &HostName,
    version: &Version,
    limit_s: u16,
) -> Result<(), StepError> {
    let until = Instant::now() + Duration::from_secs(limit_s.into());
    loop {
        let Err(why) = fits(host, name, version).await else { return Ok(()) };
        if Instant::now() > until {
            return Err(StepError::new(
                format!("the node {name} is not ready after {limit_s} s: {why}"),
                "on this machine `journalctl -u kubelet` shows why; the step is tried again",
            ));
        }
        host.tell.tell(&format!("waiting for node {name}: {why}"));
        sleep(AGAIN).await;
    }
}

/// The folder of manifests; none if the bundle has none.
fn manifests(host: &Host) -> Result<Option<String>, StepError> {
    let tree = tree(host)?;
    let at: RelPath = clean(MANIFESTS)?;
    let folder = match tree.sub(&at) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        folder => folder.map_err(|e| StepError::disk(MANIFESTS, &e))?,
    };
    let any = !folder.names().map_err(|e| StepError::disk(MANIFESTS, &e))?.is_empty();
    Ok(any.then(|| folder.path().display().to_string()))
}

/// By which tree's manifests the cluster is; what people change in it later is theirs.
pub(super) fn are_applied(host: &Host) -> Result<bool, StepError> {
    let applied = clean(APPLIED)?;
    let found = host.dir.read(&applied, FILE_BYTES).map_err(|e| StepError::disk(APPLIED, &e))?;
    let wanted = manifests(host)?;
    Ok(wanted.is_none_or(|folder| found.as_deref() == Some(folder.as_bytes())))
}

pub(super) async fn apply_manifests(host: &Host) -> Result<(), StepError> {
    let Some(folder) = manifests(host)? else { return Ok(()) };
    let call = kubectl(host, ["apply", "-f", folder.as_str()])?.limit(APPLY).most(1 << 20);
    let remedy = "compare the bundle's manifests with the Kubernetes version; the step is tried again";
    host.programs.run(call).await?.done("kubectl apply", remedy)?;
    host.dir.write(&clean(APPLIED)?, folder.as_bytes(), 0o600).map_err(|e| StepError::disk(APPLIED, &e))
}
