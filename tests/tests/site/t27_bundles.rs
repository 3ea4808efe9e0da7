//! A large bundle goes through a site: to those that install from it, and beside everything else.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use qb_tests::http;
use qb_tests::site::Site;
use qb_tests::views::Node;
use qb_tests::wait::eventually;

use super::{SOON, authorized, told};

/// Files without which no bundle of Kubernetes is built.
const PROGRAMS: [&str; 12] = [
    "bin/containerd",
    "bin/containerd-shim-runc-v2",
    "bin/ctr",
    "bin/etcdctl",
    "bin/kubeadm",
    "bin/kubectl",
    "bin/kubelet",
    "bin/runc",
    "cni/bridge",
    "cni/host-local",
    "cni/loopback",
    "cni/portmap",
];
/// Bytes of its largest file.
const IMAGES: usize = 96 << 20;
/// What an agent logs when it turns control away, or gives a peer up.
const TURNED_AWAY: [&str; 3] = ["stream refused", "ping failed: connection closed", "busy: "];

#[test]
fn a_large_bundle_goes_to_those_that_need_it_and_holds_nobody_up() {
    let mut fixture = authorized(34).expect("a site starts");
    let result = travels(&mut fixture.site);
    told(&fixture, result);
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("it lies somewhere")?)?;
    Ok(std::fs::write(path, bytes)?)
}

/// A folder of what looks like Kubernetes and does nothing; its images have so many bytes.
pub(super) fn folder(at: &Path, images: usize) -> Result<()> {
    for program in PROGRAMS {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        // A program that is linked dynamically, for x86-64.
        file.extend_from_slice(&[3, 0, 62, 0]);
        file.extend(program.bytes().cycle().take(20_000));
        write(&at.join(program), &file)?;
    }
    let images: Vec<u8> = (0..images).map(|n| (n ^ (n >> 8) ^ (n >> 20)) as u8).collect();
    write(&at.join("images/pause.tar"), &images)
}

fn holds(site: &mut Site, node: &str, digest: &str) -> Result<bool> {
    let state = site.agent(node)?.state.join("blobs");
    Ok(state.join(format!("{digest}.qbb")).exists())
}

fn travels(site: &mut Site) -> Result<()> {
    let (from, file) = (site.dir.join("files"), site.dir.join("k8s.qbb"));
    folder(&from, IMAGES)?;
    let (from, file) = (from.to_string_lossy().into_owned(), file.to_string_lossy().into_owned());
    let build =
        ["bundle", "build", "--driver", "kubeadm", "--version", "1.36.2", "--from", &from, "-o", &file];
    let digest = site.qb.ok(&build)?.stdout.trim().to_owned();
    let key = site.qb.ok(&["key", "export-public", "lyon-publisher"])?.stdout;
    let door = format!("unix:{}", site.agent("node-1")?.socket().display());
    let refused = site.qb.run(&["--door", &door, "bundle", "push", &file])?;
    ensure!(refused.code != 0 && refused.stderr.contains("qb bundle trust NAME KEY"), "{}", refused.stderr);
    site.qb.ok(&["bundle", "trust", "acme", key.trim(), "-y"])?;
    site.qb.ok(&["--door", &door, "bundle", "push", &file])?;
    site.qb.ok(&["cluster", "create", "clus100", "--driver", "kubeadm", "--version", "1.36.2", "-y"])?;
    site.qb.ok(&["cluster", "attach", "clus100", "node-2", "node-3", "node-4", "-y", "--no-wait"])?;

    // While it travels, every door answers with the board that voters hold, and the log goes on.
    let mut asked = 0;
    eventually(3 * SOON, "the members hold the bundle", || {
        for at in 0..site.agents.len() {
            let (socket, path) = (site.agents[at].socket(), site.path("/nodes"));
            let nodes: Vec<Node> = http::get(&socket, &path)?;
            asked += 1;
            ensure!(nodes.len() == 5, "{} nodes", nodes.len());
        }
        for node in ["node-2", "node-3", "node-4"] {
            ensure!(holds(site, node, &digest)?, "{node} does not");
        }
        Ok(())
    })?;
    ensure!(asked >= site.agents.len(), "{asked} questions");
    ensure!(holds(site, "node-1", &digest)?, "it was pushed there");
    ensure!(!holds(site, "node-5", &digest)?, "node-5 is in the pool, and needs none");
    for agent in &site.agents {
        let log = std::fs::read_to_string(&agent.log)?;
        let line = log.lines().find(|line| TURNED_AWAY.iter().any(|words| line.contains(words)));
        ensure!(line.is_none(), "{}: {}", agent.spec.name, line.unwrap_or_default());
    }
    Ok(())
}
