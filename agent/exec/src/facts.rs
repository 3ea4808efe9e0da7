//! Gathers what this machine is. No judgement here.

use std::net::IpAddr;
use std::path::Path;

use qb_model::facts::Facts;
use qb_model::ids::HostName;

/// Why facts could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The machine's name is not a host name.
    #[error(
        "this machine is called {0:?}, which is not a host name: `hostnamectl set-hostname NAME`, or `host` in the agent's configuration"
    )]
    Host(String),
    /// The state directory's file system does not answer.
    #[error("the file system of {path} does not answer: {source}; check that it is mounted")]
    Disk {
        /// The directory.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What the agent's configuration says of its machine.
#[derive(Debug, Clone, Copy)]
pub struct FactsConfig<'a> {
    /// The address that the agent listens on.
    pub address: IpAddr,
    /// Failure domain; empty if not known.
    pub zone: &'a str,
    /// The agent's state directory.
    pub state_dir: &'a Path,
    /// A host name instead of the machine's own, where several agents share one machine.
    pub host: Option<&'a HostName>,
    /// Version of the agent.
    pub agent: &'a str,
}

/// Gathers what this machine is.
///
/// # Errors
/// If it has no usable name or its state directory cannot be looked at.
pub fn gather_facts(config: FactsConfig<'_>) -> Result<Facts, FactsError> {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let host = match config.host {
        Some(host) => host.clone(),
        None => {
            let name = text(system.nodename()).to_ascii_lowercase();
            name.parse().map_err(|_| FactsError::Host(name))?
        }
    };
    let disk = rustix::fs::statvfs(config.state_dir).map_err(|errno| FactsError::Disk {
        path: config.state_dir.display().to_string(),
        source: errno.into(),
    })?;
    Ok(Facts {
        host,
        addresses: vec![config.address.to_string()],
        cores: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(&read("/proc/meminfo")),
        disk_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        disk_free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        os: pretty_name(&read("/etc/os-release")),
        kernel: text(system.release()),
        arch: text(system.machine()),
        agent: config.agent.to_owned(),
        zone: config.zone.to_owned(),
    })
}

/// A system file; empty if it is not there, as in a bare container.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `MemTotal:  16384256 kB`.
fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")).and_then(|n| n.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"`.
fn pretty_name(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim().trim_matches('"').chars().filter(|c| !c.is_control()).take(80).collect()
}

/// What a driver asks of the ground under it: the version of the control groups, and whether the machine
/// is itself a container.
pub(crate) fn ground(root: &Path) -> (Option<u8>, bool) {
    // The second version has this file at its root; mixed hosts have the first one's controllers.
    let second = root.join("sys/fs/cgroup/cgroup.controllers").exists();
    // systemd writes down what kind of container it is in.
    let nested = root.join("run/systemd/container").exists();
    (Some(if second { 2 } else { 1 }), nested)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let name: HostName = "lyon-r1-01".parse().unwrap();
        let facts = gather_facts(FactsConfig {
            address: "127.0.1.1".parse().unwrap(),
            zone: "rack-1",
            state_dir: Path::new("/tmp"),
            host: Some(&name),
            agent: "0.1.0",
        })
        .unwrap();
        assert_eq!(facts.host, name);
        assert!(facts.cores > 0 && facts.memory_bytes > 0 && facts.disk_bytes > facts.disk_free_bytes / 2);
    }

    #[test]
    fn system_files_are_read_as_they_are() {
        assert_eq!(memory_bytes("MemTotal:       16384256 kB\nMemFree: 1 kB\n"), 16_777_478_144);
        assert_eq!(memory_bytes("nothing"), 0);
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(pretty_name(""), "Linux");
    }
}
