//! Real Kubernetes for the laboratory: programs, images and the folder that a bundle is made from.
//!
//! ```text
//!                 folder.rs            bin/ cni/ images/ manifests/ of one version
//!                /         \
//!          images.rs     source.rs     what goes into which image; the programs, built from source
//!           /      \         |
//!     image.rs  closure.rs   |         a docker archive, byte for byte the same each time; shared libraries
//!                     \      |
//!                     debian.rs        packages and sources of Debian's, from the mirror that apt uses here
//! ```
//!
//! Debian 12 has Kubernetes 1.20.2 as a source package, and containerd, runc, CNI plugins and etcd as binary
//! packages. Nothing is installed on this machine, nothing comes from a registry of images, and everything is
//! made once and kept in the laboratory's cache. The second version is the same source under another name.

mod closure;
mod debian;
mod folder;
mod image;
mod images;
mod source;

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::lab::Place;

pub use folder::ensure_folder;
pub use images::WEB;

/// A version that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, ValueEnum)]
pub enum Version {
    /// What Debian 12's source package holds
    #[default]
    #[value(name = "v1.20.2")]
    First,
    /// The same source, called the next version: for upgrades
    #[value(name = "v1.20.3")]
    Second,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "v1.20.2",
            Self::Second => "v1.20.3",
        })
    }
}

/// Where all of this lies, beside the root trees.
fn dir(place: &Place) -> PathBuf {
    place.cache.join("kubernetes")
}
