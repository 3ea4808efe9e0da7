//! A door: where the API is reached.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The socket of an agent on this computer.
pub const LOCAL: &str = "/run/qb/agent.sock";

/// `unix:/path` or `https://ip:port`. Agents are known by key, so no name is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Door {
    /// The socket of an agent on this computer.
    Unix(PathBuf),
    /// An agent's address.
    Https(SocketAddr),
}

impl Door {
    /// The door of the agent on this computer.
    pub fn local() -> Self {
        Self::Unix(PathBuf::from(LOCAL))
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https(address) => write!(f, "https://{address}"),
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
        if let Some(rest) = text.strip_prefix("https://") {
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            let address =
                rest.parse().map_err(|_| fail("https:// takes ip:port, as https://10.20.1.11:8443"))?;
            return Ok(Self::Https(address));
        }
        if text.starts_with("http://") {
            return Err(fail("doors speak https; what is signed could be read on the way otherwise"));
        }
        Err(fail("unix:/path or https://ip:port"))
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
