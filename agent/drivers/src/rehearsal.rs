//! The driver `rehearsal`: the whole life cycle with real processes, certificates, ports and
//! secrets, in one directory and without root. What it starts are stand-ins, not Kubernetes, and
//! everything that shows it says so.
//!
//! The registry of members lies at the first control plane node. Further control plane nodes run
//! an API server of their own that passes questions on to it: the rehearsal shows placement,
//! joining, certificates and leaving, not a replicated store.

mod files;
mod units;

use std::net::IpAddr;

use qb_model::action::NodeRole;
use qb_model::assignment::{Assignment, Member, Stage};
use qb_model::ids::{Digest, NodeId, Version};
use qb_model::preflight::{Port, Proto, Requirements};

use crate::host_step::HostAction;
use crate::path::RelPath;
use crate::step::{ConfigCheck, SecretFiles, StandIn, Step, StepAction, TlsFiles};
use crate::{Driver, DriverError, Observed, Served, bundle};

/// TCP port of the API server, as in Kubernetes.
pub const API_SERVER_PORT: u16 = 6443;
/// TCP port of the node service, as the kubelet's.
pub const NODE_TCP_PORT: u16 = 10250;
/// UDP port of the node service, as a VXLAN pod network's.
pub const NODE_UDP_PORT: u16 = 8472;

const NAME: &str = "rehearsal";
/// Stand-ins are small: they need a core's fraction and a few MiB.
const CORES: u32 = 1;
const MEMORY_BYTES: u64 = 256 << 20;
const DISK_FREE_BYTES: u64 = 64 << 20;
/// Longest wait for the API server to take note of a node that leaves: leaving must not hang on it.
const LEAVE_LIMIT_S: u16 = 3;

const DIRECTORIES: [&str; 8] = ["bundle", "config", "data", "data/offers", "log", "pki", "run", "secret"];

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rehearsal;

impl Driver for Rehearsal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn label(&self) -> Option<&'static str> {
        Some("rehearsal: stand-in processes, not Kubernetes")
    }

    fn served(&self, port: &Port) -> Served {
        if port.port == API_SERVER_PORT { Served::Accepts } else { Served::Answers }
    }

    fn requirements(&self, role: NodeRole) -> Requirements {
        let port = |proto, port, service: &str| Port { proto, port, service: service.to_owned() };
        let mut ports = vec![
            port(Proto::Tcp, NODE_TCP_PORT, "node service"),
            port(Proto::Udp, NODE_UDP_PORT, "node service"),
        ];
        if role == NodeRole::ControlPlane {
            ports.insert(0, port(Proto::Tcp, API_SERVER_PORT, "API server"));
        }
        Requirements { cores: CORES, memory_bytes: MEMORY_BYTES, disk_free_bytes: DISK_FREE_BYTES, ports }
    }

    fn supports(&self, version: &Version) -> Result<(), DriverError> {
        if version.as_str().starts_with("1.") {
            return Ok(());
        }
        Err(DriverError::Version { driver: NAME, version: version.clone(), takes: "versions 1.x.y" })
    }

    fn way_back(&self, _: &Assignment) -> Result<Option<HostAction>, DriverError> {
        Ok(None)
    }

    fn compile(&self, order: &Assignment, observed: &Observed) -> Result<Vec<Step>, DriverError> {
        if order.driver.as_str() != NAME {
            return Err(DriverError::OtherDriver { driver: NAME, wanted: order.driver.clone() });
        }
        let stage = Compiler::new(order)?;
        // Leaving must work whatever is left of version and bundle.
        if order.stage != Stage::Leave {
            self.supports(&order.version)?;
            crate::check_bundle(order, observed)?;
        }
        let actions = match order.stage {
            Stage::Prepare => stage.prepare()?,
            Stage::Initialize => stage.initialize()?,
            Stage::Join => stage.join()?,
            Stage::Leave => stage.leave()?,
            Stage::Restore => return Err(stage.refuse("a rehearsal does not: it has no store")),
            Stage::Upgrade => return Err(stage.refuse("a rehearsal does not: it has one version")),
        };
        Ok((1..).zip(actions).map(|(id, (title, action))| Step { id, title, action }).collect())
    }
}

type Action = (String, StepAction);

/// An order with what is worked out from it.
struct Compiler<'a> {
    order: &'a Assignment,
    me: &'a Member,
    first: &'a Member,
    authority: TlsFiles,
    serving: TlsFiles,
    bundle: RelPath,
}

impl<'a> Compiler<'a> {
    fn new(order: &'a Assignment) -> Result<Self, DriverError> {
        let find = |node: NodeId| {
            order.members.iter().find(|m| m.node == node).ok_or_else(|| DriverError::NotAMember {
                cluster: order.cluster.clone(),
                who: node.to_string(),
            })
        };
        let me = find(order.node)?;
        // A node that leaves may be told so after the first one is gone.
        let first =
            find(order.first).or_else(|e| if order.stage == Stage::Leave { Ok(me) } else { Err(e) })?;
        Ok(Self {
            order,
            me,
            first,
            authority: TlsFiles { key: "pki/ca.key".parse()?, certificate: "pki/ca.crt".parse()? },
            serving: TlsFiles {
                key: "pki/api-server.key".parse()?,
                certificate: "pki/api-server.crt".parse()?,
            },
            bundle: bundle_path(&order.bundle)?,
        })
    }

    fn is_control_plane(&self) -> bool {
        self.order.role == NodeRole::ControlPlane
    }

    fn refuse(&self, why: &'static str) -> DriverError {
        DriverError::Stage {
            host: self.me.host.to_string(),
            stage: self.order.stage.word(),
            why,
            cluster: self.order.cluster.clone(),
        }
    }

    fn prepare(&self) -> Result<Vec<Action>, DriverError> {
        let mut files = vec![self.cluster_file()?, self.node_service_file()?];
        if self.is_control_plane() {
            files.insert(0, self.api_server_file()?);
        }
        let checks = files
            .iter()
            .map(|file| {
                let name = file.path.as_str().trim_start_matches("config/");
                Ok(ConfigCheck { file: file.path.clone(), schema: format!("schema/{name}").parse()? })
            })
            .collect::<Result<Vec<_>, DriverError>>()?;
        let paths = DIRECTORIES.map(str::parse).into_iter().collect::<Result<Vec<RelPath>, _>>()?;
        Ok(vec![
            (format!("make {} and {} more", paths[0], paths.len() - 1), StepAction::Directories { paths }),
            (
                format!("unpack {} {}", self.order.driver, self.order.version),
                StepAction::Unpack { bundle: self.order.bundle, into: "bundle".parse()? },
            ),
            (format!("write {} and {} more", files[0].path, files.len() - 1), StepAction::Files { files }),
            (
                format!("compare {} files with the bundle's schemas", checks.len()),
                StepAction::CheckConfig { bundle: self.bundle.clone(), files: checks },
            ),
        ])
    }

    fn initialize(&self) -> Result<Vec<Action>, DriverError> {
        if !self.is_control_plane() {
            return Err(self.refuse("only a control plane node does"));
        }
        if self.order.first != self.order.node {
            return Err(self.refuse("only the first member does"));
        }
        let address = ip(self.me)?.to_string();
        let mut actions = vec![
            (
                format!("make the certificate authority of {}", self.order.cluster),
                StepAction::MakeAuthority {
                    name: format!("{} (rehearsal)", self.order.cluster),
                    authority: self.authority.clone(),
                },
            ),
            (
                format!("issue the API server's certificate for {address}"),
                StepAction::IssueServing {
                    authority: self.authority.clone(),
                    serving: self.serving.clone(),
                    address,
                },
            ),
        ];
        actions.extend(self.api_server()?);
        actions.push((
            format!("make a credential for {}", self.me.host),
            StepAction::OwnCredential {
                offers: "data/offers".parse()?,
                into: "secret/join.json".parse()?,
                authority: self.authority.certificate.clone(),
                identity: "secret/node.json".parse()?,
            },
        ));
        actions.extend(self.node_service()?);
        actions.push((
            "publish the cluster's certificate authority".to_owned(),
            StepAction::Publish { path: self.authority.certificate.clone() },
        ));
        Ok(actions)
    }

    fn join(&self) -> Result<Vec<Action>, DriverError> {
        if self.order.first == self.order.node {
            return Err(self.refuse("the first member does not: it initializes"));
        }
        let mut actions = vec![(
            format!("open the join secret from {}", self.first.host),
            StepAction::OpenSecret(SecretFiles {
                credential: "secret/join.json".parse()?,
                authority: self.authority.certificate.clone(),
                serving: self.is_control_plane().then(|| self.serving.clone()),
                identity: "secret/node.json".parse()?,
            }),
        )];
        if self.is_control_plane() {
            actions.extend(self.api_server()?);
        }
        actions.extend(self.node_service()?);
        Ok(actions)
    }

    fn leave(&self) -> Result<Vec<Action>, DriverError> {
        let mut actions = vec![
            ("stop the node service".to_owned(), StepAction::StopUnit { stand_in: StandIn::NodeService }),
            (
                format!("sign off at {}", self.first.host),
                StepAction::Deregister {
                    config: "config/node-service.json".parse()?,
                    limit_s: LEAVE_LIMIT_S,
                },
            ),
        ];
        if self.is_control_plane() {
            actions.push((
                "stop the API server".to_owned(),
                StepAction::StopUnit { stand_in: StandIn::ApiServer },
            ));
        }
        actions.push((format!("remove everything of {}", self.order.cluster), StepAction::RemoveTree));
        Ok(actions)
    }
}

/// Where a bundle is unpacked.
fn bundle_path(digest: &Digest) -> Result<RelPath, DriverError> {
    Ok(format!("bundle/{}", bundle::directory_name(digest)).parse()?)
}

fn ip(member: &Member) -> Result<IpAddr, DriverError> {
    member
        .address
        .parse()
        .map_err(|_| DriverError::Address { host: member.host.to_string(), address: member.address.clone() })
}
