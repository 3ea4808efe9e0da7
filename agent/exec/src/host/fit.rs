//! Whether a host can carry a real cluster: not one that somebody else's Kubernetes lives on, nor one
//! that lacks programs which only its distribution has.

use qb_drivers::RelPath;
use qb_drivers::host_step::HostUnit;

use super::Host;
use super::ours::Ours;
use super::place::clean;
use crate::progress::StepError;

/// How the host was before: where it is there, this cluster came so far here.
const RECORD: &str = "record.json";
/// Programs that kubelet and kubeadm start, with the packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("conntrack", "conntrack (conntrack-tools on RHEL)"),
    ("ip", "iproute2 (iproute on RHEL)"),
    ("iptables", "iptables"),
    ("mount", "mount (util-linux on RHEL)"),
    ("nsenter", "util-linux"),
    ("umount", "mount (util-linux on RHEL)"),
];
const FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];
const KUBERNETES: &str = "etc/kubernetes";
const ETCD: &str = "var/lib/etcd";

/// Looks; there is nothing to bring about.
pub(super) async fn check(host: &Host) -> Result<bool, StepError> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(name, _)| !has_program(host, name)).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
        let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
        return Err(StepError::new(
            format!("this machine has no {}", names.join(", no ")),
            format!("install of its distribution: {}; the step is tried again", packages.join(", ")),
        ));
    }
    units(host).await?;
    if !is_ours(host)? {
        for folder in [KUBERNETES, ETCD] {
            if !is_empty(host, folder)? {
                return Err(StepError::new(
                    format!(
                        "/{folder} of this machine is not empty, and nothing of it is of {}",
                        host.cluster
                    ),
                    format!(
                        "if no other Kubernetes lives here, move it away (`mv /{folder} /root/`); the step is tried again"
                    ),
                ));
            }
        }
    }
    Ok(true)
}

fn has_program(host: &Host, name: &str) -> bool {
    FOLDERS.iter().any(|folder| host.root.path().join(folder).join(name).is_file())
}

/// Whether this cluster was on this machine before, as far as to write down how it was.
fn is_ours(host: &Host) -> Result<bool, StepError> {
    let at = clean(RECORD)?;
    Ok(host.dir.mode(&at).map_err(|e| StepError::disk(&at, &e))?.is_some())
}

async fn units(host: &Host) -> Result<(), StepError> {
    let ours = Ours::open(&host.dir, &host.root)?;
    let known: Vec<&RelPath> = ours.paths().collect();
    for unit in [HostUnit::Kubelet, HostUnit::Containerd] {
        let seen = host.units.look(unit.name()).await?;
        let file = seen.file.trim_start_matches('/');
        if !file.is_empty() && !known.iter().any(|path| path.as_str() == file) {
            return Err(StepError::new(
                format!("this machine has a {} that is not qb's: /{file}", unit.name()),
                "remove the package that brings it (`apt-get remove kubelet` or `dnf remove kubelet`), or the file if no package does; the step is tried again",
            ));
        }
    }
    Ok(())
}

/// Whether nothing but empty directories is there: a package may bring those.
fn is_empty(host: &Host, folder: &str) -> Result<bool, StepError> {
    let dir = match host.root.sub(&clean(folder)?) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        dir => dir.map_err(|e| StepError::disk(format!("/{folder}"), &e))?,
    };
    for name in dir.names().map_err(|e| StepError::disk(format!("/{folder}"), &e))? {
        match dir.sub(&name) {
            Ok(below) if below.names().is_ok_and(|names| names.is_empty()) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}
