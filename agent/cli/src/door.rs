//! A door: where the API is reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The socket of an agent on this computer.
pub const LOCAL: &str = "/run/qb/agent/agent.sock";

/// `unix:/path`, `https://ip:port` or `relay:https://host`. Agents are known by key, so no name is
/// resolved for them; a relay's name is resolved, and its certificate must be good for it. What is
/// what is said by the text itself: an address alone could be either.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Door {
    /// The socket of an agent on this computer.
    Unix(PathBuf),
    /// An agent's address.
    Https(SocketAddr),
    /// A relay's address.
    Relay(RelayUrl),
}

impl Door {
    /// The door of the agent on this computer.
    pub fn local() -> Self {
        Self::Unix(PathBuf::from(LOCAL))
    }

    /// What the header `Host` says there.
    pub fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Https(address) => address.to_string(),
            Self::Relay(url) => url.authority(),
        }
    }

    /// The origin that a login there is signed for: what was connected to, never what a door says.
    pub fn origin(&self) -> String {
        match self {
            Self::Unix(_) => self.to_string(),
            Self::Https(address) => format!("https://{address}"),
            Self::Relay(url) => url.to_string(),
        }
    }

    /// The relay, if it is one.
    pub fn relay(&self) -> Option<&RelayUrl> {
        match self {
            Self::Relay(url) => Some(url),
            Self::Unix(_) | Self::Https(_) => None,
        }
    }
}

/// The address of a relay, `https://host[:port]`, or `http://` on this very machine for development.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayUrl {
    tls: bool,
    host: String,
    port: u16,
}

impl RelayUrl {
    /// Whether TLS is spoken.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as browsers write them: a port that goes without saying is left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl FromStr for RelayUrl {
    type Err = DoorError;
    fn from_str(text: &str) -> Result<Self, DoorError> {
        let fail = |rule| DoorError { text: text.chars().take(80).collect(), rule };
        let lower = text.to_ascii_lowercase();
        let (tls, rest) = match (lower.strip_prefix("https://"), lower.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(fail("a relay goes by https://host or https://host:port")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let uri: hyper::http::uri::Authority =
            rest.parse().map_err(|_| fail("a relay goes by https://host or https://host:port"))?;
        let bare = !uri.as_str().contains(['@', '/', '?', '#']) && !uri.host().is_empty();
        if !bare || (uri.as_str() != uri.host() && uri.port_u16().is_none_or(|port| port == 0)) {
            return Err(fail("a relay's address is a host and a port, and nothing else"));
        }
        let host = uri.host().trim_matches(['[', ']']).to_owned();
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !tls && !local {
            return Err(fail("a relay elsewhere speaks https; http:// is for this very machine"));
        }
        Ok(Self { tls, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }), host })
    }
}

impl Serialize for RelayUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RelayUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https(address) => write!(f, "https://{address}"),
            Self::Relay(url) => write!(f, "relay:{url}"),
        }
    }
}

/// Why a text is not a door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a door: {rule}")]
pub struct DoorError {
    text: String,
    rule: &'static str,
}

impl FromStr for Door {
    type Err = DoorError;
    fn from_str(text: &str) -> Result<Self, DoorError> {
        let fail = |rule| DoorError { text: text.chars().take(80).collect(), rule };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            // A socket's address holds 108 bytes.
            if !path.is_absolute() || path.as_os_str().len() > 107 {
                return Err(fail("unix: takes an absolute path of at most 107 bytes"));
            }
            return Ok(Self::Unix(path));
        }
        if let Some(url) = text.strip_prefix("relay:") {
            return url.parse().map(Self::Relay);
        }
        if let Some(rest) = text.strip_prefix("https://") {
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            let address = rest.parse().map_err(|_| {
                fail("an agent goes by ip:port, as https://10.20.1.11:8443; a relay by relay:https://HOST")
            })?;
            return Ok(Self::Https(address));
        }
        if text.starts_with("http://") {
            return Err(fail("doors speak https; what is signed could be read on the way otherwise"));
        }
        Err(fail("unix:/path, https://ip:port or relay:https://host"))
    }
}

impl Serialize for Door {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Door {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
