//! The segment that hosts are on: a bridge in a namespace, a card for each host, and its faults.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::faults::{BRIDGE, Faults, port};
use super::place::{MACHINE, NET, Place, address};
use super::system::{lock, tool};

/// Where named namespaces are.
const NAMED: &str = "/run/netns";

/// The path of a namespace.
pub(super) fn path(net: &str) -> PathBuf {
    Path::new(NAMED).join(net)
}

/// The laboratory's namespaces that have a name.
pub(super) fn named(place: &Place) -> Vec<String> {
    // Without the folder, no namespace has a name.
    let Ok(entries) = fs::read_dir(NAMED) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| place.owns_net(name)).collect()
}

/// Makes the segment, if there is none.
pub(super) fn make(place: &Place) -> Result<()> {
    let _alone = lock(&place.dir.join("net.lock"))?;
    let net = place.net();
    if path(&net).exists() {
        if tool("ip", ["-n", &net, "link", "show", BRIDGE], "").is_ok() {
            return Ok(());
        }
        // Whoever made it was killed before it was whole.
        remove_net(&net)?;
    }
    tool("ip", ["netns", "add", &net], "").context("cannot make a network namespace")?;
    ip(
        &net,
        &format!(
            "link set lo up\nlink add {BRIDGE} address {} type bridge stp_state 0 forward_delay 0\naddr add {}/24 dev {BRIDGE}\n",
            // Of its own: a bridge without one takes a port's, and another's when that port goes.
            mac(MACHINE),
            address(MACHINE)
        ),
    )?;
    // Frames between hosts are no business of this kernel's IP filters. The switches are there only if
    // the kernel has such a filter.
    let quiet = "for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do [ ! -e $f ] || echo 0 >$f; done";
    tool("nsenter", [&within(&net), "sh", "-c", quiet], "")?;
    ip(&net, &format!("link set {BRIDGE} up\n"))?;
    apply(place, &read(place)?)
}

/// Gives a host a card and an address, new ones: connections of an earlier boot are forgotten.
pub(super) fn connect(place: &Place, host: u8) -> Result<()> {
    disconnect(place, host)?;
    let (net, own, port) = (place.net(), place.host_net(host), port(host));
    tool("ip", ["netns", "add", &own], "")?;
    // The same card at every boot, or neighbours would send to the old one for a while.
    let mac = mac(host);
    ip(
        &net,
        &format!(
            "link add {port} type veth peer name eth0 address {mac} netns {own}\nlink set {port} master {BRIDGE}\n"
        ),
    )?;
    let (own_address, gateway) = (address(host), address(MACHINE));
    ip(
        &own,
        &format!(
            "link set lo up\naddr add {own_address}/24 dev eth0\nlink set eth0 up\nroute add default via {gateway}\n"
        ),
    )?;
    if !read(place)?.unplugged.contains(&host) {
        plug(place, host, true)?;
    }
    Ok(())
}

fn mac(number: u8) -> String {
    let [a, b, c] = NET;
    format!("02:{a:02x}:{b:02x}:{c:02x}:00:{number:02x}")
}

/// Takes a host's card away.
pub(super) fn disconnect(place: &Place, host: u8) -> Result<()> {
    let (net, own) = (place.net(), place.host_net(host));
    if path(&net).exists() && tool("ip", ["-n", &net, "link", "show", &port(host)], "").is_ok() {
        // By name and before the namespace: the kernel gives a namespace's cards back only later.
        tool("ip", ["-n", &net, "link", "del", &port(host)], "")?;
    }
    remove_net(&own)
}

/// Removes a namespace, if it is there.
pub(super) fn remove_net(net: &str) -> Result<()> {
    if path(net).exists() {
        tool("ip", ["netns", "del", net], "")?;
    }
    Ok(())
}

fn plug(place: &Place, host: u8, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    ip(&place.net(), &format!("link set {} {state}\n", port(host)))
}

/// What is wrong at present.
pub(super) fn read(place: &Place) -> Result<Faults> {
    let path = place.dir.join("faults.json");
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Faults::default()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Changes what is wrong, in force when this returns.
pub(super) fn change(place: &Place, edit: impl FnOnce(&mut Faults)) -> Result<()> {
    ensure!(path(&place.net()).exists(), "the laboratory {} is not up: qb-lab up", place.name);
    let _alone = lock(&place.dir.join("net.lock"))?;
    let before = read(place)?;
    let mut faults = before.clone();
    edit(&mut faults);
    apply(place, &faults)?;
    for host in before.unplugged.symmetric_difference(&faults.unplugged) {
        // A host that is off has no card; it gets one as it is plugged then.
        if path(&place.host_net(*host)).exists() {
            plug(place, *host, !faults.unplugged.contains(host))?;
        }
    }
    let (to, new) = (place.dir.join("faults.json"), place.dir.join("faults.new"));
    fs::write(&new, serde_json::to_vec(&faults)?)
        .with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, &to).with_context(|| format!("cannot write {}", to.display()))
}

fn apply(place: &Place, faults: &Faults) -> Result<()> {
    tool("nsenter", [&within(&place.net()), "nft", "-f", "-"], &faults.filter()).map(drop)
}

fn ip(net: &str, batch: &str) -> Result<()> {
    tool("ip", ["-n", net, "-batch", "-"], batch).map(drop)
}

/// The option of `nsenter` that enters a namespace.
pub(super) fn within(net: &str) -> String {
    format!("--net={NAMED}/{net}")
}
