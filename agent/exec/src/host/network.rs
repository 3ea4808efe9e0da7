//! The pod network of this host: a bridge for its pods, and an overlay to those of the other members.
//! What it is to be follows from who the members are ([`plan`]); it is compared with what the kernel has
//! ([`kernel`]) and with the host's filter ([`tables`]). Everything that is not ours is left alone.
//!
//! `network.json` in the cluster's directory keeps the form: a host that boots has none of it.

pub(crate) mod cni;
pub(crate) mod kernel;
pub(crate) mod plan;
pub(crate) mod tables;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use qb_drivers::RelPath;
use qb_drivers::host_step::{NetworkMember, PodNetwork};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Host;
use super::ours::Ours;
use super::place::clean;
use super::run::{Call, SystemProgram};
use crate::progress::StepError;
use kernel::{Kernel, KernelError};
use plan::{Actual, LINK_LOCAL, Networks, Seat, Seats, SeatsError};
use tables::{TABLES_BYTES, Table, TablesError};

/// The form that is kept, in the cluster's directory.
pub(crate) const FILE: &str = "network.json";
/// Bytes of it: 256 members.
const FILE_BYTES: u64 = 64 * 1024;
/// Where a cloud answers about its machine.
const CLOUD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// How long it may take: it is the machine's own host.
const CLOUD_LIMIT: Duration = Duration::from_millis(500);
/// The first minor version of Kubernetes whose kubelets look for no cloud at their start.
const QUIET_BEFORE: u32 = 27;
/// Permissions of a configuration.
const CONFIG_MODE: u32 = 0o644;

impl From<KernelError> for StepError {
    fn from(error: KernelError) -> Self {
        Self::new(error.to_string(), "the step runs again by itself; look at `dmesg` on this host")
    }
}

impl From<SeatsError> for StepError {
    fn from(error: SeatsError) -> Self {
        Self::new(error.to_string(), "detach the node that is named, or correct its address")
    }
}

impl From<TablesError> for StepError {
    fn from(error: TablesError) -> Self {
        Self::new(error.to_string(), "install the package iptables of this host's distribution anew")
    }
}

/// The members as the pod network takes them.
fn seats(network: &PodNetwork, quiet_link_local: bool) -> Result<Seats, StepError> {
    let seat = |member: &NetworkMember| {
        let wrong = || {
            StepError::new(
                format!("{} has the address {}, and pods need IPv4", member.host, member.address),
                "give that host an IPv4 address, and restart its qb-agent with `listen` set to it",
            )
        };
        Ok::<_, StepError>(Seat { slot: member.slot, address: member.address.parse().map_err(|_| wrong())? })
    };
    let peers = network.peers.iter().map(seat).collect::<Result<_, _>>()?;
    let networks = Networks { pods: network.pods, overlay: network.overlay };
    let seats = Seats { v: 1, own: seat(&network.own)?, peers, networks, quiet_link_local };
    seats.check()?;
    Ok(seats)
}

/// Whether links, addresses, routes, rules and the plugins' configuration are these, and kept.
pub(super) async fn check(host: &Host, network: &PodNetwork) -> Result<bool, StepError> {
    let Some(kept) = kept(host)? else { return Ok(false) };
    let seats = seats(network, kept.quiet_link_local)?;
    if kept != seats {
        return Ok(false);
    }
    let actual = Kernel::connect()?.look(seats.own.address).await?;
    let Ok(mtu) = link_mtu(&seats, &actual) else { return Ok(false) };
    let wanted = plan::wanted(&seats, mtu, is_link_local_taken(&actual));
    let (path, config) = config(&seats, mtu)?;
    Ok(plan::conflict(seats.networks, &actual).is_none()
        && plan::changes(&wanted, &actual.overlay).is_empty()
        && Ours::open(&host.dir, &host.root)?.is(&path, config.as_bytes(), CONFIG_MODE)?
        && tables::addition(seats.networks, &saved(host, SystemProgram::IptablesSave).await?).is_none())
}

/// Brings the pod network into this form, and keeps it for the next boot.
pub(super) async fn apply(host: &Host, network: &PodNetwork) -> Result<(), StepError> {
    let already = kept(host)?.is_some_and(|kept| kept.quiet_link_local);
    let quiet = already || (looks_for_cloud(host).await? && !is_in_cloud().await);
    let seats = seats(network, quiet)?;
    let bytes = serde_json::to_vec(&seats).map_err(|_| StepError::damaged(FILE))?;
    host.dir.write(&file()?, &bytes, 0o600).map_err(|e| StepError::disk(FILE, &e))?;
    bring_about(host, &seats).await
}

/// The same with other peers, for a host that has a pod network already: members came or left. Nothing,
/// if it has none yet: it gets one with its own stage.
pub(crate) async fn set_peers(host: &Host, peers: &[NetworkMember]) -> Result<(), StepError> {
    let Some(kept) = kept(host)? else { return Ok(()) };
    let mut all = Seats { peers: Default::default(), ..kept };
    for member in peers {
        let address = member.address.parse().map_err(|_| StepError::damaged(&member.address))?;
        all.peers.insert(Seat { slot: member.slot, address });
    }
    all.check()?;
    let bytes = serde_json::to_vec(&all).map_err(|_| StepError::damaged(FILE))?;
    host.dir.write(&file()?, &bytes, 0o600).map_err(|e| StepError::disk(FILE, &e))?;
    bring_about(host, &all).await
}

/// Brings about what is kept: after a boot. Nothing, if nothing is.
pub(crate) async fn restore(host: &Host) -> Result<(), StepError> {
    match kept(host)? {
        Some(seats) => bring_about(host, &seats).await,
        None => Ok(()),
    }
}

/// This node's address in the cluster; none before it has a pod network.
pub(super) fn own_address(host: &Host) -> Result<Option<String>, StepError> {
    Ok(kept(host)?.map(|seats| seats.own.address.to_string()))
}

/// Forgets the form, so that no start brings it about again.
pub(super) fn forget(host: &Host) -> Result<(), StepError> {
    host.dir.remove(&file()?).map_err(|e| StepError::disk(FILE, &e))
}

async fn bring_about(host: &Host, seats: &Seats) -> Result<(), StepError> {
    let kernel = Kernel::connect()?;
    let actual = kernel.look(seats.own.address).await?;
    let networks = seats.networks;
    if let Some((subnet, link)) = plan::conflict(networks, &actual) {
        return Err(StepError::new(
            format!("the network {subnet} on {link} is where the cluster has its own: {networks}"),
            format!("take the route away (`ip route show {subnet}` says whose it is) or use another host"),
        ));
    }
    let mtu = link_mtu(seats, &actual)?;
    let wanted = plan::wanted(seats, mtu, is_link_local_taken(&actual));
    for change in plan::changes(&wanted, &actual.overlay) {
        tracing::debug!(?change, "pod network");
        kernel.apply(&change).await?;
    }
    if let Some(script) = tables::addition(networks, &saved(host, SystemProgram::IptablesSave).await?) {
        restored(host, SystemProgram::IptablesRestore, script).await?;
    }
    // Last: with it the kubelet says that it is ready.
    let (path, config) = config(seats, mtu)?;
    Ours::open(&host.dir, &host.root)?.write(&path, config.as_bytes(), CONFIG_MODE)
}

fn link_mtu(seats: &Seats, actual: &Actual) -> Result<u32, StepError> {
    let own = seats.own.address;
    actual.link_mtu.ok_or_else(|| {
        StepError::new(
            format!("no link of this host has the address {own}"),
            "give it to one (`ip address`), or set `listen` in the agent's configuration to one that it has",
        )
    })
}

fn config(seats: &Seats, link_mtu: u32) -> Result<(RelPath, String), StepError> {
    let own = seats.own.slot;
    let pods = seats.networks.pods_of(own).ok_or(SeatsError::Slot(own, seats.networks))?;
    let text = cni::render(pods, plan::mtu(link_mtu)).map_err(StepError::damaged)?;
    Ok((clean(cni::PLACE)?, text))
}

fn is_link_local_taken(actual: &Actual) -> bool {
    actual.foreign.iter().any(|(subnet, _)| *subnet == LINK_LOCAL)
}

fn file() -> Result<RelPath, StepError> {
    clean(FILE)
}

fn kept(host: &Host) -> Result<Option<Seats>, StepError> {
    let bytes = host.dir.read(&file()?, FILE_BYTES).map_err(|e| StepError::disk(FILE, &e))?;
    // One that cannot be read is written anew by the step, from the order.
    let seats = bytes.and_then(|bytes| serde_json::from_slice::<Seats>(&bytes).ok());
    Ok(seats.filter(|seats| seats.check().is_ok()))
}

/// One of the host's filters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    /// As it is called in the record.
    pub(crate) name: &'static str,
    /// Its family as nftables calls it.
    pub(crate) family: &'static str,
    pub(crate) save: SystemProgram,
    pub(crate) restore: SystemProgram,
}

const FILTERS: [Filter; 2] = [
    Filter {
        name: "v4",
        family: "ip",
        save: SystemProgram::IptablesSave,
        restore: SystemProgram::IptablesRestore,
    },
    Filter {
        name: "v6",
        family: "ip6",
        save: SystemProgram::Ip6tablesSave,
        restore: SystemProgram::Ip6tablesRestore,
    },
];

/// The filters of older kernels, each with the file that says that it is in use. Where the host itself
/// uses nftables, a kube-proxy of another distribution's image may still have used these.
const LEGACY: [(&str, Filter); 2] = [
    (
        "proc/net/ip_tables_names",
        Filter {
            name: "v4 legacy",
            family: "ip",
            save: SystemProgram::IptablesLegacySave,
            restore: SystemProgram::IptablesLegacyRestore,
        },
    ),
    (
        "proc/net/ip6_tables_names",
        Filter {
            name: "v6 legacy",
            family: "ip6",
            save: SystemProgram::Ip6tablesLegacySave,
            restore: SystemProgram::Ip6tablesLegacyRestore,
        },
    ),
];

/// The filters that this host has.
pub(crate) fn filters(host: &Host) -> Vec<Filter> {
    let root = host.root.path();
    let used = |names: &str| std::fs::read_to_string(root.join(names)).is_ok_and(|names| !names.is_empty());
    let there = |filter: &Filter| {
        ["usr/sbin", "sbin"].iter().any(|dir| root.join(dir).join(filter.save.of().0).is_file())
    };
    let legacy = LEGACY.into_iter().filter(|(names, filter)| used(names) && there(filter));
    FILTERS.into_iter().chain(legacy.map(|(_, filter)| filter)).collect()
}

/// What the host's filter says.
pub(super) async fn saved(host: &Host, program: SystemProgram) -> Result<Vec<Table>, StepError> {
    let output = host.programs.run(Call::system(program, [""; 0]).most(TABLES_BYTES)).await?;
    let remedy = "run the command on this host and see what it says; the step runs again by itself";
    let printed = output.done(program.of().0, remedy)?;
    Ok(tables::parse(&String::from_utf8_lossy(&printed))?)
}

/// Changes it; what the script does not name stays.
pub(super) async fn restored(host: &Host, program: SystemProgram, script: String) -> Result<(), StepError> {
    // Waits for others who change it at this moment.
    let call = Call::system(program, ["--noflush", "--wait=10"]).input(script);
    let remedy = "run `iptables-save` on this host and see what it says; the step runs again by itself";
    host.programs.run(call).await?.done(program.of().0, remedy).map(drop)
}

/// Whether the kubelet of the selected tree looks for a cloud at its start.
async fn looks_for_cloud(host: &Host) -> Result<bool, StepError> {
    let output = host.programs.run(Call::tree("kubelet", ["--version"])).await?;
    let printed = output.done("kubelet --version", "build the bundle again for this host's architecture")?;
    Ok(minor(&String::from_utf8_lossy(&printed)).is_some_and(|minor| minor < QUIET_BEFORE))
}

/// `Kubernetes v1.20.2`.
fn minor(printed: &str) -> Option<u32> {
    printed.trim().strip_prefix("Kubernetes v1.")?.split('.').next()?.parse().ok()
}

/// Whether somebody answers there: then it stays reachable.
async fn is_in_cloud() -> bool {
    timeout(CLOUD_LIMIT, TcpStream::connect(CLOUD)).await.is_ok_and(|connected| connected.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kubelets() {
        assert_eq!(minor("Kubernetes v1.20.2\n"), Some(20));
        assert_eq!(minor("Kubernetes v1.36.2-rc.1"), Some(36));
        assert_eq!(minor("kubelet 1.20"), None);
    }
}
