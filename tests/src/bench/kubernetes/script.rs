//! The same cluster by the same kubeadm commands, typed by a script: what qb's own work is compared with.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{CLUSTER, CONTROL, ms, print};
use crate::fleet::{ENTER, Fleet};
use crate::lab::Host;

/// What qb wrote on the host, kept for the script: programs, images, configuration, units.
const KEEP: &str = r#"
    cd / && tar -cf /root/kept.tar var/lib/qb/exec/clusters/c1/bundle var/lib/qb/exec/clusters/c1/current \
        var/lib/qb/exec/clusters/c1/config etc/systemd/system/qb-containerd.service \
        etc/systemd/system/kubelet.service etc/sysctl.d/90-qb-kubernetes.conf opt/cni/bin etc/cni/net.d
"#;

/// Until images are there.
const PREPARE: &str = r#"
    cd / && tar -xf /root/kept.tar
    sysctl -q --system
    systemctl daemon-reload && systemctl enable -q kubelet && systemctl start qb-containerd
    bin=/var/lib/qb/exec/clusters/c1/current/bin
    for image in /var/lib/qb/exec/clusters/c1/current/images/*; do
        $bin/ctr -a /run/qb/containerd/containerd.sock -n k8s.io images import "$image" >/dev/null
    done
"#;

/// Without what the laboratory has not: the network's registry.
const IGNORE: &str = "--ignore-preflight-errors=ImagePull,Swap,FileExisting-crictl";

/// Measures.
///
/// # Errors
/// The cluster does not end, or the script does not make one.
pub(super) fn measure(fleet: &Fleet, hosts: &[Host]) -> Result<()> {
    let hosts = &hosts[..CONTROL.len()];
    hosts.iter().try_for_each(|host| host.shell(KEEP).map(drop))?;
    fleet.order(&["cluster", "delete", CLUSTER, "--confirm", CLUSTER])?;
    for host in hosts {
        host.eventually(ENTER, "its node is in the pool", |host| {
            let node = fleet.node_at(host, &host.name())?;
            ensure!(node.state == "pool", "it is {}", node.state);
            Ok(())
        })?;
    }
    let began = Instant::now();
    std::thread::scope(|scope| {
        let all: Vec<_> = hosts
            .iter()
            .map(|host| scope.spawn(|| host.exec_within(ENTER, &["sh", "-euc", PREPARE])))
            .collect();
        all.into_iter().try_for_each(|one| {
            one.join().map_err(|_| anyhow::anyhow!("a thread failed"))??.ended(0).map(drop)
        })
    })?;
    let prepared = began.elapsed();
    let first = &hosts[0];
    let path = "PATH=/var/lib/qb/exec/clusters/c1/current/bin:$PATH; export PATH";
    let at = first.address();
    let init = format!(
        "{path}; sed -e 's/127.0.0.1:6444/{at}:6443/' /var/lib/qb/exec/clusters/c1/config/kubeadm.yaml >/root/init.yaml; \
         grep -q InitConfiguration /root/init.yaml || exit 7; \
         kubeadm init --config /root/init.yaml --upload-certs --skip-phases=addon/coredns {IGNORE}; \
         kubeadm init phase upload-certs --upload-certs 2>/dev/null | tail -n 1 >/root/key; \
         kubeadm token create --print-join-command >/root/join"
    );
    first.exec_within(ENTER, &["sh", "-euc", &init])?.ended(0)?;
    let initialized = began.elapsed();
    let word = |file: &str| -> Result<String> {
        Ok(String::from_utf8_lossy(&first.read_file(file)?).trim().to_owned())
    };
    let (join, key) = (word("/root/join")?, word("/root/key")?);
    for host in &hosts[1..] {
        let join = format!(
            "{path}; {join} --control-plane --certificate-key {key} {IGNORE} \
             --cri-socket /run/qb/containerd/containerd.sock --apiserver-advertise-address {}",
            host.address()
        );
        host.exec_within(ENTER, &["sh", "-euc", &join])?.ended(0)?;
    }
    first.eventually(ENTER, "all nodes are ready", |host| {
        let said = host.kubectl(CLUSTER, &["get", "nodes", "--no-headers"])?.ended(0)?.stdout;
        let ready = said.lines().filter(|line| line.contains(" Ready")).count();
        ensure!(ready == CONTROL.len(), "{said}");
        Ok(())
    })?;
    print(
        "script_3_real",
        &json!({ "total_ms": ms(began.elapsed()), "prepare_ms": ms(prepared), "init_ms": ms(initialized - prepared) }),
    )
}
