//! The findings between the networks that a cluster takes for itself and the addresses of its nodes.

use std::net::Ipv4Addr;

use super::{Finding, HostCheck, error, other_machine};
use crate::settings::{Settings, Subnet};

/// Pods and services that are told of where others are in the way, the first that fit.
const OTHERS: [(Subnet, Subnet); 4] = [
    (subnet(10, 244, 16), subnet(10, 96, 16)),
    (subnet(10, 200, 16), subnet(10, 201, 16)),
    (subnet(172, 20, 16), subnet(172, 21, 16)),
    (subnet(192, 168, 17), Subnet { address: Ipv4Addr::new(192, 168, 128, 0), bits: 17 }),
];

const fn subnet(one: u8, two: u8, bits: u8) -> Subnet {
    Subnet { address: Ipv4Addr::new(one, two, 0, 0), bits }
}

/// Adds the findings of all hosts: at most one for each network of each.
pub(super) fn judge(hosts: &[HostCheck], settings: &Settings, out: &mut Vec<Finding>) {
    let all: Vec<Subnet> = hosts.iter().flat_map(addresses).map(Subnet::host).collect();
    let hit = |settings: &Settings| {
        settings.networks().iter().any(|(_, network)| all.iter().any(|host| network.holds(*host)))
    };
    let others = OTHERS.into_iter().find(|(pods, services)| {
        let other = Settings { pods: *pods, services: *services, ..Settings::default() };
        other.check().is_ok() && !hit(&other)
    });
    for host in hosts {
        let own: Vec<Ipv4Addr> = addresses(host).collect();
        for (word, network) in settings.networks() {
            let Some(address) = own.iter().find(|own| network.holds(Subnet::host(**own))) else { continue };
            let text = format!("has the address {address}, which is in the cluster's {word} {network}");
            let remedy = match others {
                Some((pods, services)) => format!(
                    "networks are chosen at creation; make a cluster that leaves this one alone: qb cluster create NAME --driver kubeadm --pods {pods} --services {services}"
                ),
                None => other_machine(host.host.as_str()),
            };
            out.push(error("NET-OVERLAP", host.host.as_str(), text, remedy));
        }
    }
}

/// The addresses of a host itself. One that serves has those of its cluster too: of it, only the one that
/// others reach counts.
fn addresses(host: &HostCheck) -> impl Iterator<Item = Ipv4Addr> {
    let most = if host.serving { 1 } else { usize::MAX };
    let all = host.facts.iter().flat_map(|facts| &facts.addresses).take(most);
    all.filter_map(|address| address.parse().ok())
}
