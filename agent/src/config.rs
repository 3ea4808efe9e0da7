//! What an agent is told: options, which win over variables, which win over a strict TOML file.
//!
//! [`Options`] is both the long options and the keys of the file (underscores for hyphens), so that
//! neither can have what the other lacks. With the address that the node serves on they are a
//! [`Config`].

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use qb_model::HostName;
use serde::Deserialize;

use crate::files::{self, FileError};

/// Port of the mesh: members only.
pub const MESH_PORT: u16 = 7443;
/// Port on which strangers knock.
pub const KNOCK_PORT: u16 = 7444;
/// Port of the API over TLS.
pub const API_PORT: u16 = 8443;
/// Directory of the agent's state.
pub const STATE: &str = "/var/lib/qb/agent";
/// The file of options.
pub const FILE: &str = "/etc/qb/agent.toml";
/// While this file exists no step runs on the host.
pub const HOLD: &str = "/etc/qb/hold";
/// Most bytes of the file of options: a screen of them, with comments.
const MAX_BYTES: u64 = 64 * 1024;

/// Options of the agent, and keys of its file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Directory of the agent's state; made with mode 0700 if missing [default: /var/lib/qb/agent]
    #[arg(long, value_name = "DIR", env = "QB_STATE")]
    pub state: Option<PathBuf>,
    /// The site's enrolment file [default: /etc/qb/site.enroll.json, else /usr/share/qb/site.enroll.json]
    #[arg(long, value_name = "FILE", env = "QB_ENROLL")]
    pub enroll: Option<PathBuf>,
    /// File with a join token from `qb token mint`, mode 0600; erased once the node is in [default: STATE/join.token, else /etc/qb/join.token]
    #[arg(long, value_name = "FILE", env = "QB_JOIN_TOKEN")]
    pub join_token: Option<PathBuf>,
    /// Address that the node serves on: mesh, knocks, API, cluster [default: the one towards the site]
    #[arg(long, value_name = "IP", env = "QB_ADDRESS")]
    pub address: Option<IpAddr>,
    /// Port of the mesh [default: 7443]
    #[arg(long, value_name = "PORT")]
    pub mesh_port: Option<u16>,
    /// Port on which strangers knock [default: 7444]
    #[arg(long, value_name = "PORT")]
    pub knock_port: Option<u16>,
    /// Port of the API over TLS [default: 8443]
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
    /// Path of the API's unix socket [default: $RUNTIME_DIRECTORY/agent.sock, else STATE/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Host name to go by, where several agents share a machine [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub host_name: Option<HostName>,
    /// Failure domain of the machine: rack or room
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
    /// While this file exists no step runs on the host [default: /etc/qb/hold]
    #[arg(long, value_name = "FILE")]
    pub hold: Option<PathBuf>,
    /// Socket of an executor that is a process of its own; without it the agent carries out orders itself
    #[arg(long, value_name = "PATH", env = "QB_EXEC_SOCKET")]
    pub exec_socket: Option<PathBuf>,
    /// HTTP proxy on the way to relays, http://HOST:PORT; never taken from other variables
    #[arg(long, value_name = "URL", env = "QB_RELAY_PROXY")]
    pub relay_proxy: Option<String>,
    /// File with USER:PASSWORD for that proxy, readable by its owner alone
    #[arg(long, value_name = "FILE", env = "QB_RELAY_PROXY_AUTH")]
    pub relay_proxy_auth: Option<PathBuf>,
    /// Certificates that the TLS around a relay's link may have; the link inside has the relay's key in any case [default: webpki]
    #[arg(long, value_name = "WHICH", env = "QB_RELAY_OUTER_TLS")]
    pub relay_outer_tls: Option<RelayTls>,
    /// Issuers of the certificate of a relay of your own, as PEM: these and no others are taken then
    #[arg(long, value_name = "FILE", env = "QB_RELAY_CA")]
    pub relay_ca: Option<PathBuf>,
    /// Where bundles are as DIGEST.qbb, besides other nodes: http(s)://HOST/PATH that gives ranges, or a folder
    #[arg(long, value_name = "URL|DIR", env = "QB_BUNDLE_MIRROR")]
    pub bundle_mirror: Option<String>,
}

/// Options as they stand on a command line: with the file that they win over.
#[derive(Debug, Clone, Default, Args)]
pub struct Given {
    /// File of options, TOML: keys are these options with underscores [default: /etc/qb/agent.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "QB_AGENT_CONFIG")]
    pub config: Option<PathBuf>,
    /// What is given besides.
    #[command(flatten)]
    pub options: Options,
}

/// Which certificates are taken around the link to a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayTls {
    /// Those of public issuers, which come with the program; a company's issuer is none of them
    #[default]
    Webpki,
    /// Those that this machine trusts, where a relay has a company's certificate
    System,
    /// Any, where a firewall ends TLS itself
    Any,
}

/// Why options are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file that was named is not there.
    #[error("there is no file {0}: --config names a file of options")]
    Missing(String),
    /// The file does not say what options say.
    #[error(
        "{path} line {line}: {text}: {why}; correct the line or remove it: `qb-agent run --help` explains each key"
    )]
    Line {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is no text.
    #[error("{0} is not UTF-8: write it anew")]
    Encoding(String),
    /// Two options that do not go together.
    #[error("{0}")]
    Together(&'static str),
}

impl Given {
    /// The options, with those of the file below them.
    ///
    /// # Errors
    /// The file is not valid, the one that is named is missing, or options contradict each other.
    pub fn read(self) -> Result<Options, ConfigError> {
        let path = self.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
        let options = match files::read_bounded(&path, MAX_BYTES)? {
            Some(bytes) => self.options.over(parse(&path, &bytes)?),
            None if self.config.is_some() => {
                return Err(ConfigError::Missing(path.display().to_string()));
            }
            None => self.options,
        };
        options.check()?;
        Ok(options)
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Options, ConfigError> {
    let path = path.display().to_string();
    let Ok(text) = std::str::from_utf8(bytes) else { return Err(ConfigError::Encoding(path)) };
    toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start).min(text.len());
        // The span of an error that ends at the end of the text may lie within a character.
        let line = bytes[..at].iter().filter(|b| **b == b'\n').count();
        let shown = text.lines().nth(line).unwrap_or_default();
        let why = e.message().replace('\n', " ");
        ConfigError::Line { path, line: line + 1, text: shown_line(shown), why }
    })
}

/// A line of the file as an error shows it: bounded, and never with what stands before an `@`, where
/// somebody may have put a password.
fn shown_line(line: &str) -> String {
    let hidden = match (line.split_once('='), line.rfind('@')) {
        (Some((key, _)), Some(at)) => format!("{}= ...{}", key, &line[at..]),
        (None, Some(_)) => "...".to_owned(),
        (_, None) => line.trim().to_owned(),
    };
    crate::text::clean(&hidden)
}

impl Options {
    /// These options, and those of `below` where these say nothing.
    pub fn over(self, below: Self) -> Self {
        Self {
            state: self.state.or(below.state),
            enroll: self.enroll.or(below.enroll),
            join_token: self.join_token.or(below.join_token),
            address: self.address.or(below.address),
            mesh_port: self.mesh_port.or(below.mesh_port),
            knock_port: self.knock_port.or(below.knock_port),
            api_port: self.api_port.or(below.api_port),
            socket: self.socket.or(below.socket),
            host_name: self.host_name.or(below.host_name),
            zone: self.zone.or(below.zone),
            hold: self.hold.or(below.hold),
            exec_socket: self.exec_socket.or(below.exec_socket),
            relay_proxy: self.relay_proxy.or(below.relay_proxy),
            relay_proxy_auth: self.relay_proxy_auth.or(below.relay_proxy_auth),
            relay_outer_tls: self.relay_outer_tls.or(below.relay_outer_tls),
            relay_ca: self.relay_ca.or(below.relay_ca),
            bundle_mirror: self.bundle_mirror.or(below.bundle_mirror),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.relay_proxy_auth.is_some() && self.relay_proxy.is_none() {
            return Err(ConfigError::Together(
                "relay-proxy-auth is for a proxy: give relay-proxy too, or leave it out",
            ));
        }
        if self.relay_ca.is_some() && self.relay_outer_tls.is_some() {
            return Err(ConfigError::Together(
                "relay-ca and relay-outer-tls both say which certificates a relay may have: give one of them",
            ));
        }
        if self.address.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast()) {
            return Err(ConfigError::Together(
                "address is to be one that other nodes can dial, not 0.0.0.0, :: or a group: give the machine's own",
            ));
        }
        Ok(())
    }

    /// Directory of the agent's state.
    pub fn state_dir(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| PathBuf::from(STATE))
    }

    /// The options with the address that was given or chosen. `runtime` is the directory that the
    /// system made for this service, as `RUNTIME_DIRECTORY` says.
    pub fn at(self, address: IpAddr, runtime: Option<&Path>) -> Config {
        let state = self.state_dir();
        let beside = runtime.unwrap_or(&state).join("agent.sock");
        Config {
            address,
            join_token: self.join_token,
            mesh_port: self.mesh_port.unwrap_or(MESH_PORT),
            knock_port: self.knock_port.unwrap_or(KNOCK_PORT),
            api_port: self.api_port.unwrap_or(API_PORT),
            socket: self.socket.unwrap_or(beside),
            host_name: self.host_name,
            zone: self.zone.unwrap_or_default(),
            hold: self.hold.unwrap_or_else(|| PathBuf::from(HOLD)),
            exec_socket: self.exec_socket,
            relay_proxy: self.relay_proxy,
            relay_proxy_auth: self.relay_proxy_auth,
            relay_outer_tls: self.relay_outer_tls.unwrap_or_default(),
            relay_ca: self.relay_ca,
            bundle_mirror: self.bundle_mirror,
            state,
        }
    }
}

/// What an agent runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the agent's state.
    pub state: PathBuf,
    /// File with a join token, if one was named.
    pub join_token: Option<PathBuf>,
    /// Address that the node serves on.
    pub address: IpAddr,
    /// Port of the mesh.
    pub mesh_port: u16,
    /// Port on which strangers knock.
    pub knock_port: u16,
    /// Port of the API over TLS.
    pub api_port: u16,
    /// Path of the API's unix socket.
    pub socket: PathBuf,
    /// Host name to go by instead of the machine's.
    pub host_name: Option<HostName>,
    /// Failure domain of the machine; empty if not known.
    pub zone: String,
    /// While this file exists no step runs on the host.
    pub hold: PathBuf,
    /// Socket of an executor of its own; none: the agent carries out orders itself.
    pub exec_socket: Option<PathBuf>,
    /// HTTP proxy on the way to relays.
    pub relay_proxy: Option<String>,
    /// File with its credentials.
    pub relay_proxy_auth: Option<PathBuf>,
    /// Certificates that the TLS around a relay's link may have.
    pub relay_outer_tls: RelayTls,
    /// Issuers of the certificate of a relay of one's own.
    pub relay_ca: Option<PathBuf>,
    /// Where bundles are, besides other nodes.
    pub bundle_mirror: Option<String>,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options, String> {
        let path = Path::new("/etc/qb/agent.toml");
        let options = parse(path, text.as_bytes()).map_err(|e| e.to_string())?;
        options.check().map_err(|e| e.to_string())?;
        Ok(options)
    }

    #[test]
    fn keys_are_the_long_options_with_underscores() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            given: Given,
        }
        let command = <Cli as clap::CommandFactory>::command();
        let all: Vec<String> =
            command.get_arguments().filter_map(|a| a.get_long()).map(|l| l.replace('-', "_")).collect();
        let unknown = read("no_such_key = 1").unwrap_err();
        for key in all.iter().filter(|k| !["config", "help"].contains(&k.as_str())) {
            assert!(unknown.contains(&format!("`{key}`")), "{key} is a key: {unknown}");
        }
        assert!(!unknown.contains("`config`"));
    }

    #[test]
    fn a_file_is_taken_whole_or_not_at_all() {
        let good = "# a comment\naddress = \"10.20.1.11\"\nmesh_port = 17443\nrelay_outer_tls = \"system\"\n";
        let options = read(good).unwrap();
        assert_eq!(options.address, Some("10.20.1.11".parse().unwrap()));
        assert_eq!((options.mesh_port, options.relay_outer_tls), (Some(17_443), Some(RelayTls::System)));
        assert_eq!(read("").unwrap(), Options::default());
        // (what stands there, which line, what the error holds)
        for (text, line, parts) in [
            ("zone = \"r1\"\nadress = \"10.0.0.1\"", 2, vec!["adress = \"10.0.0.1\"", "unknown field"]),
            ("mesh_port = \"7443\"", 1, vec!["mesh_port = \"7443\"", "invalid type"]),
            ("mesh_port = 70000", 1, vec!["mesh_port = 70000", "70000"]),
            ("\n\naddress = \"10.0.0\"", 3, vec!["address = \"10.0.0\"", "invalid"]),
            ("address = \"host.example\"", 1, vec!["address"]),
            ("host_name = \"-x-\"", 1, vec!["host_name"]),
            ("relay_outer_tls = \"none\"", 1, vec!["unknown variant", "webpki"]),
            ("zone = \"a\"\nzone = \"b\"", 2, vec!["duplicate key"]),
            ("zone = ", 1, vec!["zone"]),
            ("[run]\nzone = \"a\"", 1, vec!["[run]", "unknown field"]),
        ] {
            let why = read(text).unwrap_err();
            let begins = format!("/etc/qb/agent.toml line {line}: ");
            assert!(why.starts_with(&begins), "{text:?}: {why}");
            assert!(why.contains("qb-agent run --help") && !why.contains('\n'), "{why}");
            for part in parts {
                assert!(why.contains(part), "{text:?}: {part:?} is not in {why}");
            }
        }
        assert!(parse(Path::new("x"), &[0xff]).is_err());
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        for (text, part) in [
            ("relay_proxy_auth = \"/x\"", "relay-proxy"),
            ("relay_ca = \"/x\"\nrelay_outer_tls = \"any\"", "give one of them"),
            ("address = \"0.0.0.0\"", "not 0.0.0.0"),
            ("address = \"::\"", "not 0.0.0.0"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn an_error_shows_no_password() {
        let why = read("relay_prxy = \"http://mira:hunter2@proxy:3128\"").unwrap_err();
        assert!(why.contains("relay_prxy") && !why.contains("hunter2"), "{why}");
    }

    #[test]
    fn what_is_given_wins_over_the_file() {
        let given = Options { mesh_port: Some(1), ..Options::default() };
        let below = read("mesh_port = 2\napi_port = 3\nzone = \"r1\"").unwrap();
        let config = given.over(below).at("10.0.0.1".parse().unwrap(), None);
        assert_eq!((config.mesh_port, config.api_port, config.knock_port), (1, 3, KNOCK_PORT));
        assert_eq!((config.zone.as_str(), config.state.as_path()), ("r1", Path::new(STATE)));
    }

    #[test]
    fn the_socket_lies_where_the_system_made_room() {
        let at = |socket: Option<&str>, runtime: Option<&str>| {
            let options = Options { socket: socket.map(Into::into), ..Options::default() };
            options.at("10.0.0.1".parse().unwrap(), runtime.map(Path::new)).socket
        };
        assert_eq!(at(None, None), Path::new("/var/lib/qb/agent/agent.sock"));
        assert_eq!(at(None, Some("/run/qb/agent")), Path::new("/run/qb/agent/agent.sock"));
        assert_eq!(at(Some("/x"), Some("/run/qb/agent")), Path::new("/x"));
    }
}
