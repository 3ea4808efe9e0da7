//! Drivers: from an order to the steps of one host, purely.
//!
//! ```text
//!   Assignment (signed intent > planner > log)      Observed (this host, its bundle)
//!              |                                              |
//!              +--------------- Driver::compile --------------+
//!                                     |
//!                             Vec<Step>, typed
//!                     +---------------+----------------+
//!                 `--plan` prints them           qb-exec runs them
//! ```
//!
//! | file | what |
//! |---|---|
//! | `lib.rs` | [`Driver`], the table of drivers, what can be refused |
//! | `step.rs` | [`Step`], [`StepAction`]: the closed set of things done to a host |
//! | `host_step.rs` | [`host_step::HostAction`]: what is done to the host itself |
//! | `path.rs` | [`RelPath`]: a path that cannot leave the cluster's directory |
//! | `plan.rs` | the full text of a plan, as `--plan=full` and the golden tests show it |
//! | `config.rs` | files that a driver renders, as types |
//! | `kubeadm/` | the driver `kubeadm`: real Kubernetes |
//! | `rehearsal.rs`, `rehearsal/` | the driver `rehearsal`: the life cycle with stand-in processes |
//! | `access.rs` | who is who inside a cluster: role bindings from the site's admins |
//! | `marks.rs`, `addons.rs`, `kept.rs` | labels and taints of nodes, add-ons, and the records of what qb set |
//! | `bundle.rs` | the bundle format: manifest, assembly, verification |
//! | `agent.rs` | bundles of the agent itself: its two programs, versions that may not come back |
//! | `content.rs` | what the rehearsal's bundle holds |
//!
//! # Invariants
//! - No IO, no clock, no randomness: the same input gives the same steps on every machine, so that
//!   the leader's plan, `--plan` and the host agree.
//! - A step is a typed action. There is no shell, no argument vector that comes from outside and no
//!   string template: files are serialized from structs, names have passed their model type.
//! - Every path is relative to the cluster's directory on the node.
//! - What a driver does not do: decide placement (planner), judge a host (preflight), touch it (exec).

pub mod access;
pub mod addons;
pub mod agent;
pub mod bundle;
pub mod config;
mod content;
pub mod host_step;
pub mod kept;
pub mod kubeadm;
pub mod marks;
mod path;
mod plan;
mod rehearsal;
mod step;

pub use content::build_rehearsal_bundle;
pub use path::{PathError, RelPath};
pub use plan::render;
pub use rehearsal::{API_SERVER_PORT, NODE_TCP_PORT, NODE_UDP_PORT, Rehearsal};
pub use step::{ConfigCheck, FileSpec, SecretFiles, StandIn, Step, StepAction, TlsFiles};

use qb_model::action::NodeRole;
use qb_model::assignment::Assignment;
use qb_model::ids::{Name, Version};
use qb_model::preflight::{Port, Requirements};

/// Why a driver refuses an order. The text ends with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The driver cannot install this version.
    #[error(
        "driver {driver} cannot install version {version}: it takes {takes}; name such a version in `qb cluster create`"
    )]
    Version {
        /// The driver.
        driver: &'static str,
        /// The version asked for.
        version: Version,
        /// What it takes.
        takes: &'static str,
    },
    /// The order is for another driver.
    #[error(
        "the order names driver {wanted}, not {driver}: create the cluster again with a driver of `qb bundle list`"
    )]
    OtherDriver {
        /// This driver.
        driver: &'static str,
        /// The one named.
        wanted: Name,
    },
    /// The ordered node or the first node is not among the members.
    #[error(
        "the order to cluster {cluster} does not list {who} among its members: plan the attach again with `qb cluster attach {cluster} --plan`"
    )]
    NotAMember {
        /// The cluster.
        cluster: Name,
        /// Who is missing.
        who: String,
    },
    /// A member's address is not an IP address.
    #[error(
        "{host} has the address {address:?}, which is not an IP address: set `address` in its agent's configuration"
    )]
    Address {
        /// Whose.
        host: String,
        /// The text.
        address: String,
    },
    /// The role does not have that stage.
    #[error(
        "{host} is ordered to {stage}, which {why}: plan the attach again with `qb cluster attach {cluster} --plan`"
    )]
    Stage {
        /// The node.
        host: String,
        /// The stage.
        stage: &'static str,
        /// Why not.
        why: &'static str,
        /// The cluster.
        cluster: Name,
    },
    /// The bundle at hand is for something else.
    #[error("the bundle is {have}, the order needs {want}: `qb bundle push` the right file")]
    Bundle {
        /// What the manifest says.
        have: String,
        /// What is needed.
        want: String,
    },
    /// The bundle lacks a program that this version cannot do without.
    #[error(
        "the bundle holds no {program}, without which {driver} {version} makes no control plane node: put the program into the bundle's folder, then `qb bundle build` and `qb bundle push` again"
    )]
    Lacks {
        /// The driver.
        driver: &'static str,
        /// Its version.
        version: Version,
        /// Path of the program in the tree.
        program: &'static str,
    },
    /// A path would not be clean.
    #[error("driver: {0}")]
    Path(#[from] PathError),
    /// A file could not be rendered.
    #[error("{file} cannot be rendered: {reason}; report this with `qb support bundle`")]
    Render {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

/// What a driver may look at besides the order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The host's architecture, `x86_64` or `aarch64`; empty if not known, as in a plan for later.
    pub arch: String,
    /// The verified manifest of the bundle at hand; none while it is not here.
    pub bundle: Option<bundle::Manifest>,
    /// Version of the host's control groups, 1 or 2; none if not known, as in a plan for later.
    pub cgroup: Option<u8>,
    /// Whether the host is itself a container: parts of the kernel are not its own.
    pub nested: bool,
    /// SHA-256 of the snapshot that the signed intent of an order to restore names.
    pub backup: Option<qb_model::ids::Digest>,
}

/// What a probe hears on a port that a cluster's own service holds: nothing of it is disturbed to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The service answers probes as preflight itself does.
    Answers,
    /// It takes the connection and speaks a protocol of its own: who answers is not told.
    Accepts,
    /// Nothing can be heard: the kernel takes the datagrams.
    Nothing,
}

/// Compiles orders into steps for one Kubernetes distribution.
pub trait Driver: Send + Sync {
    /// Its name in intents.
    fn name(&self) -> &'static str;

    /// What is said wherever a cluster of this driver shows; none for a real distribution.
    fn label(&self) -> Option<&'static str>;

    /// What a probe hears on a port of a role whose node serves its cluster already.
    fn served(&self, port: &Port) -> Served;

    /// What a role needs of a host.
    fn requirements(&self, role: NodeRole) -> Requirements;

    /// Whether it can install a version.
    ///
    /// # Errors
    /// [`DriverError::Version`] with what it takes.
    fn supports(&self, version: &Version) -> Result<(), DriverError>;

    /// The steps that carry out an order, in order.
    ///
    /// # Errors
    /// A [`DriverError`] if the order makes no sense for this driver or host.
    fn compile(&self, order: &Assignment, observed: &Observed) -> Result<Vec<Step>, DriverError>;

    /// What takes back an order that failed, for stages that are not tried again and again.
    ///
    /// # Errors
    /// As of [`Driver::compile`].
    fn way_back(&self, order: &Assignment) -> Result<Option<host_step::HostAction>, DriverError>;
}

/// Compares the bundle at hand, if there is one, with the order and the host.
fn check_bundle(order: &Assignment, observed: &Observed) -> Result<(), DriverError> {
    let Some(have) = &observed.bundle else {
        return Ok(());
    };
    let fits = have.driver == order.driver
        && have.version == order.version
        && (have.arch == bundle::ANY_ARCH || observed.arch.is_empty() || have.arch == observed.arch);
    if fits {
        return Ok(());
    }
    Err(DriverError::Bundle {
        have: format!("{} {} for {}", have.driver, have.version, have.arch),
        want: format!("{} {} for {}", order.driver, order.version, observed.arch),
    })
}

static REHEARSAL: Rehearsal = Rehearsal;
static KUBEADM: kubeadm::Kubeadm = kubeadm::Kubeadm;

/// The driver of that name.
pub fn driver(name: &Name) -> Option<&'static dyn Driver> {
    match name.as_str() {
        "kubeadm" => Some(&KUBEADM),
        "rehearsal" => Some(&REHEARSAL),
        _ => None,
    }
}

/// The names of all drivers, sorted.
pub fn names() -> &'static [&'static str] {
    &["kubeadm", "rehearsal"]
}
