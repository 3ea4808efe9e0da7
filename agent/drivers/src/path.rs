//! A path inside the cluster's directory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Longest path. Far below `PATH_MAX`, so that the node's own directory fits in front of it.
const PATH_BYTES: usize = 255;
/// Deepest path. Nothing that a driver writes needs more.
const PATH_DEPTH: usize = 8;

/// Why a text is not a path inside the cluster's directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a clean relative path: use a-z, A-Z, 0-9, . _ - between single slashes, no part . or .."
)]
pub struct PathError(pub String);

/// A relative path without `.`, `..`, empty parts or any character that needs quoting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RelPath(String);

impl RelPath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts, first to last.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The path of `name` below this one.
    ///
    /// # Errors
    /// If the result is not clean, too long or too deep.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        format!("{}/{name}", self.0).parse()
    }
}

impl FromStr for RelPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let clean = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed);
        let ok =
            text.len() <= PATH_BYTES && text.split('/').count() <= PATH_DEPTH && text.split('/').all(clean);
        if ok { Ok(Self(text.to_owned())) } else { Err(PathError(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::RelPath;

    #[test]
    fn only_clean_relative_paths_parse() {
        for good in ["a", "pki/ca.key", "bundle/sha256-00ff/units/api-server.json", "a..b", ".a"] {
            assert!(good.parse::<RelPath>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        let bad = [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a b",
            "a\0b",
            "a\\b",
            "a\n",
            "~",
            "$(x)",
            "a/b/c/d/e/f/g/h/i",
            long.as_str(),
            "ä",
        ];
        for bad in bad {
            assert!(bad.parse::<RelPath>().is_err(), "{bad:?}");
        }
    }
}
