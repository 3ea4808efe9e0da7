//! Real Kubernetes by qb, on hosts of the laboratory: from the packages to a host that is as it was.
//!
//! As root, through `just test-kubernetes`. Each test has a laboratory of its own; they run one after the other,
//! since one cluster takes what two cores have.

mod faults;
mod life;

/// The cluster.
const CLUSTER: &str = "c1";
