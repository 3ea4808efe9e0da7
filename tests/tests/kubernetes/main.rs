//! Real Kubernetes by qb, on hosts of the laboratory: from the packages to a host that is as it was.
//!
//! As root, through `just test-kubernetes`. Each test has a laboratory of its own; they run one after the other,
//! since one cluster takes what two cores have.

mod faults;
mod life;

use anyhow::Result;
use qb_tests::fleet::Fleet;
use qb_tests::kubernetes::{Version, ensure_folder};
use qb_tests::lab::{Host, Kind};

/// The cluster.
const CLUSTER: &str = "c1";

/// A site with these hosts in its pool, each of which can be a node of Kubernetes, and with the bundle.
fn site(lab: &str, hosts: std::ops::RangeInclusive<u8>) -> Result<(Fleet, Vec<Host>)> {
    let mut fleet = Fleet::create(lab, "lyon")?;
    fleet.qb.kubectl = Some(ensure_folder(&fleet.lab, Version::First)?.join("bin/kubectl"));
    let nodes = fleet.explained(|fleet| {
        fleet.create_site()?;
        let nodes = fleet.machines(hosts.clone(), &Kind::kubernetes())?;
        fleet.install_by_line(&nodes)?;
        let numbers: Vec<_> = hosts.collect();
        fleet.await_knocks(&numbers)?;
        fleet.authorize(&nodes)?;
        fleet.trust_publisher(&nodes[0])?;
        let file = fleet.kubernetes_bundle(Version::First)?;
        fleet.near(numbers[0], &["bundle", "push", &file])?.ended(0)?;
        Ok(nodes)
    })?;
    Ok((fleet, nodes))
}

/// Orders the cluster.
fn create(fleet: &Fleet) -> Result<()> {
    let version = Version::First.to_string();
    let order = ["cluster", "create", CLUSTER, "--driver", "kubeadm", "--version", &version, "-y"];
    fleet.far(&order)?.ended(0).map(drop)
}
