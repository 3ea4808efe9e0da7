//! Members of the cluster's etcd, by etcdctl of the tree with the certificates of this node. A member is
//! told by its peer URL: one that never started has no name.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::Host;
use super::api::{has, kubectl};
use super::network;
use super::place::clean;
use super::run::Call;
use crate::progress::StepError;

/// Certificates that kubeadm makes for asking etcd how it is.
const PKI: &str = "etc/kubernetes/pki/etcd";
/// This node's own etcd.
const OWN: &str = "https://127.0.0.1:2379";
const PEER_PORT: u16 = 2380;
const DATA: &str = "var/lib/etcd/member";
/// How long a change of members may take: an election may be on.
const ASK: Duration = Duration::from_secs(20);
/// What kubeadm notes at each etcd pod.
const CLIENT_URLS: &str =
    r#"jsonpath={.items[*].metadata.annotations.kubeadm\.kubernetes\.io/etcd\.advertise-client-urls}"#;
const REMEDY: &str = "etcd needs a majority of its members: `qb cluster list` shows the control plane nodes; it is tried again";

#[derive(Debug, Deserialize)]
struct Members {
    #[serde(default)]
    members: Vec<Member>,
}

/// A member as etcd lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Member {
    #[serde(rename = "ID")]
    id: u64,
    /// Empty until it has started.
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs", default)]
    peers: Vec<String>,
}

/// The URL by which other members know the one at an address.
pub(crate) fn peer_url(address: &str) -> String {
    match address.parse() {
        Ok(std::net::IpAddr::V6(v6)) => format!("https://[{v6}]:{PEER_PORT}"),
        _ => format!("https://{address}:{PEER_PORT}"),
    }
}

/// How etcdctl reaches members, and proves who asks.
fn reach(host: &Host, endpoints: &str) -> Vec<String> {
    let file = |name: &str| host.root.path().join(PKI).join(name).display().to_string();
    vec![
        format!("--endpoints={endpoints}"),
        format!("--cacert={}", file("ca.crt")),
        format!("--cert={}", file("healthcheck-client.crt")),
        format!("--key={}", file("healthcheck-client.key")),
    ]
}

fn etcdctl(host: &Host, endpoints: &str, args: &[&str]) -> Call {
    let mut all = reach(host, endpoints);
    all.push("--command-timeout=10s".to_owned());
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    Call::tree("etcdctl", all).limit(ASK)
}

async fn members(host: &Host, endpoints: &str) -> Result<Vec<Member>, StepError> {
    let call = etcdctl(host, endpoints, &["member", "list", "--write-out=json"]);
    let bytes = host.programs.run(call).await?.done("etcdctl member list", REMEDY)?;
    let members = serde_json::from_slice::<Members>(&bytes);
    Ok(members.map_err(|_| StepError::new("etcdctl member list gives no list", REMEDY))?.members)
}

/// Takes the member at an address out, if it is one. Whether it was.
async fn remove(host: &Host, endpoints: &str, address: &str) -> Result<bool, StepError> {
    let url = peer_url(address);
    let found = members(host, endpoints).await?.into_iter().find(|m| m.peers.contains(&url));
    let Some(member) = found else { return Ok(false) };
    let id = format!("{:x}", member.id);
    let call = etcdctl(host, endpoints, &["member", "remove", &id]);
    host.programs.run(call).await?.done(&format!("etcdctl member remove {id} ({url})"), REMEDY)?;
    Ok(true)
}

/// Whether the node at an address has a member, as this node's own etcd knows.
pub(super) async fn has_member(host: &Host, address: &str) -> Result<bool, StepError> {
    let url = peer_url(address);
    Ok(members(host, OWN).await?.iter().any(|m| m.peers.contains(&url)))
}

/// Addresses of all members but this node's, if each has started and answers.
///
/// # Errors
/// One has not, or does not.
pub(super) async fn others(host: &Host) -> Result<Vec<IpAddr>, StepError> {
    let own = network::own_address(host)?.ok_or_else(|| StepError::damaged(network::FILE))?;
    let others = others_of(members(host, OWN).await?, &own)?;
    let call = etcdctl(host, OWN, &["endpoint", "health", "--cluster"]);
    host.programs.run(call).await?.done("etcdctl endpoint health", REMEDY)?;
    Ok(others)
}

/// Saves what this node's own member has into a file.
pub(super) async fn save(host: &Host, file: &str, limit: Duration) -> Result<(), StepError> {
    // A limit of its own would be for the whole snapshot.
    let mut all = reach(host, OWN);
    all.extend(["snapshot", "save", file].map(str::to_owned));
    let call = Call::tree("etcdctl", all).limit(limit);
    host.programs.run(call).await?.done("etcdctl snapshot save", REMEDY).map(drop)
}

/// Whether this node's own member answers.
pub(super) async fn is_well(host: &Host) -> bool {
    let output = host.programs.run(etcdctl(host, OWN, &["endpoint", "health"])).await;
    output.is_ok_and(|output| output.is_ok())
}

fn others_of(members: Vec<Member>, own: &str) -> Result<Vec<IpAddr>, StepError> {
    let own = peer_url(own);
    let mut all = Vec::new();
    for member in members.into_iter().filter(|m| !m.peers.contains(&own)) {
        let url = member.peers.first().cloned().unwrap_or_default();
        if member.name.is_empty() {
            return Err(StepError::new(format!("the etcd member {url} has not started yet"), REMEDY));
        }
        let host = url.strip_prefix("https://").and_then(|rest| rest.rsplit_once(':')).map(|(host, _)| host);
        let address = host.and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        all.push(address.ok_or_else(|| {
            StepError::new(format!("the etcd member {} has the address {url:?}", member.name), REMEDY)
        })?);
    }
    Ok(all)
}

/// Takes the member of another node out, by this node's own etcd.
pub(super) async fn remove_member(host: &Host, address: &str) -> Result<(), StepError> {
    remove(host, OWN, address).await.map(drop)
}

/// Takes out the member that a join of this very node announced and never started, and its data.
pub(super) async fn forget_own(host: &Host) -> Result<(), StepError> {
    let certificates = has(host, &format!("{PKI}/healthcheck-client.crt"))?;
    if !certificates || !has(host, super::api::ADMIN)? {
        // It did not come so far.
        return Ok(());
    }
    let Some(own) = network::own_address(host)? else { return Ok(()) };
    let call =
        kubectl(host, ["get", "pods", "-n", "kube-system", "-l", "component=etcd", "-o", CLIENT_URLS])?;
    let urls = host
        .programs
        .run(call)
        .await?
        .done("kubectl get pods", "it is tried again while a control plane node answers")?;
    let urls = String::from_utf8_lossy(&urls).split_whitespace().collect::<Vec<_>>().join(",");
    if urls.is_empty() {
        return Ok(());
    }
    if remove(host, &urls, &own).await? {
        host.tell.tell("an etcd member that an earlier try had announced was taken out");
        let data = clean(DATA)?;
        host.root.remove_tree(&data).map_err(|e| StepError::disk(format!("/{DATA}"), &e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_member_that_never_started_is_known_by_its_url() {
        let text = r#"{"header":{"cluster_id":1},"members":[{"ID":10501334649042878790,"name":"h1","peerURLs":["https://10.77.0.1:2380"],"clientURLs":["https://10.77.0.1:2379"]},{"ID":7,"name":"","peerURLs":["https://10.77.0.2:2380"]}]}"#;
        let members: Members = serde_json::from_str(text).unwrap();
        let found = members.members.iter().find(|m| m.peers.contains(&peer_url("10.77.0.2"))).unwrap();
        assert_eq!(found.id, 7);
        assert_eq!(peer_url("fd00::1"), "https://[fd00::1]:2380");
    }

    #[test]
    fn the_others_are_known_by_their_urls_and_must_have_started() {
        let member = |name: &str, url: &str| Member { id: 1, name: name.into(), peers: vec![url.into()] };
        let own = member("h1", "https://10.77.0.1:2380");
        let of = |members: &[Member]| others_of(members.to_vec(), "10.77.0.1");
        assert_eq!(of(std::slice::from_ref(&own)), Ok(Vec::new()));
        let others =
            [own.clone(), member("h2", "https://10.77.0.2:2380"), member("h3", "https://[fd00::3]:2380")];
        assert_eq!(of(&others), Ok(vec!["10.77.0.2".parse().unwrap(), "fd00::3".parse().unwrap()]));
        let joining = of(&[own.clone(), member("", "https://10.77.0.2:2380")]).unwrap_err();
        assert!(joining.text.contains("10.77.0.2:2380 has not started"), "{joining:?}");
        assert!(of(&[own, member("h2", "unix:///x")]).is_err());
    }
}
