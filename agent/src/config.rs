//! What an agent is told at its start: addresses, directories, the site's enrolment file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use qb_model::HostName;

/// Port of the mesh: members only.
pub const MESH_PORT: u16 = 7443;
/// Port on which strangers knock.
pub const KNOCK_PORT: u16 = 7444;
/// Port of the API over TLS.
pub const API_PORT: u16 = 8443;

/// Options of `qb-agent run`.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Directory of the agent's state; made with mode 0700 if missing
    #[arg(long, value_name = "DIR", default_value = "/var/lib/qb", env = "QB_STATE")]
    pub state: PathBuf,
    /// The site's enrolment file, as `qb site create` writes it
    #[arg(long, value_name = "FILE", default_value = "/etc/qb/site.enroll.json", env = "QB_ENROLL")]
    pub enroll: PathBuf,
    /// Address that the node serves on: mesh, knocks, API, cluster
    #[arg(long, value_name = "IP", env = "QB_ADDRESS")]
    pub address: IpAddr,
    /// Port of the mesh
    #[arg(long, value_name = "PORT", default_value_t = MESH_PORT)]
    pub mesh_port: u16,
    /// Port on which strangers knock
    #[arg(long, value_name = "PORT", default_value_t = KNOCK_PORT)]
    pub knock_port: u16,
    /// Port of the API over TLS
    #[arg(long, value_name = "PORT", default_value_t = API_PORT)]
    pub api_port: u16,
    /// Path of the API's unix socket [default: STATE/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Host name to go by, where several agents share a machine [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub host_name: Option<HostName>,
    /// Failure domain of the machine: rack or room
    #[arg(long, value_name = "NAME", default_value = "")]
    pub zone: String,
    /// While this file exists no step runs on the host
    #[arg(long, value_name = "FILE", default_value = "/etc/qb/hold")]
    pub hold: PathBuf,
    /// HTTP proxy on the way to relays, http://HOST:PORT; never taken from other variables
    #[arg(long, value_name = "URL", env = "QB_RELAY_PROXY")]
    pub relay_proxy: Option<String>,
    /// File with USER:PASSWORD for that proxy, readable by its owner alone
    #[arg(long, value_name = "FILE", env = "QB_RELAY_PROXY_AUTH", requires = "relay_proxy")]
    pub relay_proxy_auth: Option<PathBuf>,
    /// Certificates that the TLS around a relay's link may have; the link inside has the relay's key in any case
    #[arg(long, value_name = "WHICH", default_value = "webpki", env = "QB_RELAY_OUTER_TLS")]
    pub relay_outer_tls: RelayTls,
    /// Issuers of the certificate of a relay of your own, as PEM: these and no others are taken then
    #[arg(long, value_name = "FILE", env = "QB_RELAY_CA", conflicts_with = "relay_outer_tls")]
    pub relay_ca: Option<PathBuf>,
}

/// Which certificates are taken around the link to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RelayTls {
    /// Those of public issuers, which come with the program; a company's issuer is none of them
    Webpki,
    /// Those that this machine trusts, where a relay has a company's certificate
    System,
    /// Any, where a firewall ends TLS itself
    Any,
}

impl Config {
    /// Where the mesh listens.
    pub fn mesh(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.mesh_port)
    }
    /// Where strangers knock.
    pub fn knock(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.knock_port)
    }
    /// Where the API listens over TLS.
    pub fn api(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.api_port)
    }
    /// Path of the API's unix socket.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.state.join("agent.sock"))
    }
}
