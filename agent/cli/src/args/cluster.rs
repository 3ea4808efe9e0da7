//! `qb cluster`.

use clap::builder::ArgPredicate;
use clap::{Args, Subcommand};
use qb_model::settings::Subnet;
use qb_model::{Digest, Name, Version};

/// Verbs on clusters.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Create an empty cluster
    #[command(after_help = super::help::CREATE)]
    Create(CreateArgs),
    /// List the clusters
    #[command(after_help = super::help::CLUSTER_LIST)]
    List(super::rest::RowArgs),
    /// Show a cluster: members, stages, what it waits for
    Show {
        /// The cluster
        cluster: Name,
    },
    /// Attach pool nodes to a cluster and follow it until it serves
    #[command(after_help = super::help::ATTACH)]
    Attach(AttachArgs),
    /// Take nodes out of a cluster, back to the pool
    Detach {
        /// The cluster
        cluster: Name,
        /// The nodes; - reads them from stdin
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Bring a cluster to a newer version, one control plane node at a time
    #[command(after_help = super::help::CLUSTER_UPGRADE)]
    Upgrade(UpgradeArgs),
    /// Halt the upgrade of a cluster: no node begins it any more
    Halt {
        /// The cluster
        cluster: Name,
    },
    /// Have every control plane node of a cluster back up its store now; each does daily by itself
    #[command(after_help = super::help::CLUSTER_BACKUP)]
    Backup {
        /// The cluster
        cluster: Name,
    },
    /// Bring a cluster's store back to a backup: what was changed since is lost
    #[command(after_help = super::help::CLUSTER_RESTORE)]
    Restore(RestoreArgs),
    /// Set labels of a node in Kubernetes and keep them: key=value sets, key- removes
    #[command(after_help = super::help::CLUSTER_LABEL)]
    Label(MarkArgs),
    /// Set taints of a node in Kubernetes and keep them: key=value:Effect sets, key- removes
    #[command(after_help = super::help::CLUSTER_TAINT)]
    Taint(MarkArgs),
    /// Manifests that are applied to a cluster and kept
    #[command(subcommand, after_help = super::help::ADDON)]
    Addon(AddonCommand),
    /// Delete a cluster; its nodes return to the pool
    Delete {
        /// The cluster
        cluster: Name,
    },
    /// Write a kubeconfig that asks qb for certificates: to stdout, to -o FILE, or into your own
    #[command(after_help = super::help::KUBECONFIG)]
    Kubeconfig(KubeconfigArgs),
    /// Print a client certificate of an hour, as kubectl asks for it
    #[command(after_help = super::help::CREDENTIAL)]
    Credential {
        /// The cluster
        cluster: Name,
    },
    /// Listen on this computer and tunnel connections to the API server, until Ctrl-C
    #[command(after_help = super::help::PROXY)]
    Proxy(ProxyArgs),
}

/// `qb cluster label` and `qb cluster taint`.
#[derive(Debug, Args)]
pub struct MarkArgs {
    /// The cluster
    pub cluster: Name,
    /// A node of it
    pub node: String,
    /// What to set and what to remove
    #[arg(required = true, value_name = "CHANGE")]
    pub changes: Vec<String>,
}

/// `qb cluster addon`.
#[derive(Debug, Subcommand)]
pub enum AddonCommand {
    /// Apply a manifest to a cluster and keep it; the same name again replaces it
    #[command(after_help = super::help::ADDON_SET)]
    Set(AddonSetArgs),
    /// List the add-ons of a cluster, and what is wrong with them
    List {
        /// The cluster
        cluster: Name,
    },
    /// Remove an add-on with everything that its manifest made
    Remove {
        /// The cluster
        cluster: Name,
        /// The add-on
        addon: Name,
    },
}

/// `qb cluster addon set`.
#[derive(Debug, Args)]
pub struct AddonSetArgs {
    /// The cluster
    pub cluster: Name,
    /// The add-on's name: letters, digits and -
    pub addon: Name,
    /// The manifest, YAML or JSON, at most 28 KiB; no Secrets
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: std::path::PathBuf,
}

/// `qb cluster kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// The cluster
    pub cluster: Name,
    /// Merge it into the kubeconfig of KUBECONFIG or ~/.kube/config, by kubectl
    #[arg(long)]
    pub merge: bool,
    /// To the cluster's own address, even where a relay is the door
    #[arg(long, conflicts_with = "port")]
    pub direct: bool,
    /// To a load balancer of your own before the control plane nodes, port 6443 if none is named; alone: to
    /// the one that the cluster was created with
    #[arg(long, num_args = 0..=1, value_name = "HOST[:PORT]", value_parser = crate::access::kubeconfig::load_balancer, conflicts_with_all = ["direct", "port"])]
    pub endpoint: Option<Option<String>>,
    /// To a `qb cluster proxy` that listens on this port of this computer
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

/// `qb cluster proxy`.
#[derive(Debug, Args)]
pub struct ProxyArgs {
    /// The cluster
    pub cluster: Name,
    /// The port on 127.0.0.1; default: any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
}

/// `qb kubectl`.
#[derive(Debug, Args)]
pub struct KubectlArgs {
    /// The cluster
    pub cluster: Name,
    /// What kubectl is called with, after --
    #[arg(last = true, required = true, value_name = "ARGUMENT")]
    pub arguments: Vec<std::ffi::OsString>,
}

/// `qb cluster create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The cluster's name
    pub cluster: Name,
    /// The driver; default: rehearsal, or kubeadm where networks or endpoints are named
    #[arg(long, value_name = "DRIVER", default_value = "rehearsal", default_value_ifs = [
        ("pods", ArgPredicate::IsPresent, "kubeadm"),
        ("services", ArgPredicate::IsPresent, "kubeadm"),
        ("endpoints", ArgPredicate::IsPresent, "kubeadm"),
    ])]
    pub driver: Name,
    /// The network of all pods, /8 to /20: each node has a /24 of it; default: 10.244.0.0/16
    #[arg(long, value_name = "NETWORK")]
    pub pods: Option<Subnet>,
    /// The network of services, /12 to /24; default: 10.96.0.0/16
    #[arg(long, value_name = "NETWORK")]
    pub services: Option<Subnet>,
    /// Where a load balancer or virtual address of yours serves the API: up to 4 times; the first may have a
    /// port, 6443 if it has none
    #[arg(long = "endpoint", value_name = "HOST[:PORT]")]
    pub endpoints: Vec<String>,
    /// The version; default: the bundle's
    #[arg(long = "version", alias = "k8s-version", alias = "release", value_name = "VERSION", value_parser = super::version)]
    pub version: Option<Version>,
    /// The bundle to install from; default: the newest of the driver that the site holds
    #[arg(long, value_name = "DIGEST")]
    pub bundle: Option<Digest>,
}

/// `qb cluster upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// The cluster
    pub cluster: Name,
    /// The version: newer, and no minor version is left out
    #[arg(long, value_name = "VERSION", value_parser = super::version)]
    pub version: Version,
    /// The bundle that brings it: a file, or one of the site by the beginning of its digest; default: the
    /// site's one of that version
    #[arg(long, value_name = "FILE|DIGEST")]
    pub bundle: Option<String>,
    /// Workers at the same time; control plane nodes always go alone
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub batch: u16,
}

/// `qb cluster restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The cluster
    pub cluster: Name,
    /// The backup, by the beginning of its digest: `qb cluster show CLUSTER -o json` lists them
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// The control plane node that restores it, if several keep it
    #[arg(long, value_name = "NODE")]
    pub on: Option<String>,
}

/// `qb cluster attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The cluster
    pub cluster: Name,
    /// The nodes; - reads them from stdin
    #[arg(value_name = "NODE", required_unless_present_any = ["count", "control_plane"])]
    pub nodes: Vec<String>,
    /// This many pool nodes, chosen by the plan and signed by name
    #[arg(short = 'n', long = "count", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=400), conflicts_with_all = ["nodes", "control_plane"])]
    pub count: Option<u16>,
    /// Leave the choice of nodes open: the site chooses when it gets to it
    #[arg(long, requires = "count", conflicts_with_all = ["nodes", "control_plane", "expect"])]
    pub auto: bool,
    /// These nodes as control plane, the others as workers
    #[arg(long, value_name = "NODE,NODE", value_delimiter = ',')]
    pub control_plane: Vec<String>,
    /// How many control plane nodes the cluster has afterwards: 1, 3 or 5
    #[arg(long, value_name = "1|3|5", value_parser = one_three_five, conflicts_with = "control_plane")]
    pub control_planes: Option<u8>,
}

fn one_three_five(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("1, 3 or 5: an even number survives no more than the odd one below it".into()),
    }
}

impl ClusterCommand {
    /// Whether `--watch` means something here.
    pub fn watches(&self) -> bool {
        matches!(self, Self::List(_) | Self::Show { .. } | Self::Addon(AddonCommand::List { .. }))
    }

    /// Whether it changes the site.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::List(_)
                | Self::Show { .. }
                | Self::Addon(AddonCommand::List { .. })
                | Self::Kubeconfig(_)
                | Self::Credential { .. }
                | Self::Proxy(_)
        )
    }
}
