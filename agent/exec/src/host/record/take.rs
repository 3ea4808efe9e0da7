//! Looks at the host.

use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use qb_model::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::mounts::{self, MOUNTS_BYTES, Mount};
use super::{Kind, Record};
use crate::host::Host;
use crate::host::clean::places::{self, UNITS};
use crate::host::clean::processes;
use crate::host::network::kernel::{Kernel, Link, Route};
use crate::host::network::{self, saved, tables};
use crate::host::run::{Call, Program, SystemProgram};
use crate::progress::StepError;

/// Bytes of a file of systemd's configuration, a kernel setting or a link's target.
const FILE_BYTES: u64 = 256 * 1024;
/// Bytes of the list of modules.
const MODULES_BYTES: u64 = 4 << 20;
/// How deep systemd's configuration goes: `NAME.service.d/FILE`, `NAME.target.wants/LINK`.
const UNIT_DEPTH: usize = 3;
/// Files of systemd's configuration that are looked at: far more than a host has.
const UNIT_FILES: usize = 16_384;

/// The host as it is now.
pub(crate) async fn take(host: &Host) -> Result<Record, StepError> {
    let mut record = Record::new();
    links(&mut record).await?;
    filters(host, &mut record).await?;
    let root = host.root.path();
    files(root, &mut record)?;
    let mounts = mounted(root)?.into_iter();
    let mounts = mounts.filter_map(|m| Some((m.below(root)?.display().to_string(), m.kind)));
    record.put(Kind::Mount, mounts, |point, _| places::is_our_mount(Path::new(point)));
    let found = processes::find(root, host.dir.path())?.into_iter();
    record.put(Kind::Process, found.map(|p| (p.pid.to_string(), p.program)), |_, _| true);
    record.put(Kind::Module, modules(root)?, |_, _| false);
    Ok(record)
}

/// What is seen in files: settings, units, places.
pub(crate) fn files(root: &Path, record: &mut Record) -> Result<(), StepError> {
    record.put(Kind::Sysctl, sysctls(root), |_, _| true);
    record.put(Kind::Unit, units(root)?, |name, _| places::is_our_unit(name));
    record.put(Kind::Path, paths(root)?, |_, _| true);
    Ok(())
}

async fn links(record: &mut Record) -> Result<(), StepError> {
    let kernel = Kernel::connect()?;
    let links = kernel.links().await?;
    let name = |index: Option<u32>| {
        let link = links.iter().find(|link| Some(link.index) == index);
        link.map_or_else(|| "none".to_owned(), |link| link.name.clone())
    };
    let one = |link: &Link| {
        let master = link.master.map(|index| format!(" of {}", name(Some(index)))).unwrap_or_default();
        (link.name.clone(), format!("{}{master}", link.kind))
    };
    record.put(Kind::Link, links.iter().map(one), places::is_our_link);
    // Those that a link gives itself come and go with it.
    let addresses = kernel.addresses().await?.into_iter().filter(|(_, address, _)| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    });
    let addresses = addresses.map(|(link, address, bits)| (format!("{address}/{bits}"), name(Some(link))));
    record.put(Kind::Address, addresses, |_, link| places::is_our_link(link, ""));
    let routes = kernel.routes().await?;
    let routes = routes.iter().filter(|route| {
        let own = |address: IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        !own(route.to.0)
    });
    let routes = routes.map(|route| {
        let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
        let (to, bits) = route.to;
        (
            format!("{to}/{bits}{via} dev {}", name(route.link)),
            is_our_route(route, &name(route.link)).to_string(),
        )
    });
    record.put(Kind::Route, routes, |_, ours| ours == "true");
    Ok(())
}

/// By its mark or its link: which networks a cluster had is forgotten by the time that its host is compared.
fn is_our_route(route: &Route, link: &str) -> bool {
    route.ours || places::is_our_link(link, "")
}

async fn filters(host: &Host, record: &mut Record) -> Result<(), StepError> {
    let (mut chains, mut rules) = (Vec::new(), Vec::new());
    for filter in network::filters(host) {
        let family = filter.name;
        let tables = saved(host, filter.save).await?;
        for table in &tables {
            let ours = table.ours().into_iter();
            chains.extend(ours.map(|chain| (format!("{family} {} {chain}", table.name), String::new())));
            for jump in table.jumps() {
                let name = format!("{family} {} {} {}", table.name, jump.chain, jump.text);
                chains.push((name, "leads to one".to_owned()));
            }
        }
        rules.push((family.to_owned(), tables::foreign(&tables)));
    }
    record.put(Kind::Chain, chains, |_, _| true);
    record.put(Kind::Rules, rules, |_, _| true);
    record.put(Kind::Table, nft_tables(host).await?, |name, _| places::is_our_table(name));
    Ok(())
}

/// Names of nftables' tables, if the host has that program. The tables by which iptables works are known
/// by their rules.
pub(crate) async fn nft_tables(host: &Host) -> Result<Vec<(String, String)>, StepError> {
    let nft = Call::new(Program::System(SystemProgram::Nft), ["list", "tables"]);
    if !["usr/sbin/nft", "sbin/nft"].iter().any(|path| host.root.path().join(path).is_file()) {
        return Ok(Vec::new());
    }
    let output = host.programs.run(nft).await?;
    // A kernel without nftables says so with a status: it has no tables.
    let printed = if output.is_ok() { output.stdout } else { Vec::new() };
    let text = String::from_utf8_lossy(&printed).into_owned();
    let tables = text.lines().filter_map(|line| line.trim().strip_prefix("table ").map(str::to_owned));
    Ok(tables.map(|table| (table, String::new())).collect())
}

/// A kernel setting; none if this kernel does not have it.
pub(crate) fn sysctl(root: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/sys").join(key.replace('.', "/"))).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn sysctls(root: &Path) -> Vec<(String, String)> {
    let value = |key: &str| sysctl(root, key).map(|value| (key.to_owned(), value));
    places::SYSCTLS.iter().filter_map(|key| value(key)).collect()
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> StepError {
    let path = path.display().to_string();
    move |error| StepError::disk(path, &error)
}

/// Reads at most so much.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("larger than {most} bytes")));
    }
    Ok(bytes)
}

/// Files of systemd's configuration below `/etc/systemd/system`.
fn units(root: &Path) -> Result<Vec<(String, String)>, StepError> {
    let top = root.join(UNITS);
    let (mut all, mut todo) = (Vec::new(), vec![(top.clone(), 0)]);
    while let Some((dir, depth)) = todo.pop() {
        for path in entries(&dir)? {
            let name = path.strip_prefix(&top).unwrap_or(&path).display().to_string();
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.is_dir() && depth + 1 < UNIT_DEPTH {
                todo.push((path, depth + 1));
                all.push((name, "folder".to_owned()));
            } else if meta.is_symlink() {
                let to = fs::read_link(&path).map_err(disk(&path))?;
                all.push((name, format!("-> {}", to.display())));
            } else if meta.is_file() {
                let digest = read(&path, FILE_BYTES).map(|bytes| Digest(Sha256::digest(bytes).into()));
                all.push((name, digest.map_or_else(|e| e.to_string(), |digest| digest.to_string())));
            }
            if all.len() > UNIT_FILES {
                return Err(StepError::new(
                    format!("/{UNITS} has more than {UNIT_FILES} entries"),
                    "look at what put them there; the step runs again by itself",
                ));
            }
        }
    }
    Ok(all)
}

/// Names in a directory, sorted; nothing if there is none.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, StepError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(disk(dir)(error)),
    };
    let mut all: Vec<_> =
        entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>().map_err(disk(dir))?;
    all.sort();
    Ok(all)
}

/// The standard places, and what is in each.
fn paths(root: &Path) -> Result<Vec<(String, String)>, StepError> {
    let mut all = Vec::new();
    for place in places::all() {
        let top = root.join(place);
        let listed = places::is_listed(place).then(|| entries(&top)).transpose()?.unwrap_or_default();
        for path in std::iter::once(top).chain(listed) {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let kind = match meta.file_type() {
                kind if kind.is_dir() => "folder",
                kind if kind.is_symlink() => "link",
                _ => "file",
            };
            all.push((path.strip_prefix(root).unwrap_or(&path).display().to_string(), kind.to_owned()));
        }
    }
    Ok(all)
}

/// What is mounted.
pub(crate) fn mounted(root: &Path) -> Result<Vec<Mount>, StepError> {
    let path = root.join("proc/self/mountinfo");
    let bytes = read(&path, MOUNTS_BYTES).map_err(disk(&path))?;
    mounts::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| {
        StepError::new(
            "what the kernel says of mounts is not understood",
            "look at /proc/self/mountinfo on this host",
        )
    })
}

fn modules(root: &Path) -> Result<Vec<(String, String)>, StepError> {
    let path = root.join("proc/modules");
    let text = match read(&path, MODULES_BYTES) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // A kernel without modules.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(disk(&path)(error)),
    };
    let names = text.lines().filter_map(|line| line.split(' ').next());
    Ok(names.map(|name| (name.to_owned(), String::new())).collect())
}
