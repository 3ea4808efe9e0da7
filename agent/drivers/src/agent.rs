//! Bundles of the agent itself: its two programs for one architecture, and the versions below which a
//! node does not go back.
//!
//! The manifest's `driver` and `name` are `agent`; the artifacts are `qb-agent` and `qb-exec`, each an
//! ELF executable packed with gzip. Signed, named by digest and carried like every other bundle.

use std::io::{self, Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use qb_model::agent_order::AgentOrder;
use qb_model::ids::{Digest, IdError, Millis, Name, PublicKey, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::bundle::{
    Artifact, ArtifactKind, BundleError, Label, Manifest, Tally, Unsigned, VerifiedHead, limits::RATIO,
};

/// The driver word of such a bundle, and its name.
pub const AGENT: &str = "agent";
/// The artifacts, in their order: the agent, and the executor.
pub const PROGRAMS: [&str; 2] = ["qb-agent", "qb-exec"];
/// Bytes of one program unpacked: three times what a release has.
pub const PROGRAM_BYTES: u64 = 64 << 20;
/// Versions that are remembered: a publisher for each of the site's, twice.
const FLOORS: usize = 64;

/// The two programs that a bundle is made of, as their files are.
#[derive(Debug, Clone, Copy)]
pub struct Programs<'a> {
    /// `qb-agent`.
    pub agent: &'a [u8],
    /// `qb-exec`.
    pub exec: &'a [u8],
}

/// Builds a bundle of the agent, unsigned: manifest and table, for a publisher to sign, and the
/// artifacts' bytes, which follow. `min_agent` is the oldest agent that can carry out the upgrade to it.
///
/// # Errors
/// A program is none, is too large, or the two are for different machines.
pub fn build_agent_bundle(
    version: &Version,
    min_agent: &Version,
    created_ms: Millis,
    programs: &Programs<'_>,
) -> Result<(Unsigned, Vec<u8>), BundleError> {
    let name = |text: &str| text.parse::<Name>().map_err(rule);
    let [agent, exec] = PROGRAMS;
    let arch = elf_arch(agent, programs.agent)?;
    if elf_arch(exec, programs.exec)? != arch {
        let why = format!("is not for {arch}, as {agent} is");
        return Err(BundleError::Program { name: exec.to_owned(), why });
    }
    let (mut tally, mut bytes) = (Tally::default(), Vec::new());
    for (program, file) in [(agent, programs.agent), (exec, programs.exec)] {
        let broken = |_| BundleError::Rule("a program cannot be packed");
        let packed = pack(file).map_err(broken)?;
        let unpacked = Some(file.len() as u64);
        tally.add(name(program)?, ArtifactKind::Program, unpacked, &mut packed.as_slice()).map_err(broken)?;
        bytes.extend_from_slice(&packed);
    }
    let label = Label {
        name: name(AGENT)?,
        driver: name(AGENT)?,
        version: version.clone(),
        channel: name("stable")?,
        arch: arch.to_owned(),
        created_ms,
        min_agent: min_agent.clone(),
    };
    Ok((tally.finish(label)?, bytes))
}

fn rule(_: IdError) -> BundleError {
    BundleError::Rule("a name breaks its rule")
}

/// Without time and name in its head, so that the same file gives the same bytes.
fn pack(file: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(file)?;
    packer.finish()
}

/// The architecture of an ELF executable, as manifests name it.
///
/// # Errors
/// [`BundleError::Program`] for anything else.
pub fn elf_arch(name: &str, file: &[u8]) -> Result<&'static str, BundleError> {
    let fail = |why: String| Err(BundleError::Program { name: name.to_owned(), why });
    if file.len() as u64 > PROGRAM_BYTES {
        return fail(format!("has {} bytes, at most {PROGRAM_BYTES} are taken", file.len()));
    }
    // e_ident: magic, 64 bits, little endian; then e_type and e_machine.
    let Some((head, _)) = file.split_first_chunk::<20>() else { return fail("is no ELF file".into()) };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return fail("is no ELF file of 64 bits, little endian".into());
    }
    if !matches!(u16::from_le_bytes([head[16], head[17]]), 2 | 3) {
        return fail("is no executable".into());
    }
    match u16::from_le_bytes([head[18], head[19]]) {
        62 => Ok("x86_64"),
        183 => Ok("aarch64"),
        machine => fail(format!("is for machine {machine}")),
    }
}

/// The host that a bundle is to fit.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// Its architecture, as `std::env::consts::ARCH` says it.
    pub arch: &'a str,
    /// The version of the agent that runs.
    pub agent: &'a Version,
}

/// The verified head of an agent's bundle that fits an order and a host. Made by [`AgentBundle::fit`] only.
#[derive(Debug, Clone)]
pub struct AgentBundle {
    head: VerifiedHead,
}

impl AgentBundle {
    /// Checks that a bundle is the ordered one, of the ordered version, an agent's, for this host, and
    /// not below a floor.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fit(
        head: VerifiedHead,
        order: &AgentOrder,
        host: &Host<'_>,
        floors: &VersionFloors,
    ) -> Result<Self, BundleError> {
        head.is(&order.bundle)?;
        let manifest = head.manifest();
        let unfit = |have: String, want: String| Err(BundleError::Unfit { have, want });
        check_form(manifest)?;
        if manifest.version != order.version {
            return unfit(format!("version {}", manifest.version), format!("{}", order.version));
        }
        if manifest.arch != host.arch {
            return unfit(format!("for {}", manifest.arch), host.arch.to_owned());
        }
        if host.agent.precedence(&manifest.min_agent).is_lt() {
            let have = format!("for agents from {} on", manifest.min_agent);
            return unfit(have, format!("one for agent {}", host.agent));
        }
        floors.check(&head.publisher(), manifest)?;
        Ok(Self { head })
    }

    /// What it is and who signed it.
    pub fn head(&self) -> &VerifiedHead {
        &self.head
    }
}

/// The form of an agent's manifest: what `qb` checks before it pushes one, too.
///
/// # Errors
/// What breaks the form.
pub fn check_form(manifest: &Manifest) -> Result<(), BundleError> {
    if manifest.driver.as_str() != AGENT || manifest.name.as_str() != AGENT {
        return Err(BundleError::Unfit {
            have: format!("of driver {}", manifest.driver),
            want: format!("one of {AGENT}"),
        });
    }
    if !manifest.artifacts.iter().map(|a| a.name.as_str()).eq(PROGRAMS) {
        return Err(BundleError::Rule("its artifacts are not qb-agent and qb-exec"));
    }
    for artifact in &manifest.artifacts {
        if artifact.kind != ArtifactKind::Program {
            return Err(BundleError::Rule("an artifact is no program"));
        }
        if artifact.unpacked > PROGRAM_BYTES || artifact.unpacked > artifact.size.saturating_mul(RATIO) {
            return Err(BundleError::Rule("a program would be too large"));
        }
    }
    Ok(())
}

/// Unpacks a program and gives the digest of what was written, to compare with before it is started.
/// It must have exactly the size that the manifest declares; nothing behind it is read.
///
/// # Errors
/// It is damaged or of another size, or cannot be written.
pub fn unpack_program(
    artifact: &Artifact,
    packed: &mut dyn io::Read,
    to: &mut dyn io::Write,
) -> io::Result<Digest> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut file = GzDecoder::new(packed).take(artifact.unpacked.saturating_add(1));
    let (mut hash, mut had) = (Sha256::new(), 0u64);
    let mut part = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            break;
        }
        had += read as u64;
        if had > artifact.unpacked {
            return Err(damaged("the program is larger than declared"));
        }
        hash.update(&part[..read]);
        to.write_all(&part[..read])?;
    }
    if had != artifact.unpacked {
        return Err(damaged("the program is smaller than declared"));
    }
    Ok(Digest(hash.finalize().into()))
}

/// The newest version of a bundle that was installed, by publisher, name and channel. By publisher, so
/// that a stolen key which signs 99.0.0 stands in nobody's way once it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionFloor {
    /// The publisher's key.
    pub publisher: PublicKey,
    /// The bundle's name.
    pub name: Name,
    /// Its channel.
    pub channel: Name,
    /// The version.
    pub version: Version,
}

/// All of them, as an executor keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionFloors(Vec<VersionFloor>);

impl VersionFloors {
    /// Whether a bundle of this publisher may be installed: not older than one that was.
    ///
    /// # Errors
    /// [`BundleError::Unfit`] with the version that is the least.
    pub fn check(&self, publisher: &PublicKey, manifest: &Manifest) -> Result<(), BundleError> {
        match self.find(publisher, manifest) {
            Some(at) if manifest.version.precedence(&self.0[at].version).is_lt() => Err(BundleError::Unfit {
                have: format!("version {}", manifest.version),
                want: format!("{} or newer, since that was installed before", self.0[at].version),
            }),
            _ => Ok(()),
        }
    }

    /// Remembers that a bundle runs well.
    pub fn raise(&mut self, publisher: &PublicKey, manifest: &Manifest) {
        let new = VersionFloor {
            publisher: *publisher,
            name: manifest.name.clone(),
            channel: manifest.channel.clone(),
            version: manifest.version.clone(),
        };
        match self.find(publisher, manifest) {
            Some(at) if new.version.precedence(&self.0[at].version).is_lt() => {}
            Some(at) => self.0[at] = new,
            None => {
                // The oldest is the least likely to matter: its publisher has signed nothing for long.
                if self.0.len() >= FLOORS {
                    self.0.remove(0);
                }
                self.0.push(new);
            }
        }
    }

    fn find(&self, publisher: &PublicKey, manifest: &Manifest) -> Option<usize> {
        self.0.iter().position(|f| {
            f.publisher == *publisher && f.name == manifest.name && f.channel == manifest.channel
        })
    }
}
