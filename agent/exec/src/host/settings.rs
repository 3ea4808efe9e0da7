//! Modules and settings of the kernel that Kubernetes needs. After a boot the host's own files, which the
//! driver writes, bring them back.

use std::fs;
use std::path::{Path, PathBuf};

use qb_drivers::host_step::Sysctl;

use super::Host;
use super::record::take::sysctl;
use super::run::{Call, SystemProgram};
use crate::progress::StepError;

/// Bytes of a module's name or a setting's key.
const NAME_BYTES: usize = 100;

/// Whether modules are there and settings have these values.
pub(super) fn check(host: &Host, modules: &[String], sysctls: &[Sysctl]) -> Result<bool, StepError> {
    let root = host.root.path();
    for module in modules {
        if !has_module(root, clean_module(module)?) {
            return Ok(false);
        }
    }
    for one in sysctls {
        if !is_set(root, one)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Loads modules, then sets: some settings come with a module.
pub(super) async fn apply(host: &Host, modules: &[String], sysctls: &[Sysctl]) -> Result<(), StepError> {
    let root = host.root.path();
    for module in modules {
        if !has_module(root, clean_module(module)?) {
            load(host, module).await?;
        }
    }
    for one in sysctls {
        if !is_set(root, one)? {
            set(root, one)?;
        }
    }
    Ok(())
}

async fn load(host: &Host, module: &str) -> Result<(), StepError> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let folders = ["lib/modules", "usr/lib/modules"];
    if !folders.iter().any(|folder| host.root.path().join(folder).join(&release).is_dir()) {
        return Err(StepError::new(
            format!("this host's kernel {release} has no {module}, and no modules are installed for it"),
            "restart the host if its kernel was upgraded, else install the kernel package of its distribution",
        ));
    }
    let output = host.programs.run(Call::system(SystemProgram::Modprobe, [module])).await?;
    let doing = format!("modprobe {module}");
    let remedy = "install the package with all modules of this kernel (kernel-modules-extra on RHEL)";
    output.done(&doing, remedy).map(drop)
}

/// Whether the kernel has it: loaded, built in with a folder of its own, or by what it brings.
fn has_module(root: &Path, module: &str) -> bool {
    let brings = match module {
        "br_netfilter" => root.join("proc/sys/net/bridge/bridge-nf-call-iptables").exists(),
        "nf_conntrack" => root.join("proc/sys/net/netfilter/nf_conntrack_max").exists(),
        "overlay" => fs::read_to_string(root.join("proc/filesystems")).is_ok_and(|kinds| {
            kinds.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay")
        }),
        // The kernel loads it with the first such link; whether it can, the pod network's step finds out.
        "vxlan" => true,
        _ => false,
    };
    brings || root.join("sys/module").join(module.replace('-', "_")).is_dir()
}

fn clean_module(module: &str) -> Result<&str, StepError> {
    let clean = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
    // No option and no path.
    let ok = !module.is_empty()
        && module.len() <= NAME_BYTES
        && !module.starts_with('-')
        && module.bytes().all(clean);
    if ok { Ok(module) } else { Err(StepError::damaged(format!("the module {module:?}"))) }
}

/// Where a setting is; keys have dots between clean words.
fn place(root: &Path, key: &str) -> Result<PathBuf, StepError> {
    let clean = |word: &str| {
        !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
    };
    if key.len() > NAME_BYTES || !key.split('.').all(clean) {
        return Err(StepError::damaged(format!("the kernel setting {key:?}")));
    }
    Ok(root.join("proc/sys").join(key.replace('.', "/")))
}

fn is_set(root: &Path, one: &Sysctl) -> Result<bool, StepError> {
    place(root, &one.key)?;
    Ok(sysctl(root, &one.key).as_deref() == Some(one.value.trim()))
}

fn set(root: &Path, one: &Sysctl) -> Result<(), StepError> {
    let path = place(root, &one.key)?;
    fs::write(&path, &one.value).map_err(|error| {
        StepError::new(
            format!("the kernel setting {} cannot be set to {}: {error}", one.key, one.value),
            format!("`sysctl -w {}={}` on this host says why", one.key, one.value),
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_are_set_below_their_folder_only() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        fs::create_dir_all(root.join("proc/sys/net/ipv4")).unwrap();
        fs::write(root.join("proc/sys/net/ipv4/ip_forward"), "0\n").unwrap();
        let one = |key: &str, value: &str| Sysctl { key: key.to_owned(), value: value.to_owned() };
        let forward = one("net.ipv4.ip_forward", "1");
        assert!(!is_set(root, &forward).unwrap());
        set(root, &forward).unwrap();
        assert!(is_set(root, &forward).unwrap());
        for key in ["net/ipv4", "net..x", "", ".", "net.ipv4.", "a\nb", "../x"] {
            assert!(set(root, &one(key, "1")).is_err(), "{key:?}");
        }
        let error = set(root, &one("net.none.such", "1")).unwrap_err();
        assert!(error.text.contains("net.none.such") && error.remedy.contains("sysctl -w"), "{error:?}");
    }

    #[test]
    fn modules_are_known_by_what_they_bring() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        fs::create_dir_all(root.join("proc/sys/net/bridge")).unwrap();
        fs::create_dir_all(root.join("sys/module/ip_vs")).unwrap();
        fs::write(root.join("proc/filesystems"), "nodev\tsysfs\n\text4\nnodev\toverlay\n").unwrap();
        assert!(has_module(root, "overlay") && has_module(root, "ip-vs"));
        assert!(!has_module(root, "br_netfilter"));
        fs::write(root.join("proc/sys/net/bridge/bridge-nf-call-iptables"), "1").unwrap();
        assert!(has_module(root, "br_netfilter"));
        for module in ["", "-r", "a/b", "a b", "../x"] {
            assert!(clean_module(module).is_err(), "{module:?}");
        }
    }
}
