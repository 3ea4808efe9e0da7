//! What is asked of real Kubernetes on hosts, and of a host that has left it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Fleet, LATE};
use crate::command::Ran;
use crate::kubernetes::{Version, WEB, ensure_folder};
use crate::lab::{Host, Kind};
use crate::wait::eventually;

/// How `qb` ends when what it signed is accepted and not done yet.
const ACCEPTED: i32 = 5;
/// How long three control plane nodes may take, one after the other on two shared cores.
pub const ENTER: Duration = Duration::from_secs(480);
/// How long one request of a test's pod may take.
const ASK: &str = "2";

impl Fleet {
    /// A site with these hosts in its pool, each of which can be a node of Kubernetes, and with the bundle.
    ///
    /// # Errors
    /// Packages or programs are missing, or it does not come to that.
    pub fn of_kubernetes(lab: &str, site: &str, hosts: RangeInclusive<u8>) -> Result<(Self, Vec<Host>)> {
        let mut fleet = Self::create(lab, site)?;
        fleet.qb.kubectl = Some(ensure_folder(&fleet.lab, Version::First)?.join("bin/kubectl"));
        let nodes = fleet.explained(|fleet| {
            fleet.create_site()?;
            let nodes = fleet.machines(hosts.clone(), &Kind::kubernetes())?;
            fleet.install_by_line(&nodes)?;
            let numbers: Vec<_> = hosts.collect();
            fleet.await_knocks(&numbers)?;
            fleet.authorize(&nodes)?;
            fleet.trust_publisher(&nodes[0])?;
            let file = fleet.kubernetes_bundle(Version::First)?;
            fleet.near(numbers[0], &["bundle", "push", &file])?.ended(0)?;
            Ok(nodes)
        })?;
        Ok((fleet, nodes))
    }

    /// Orders a cluster of real Kubernetes, without nodes, with these settings.
    ///
    /// # Errors
    /// It is refused.
    pub fn create_kubernetes(&self, cluster: &str, settings: &[&str]) -> Result<()> {
        let version = Version::First.to_string();
        let order = ["cluster", "create", cluster, "--driver", "kubeadm", "--version", &version, "-y"];
        self.far(&[&order[..], settings].concat())?.ended(0).map(drop)
    }

    /// Signs what takes minutes, through the relay, and does not wait for it.
    ///
    /// # Errors
    /// It is refused.
    pub fn order(&self, args: &[&str]) -> Result<()> {
        let ran = self.far(&[args, &["-y", "--no-wait"]].concat())?;
        // What is done at once has nothing to wait for.
        if ran.code == 0 { Ok(()) } else { ran.ended(ACCEPTED).map(drop) }
    }

    /// Has the site accept bundles of its own publisher.
    ///
    /// # Errors
    /// `qb` refuses.
    pub fn trust_publisher(&self, at: &Host) -> Result<()> {
        let key = self.run(&["key", "export-public", &format!("{}-publisher", self.site)])?.ended(0)?.stdout;
        self.near(at.index(), &["bundle", "trust", &self.site, key.trim(), "-y"])?.ended(0).map(drop)
    }

    /// Makes the bundle of a version, signed with the site's publisher key, and gives it to the site; its file.
    ///
    /// # Errors
    /// The folder cannot be made, or `qb` refuses.
    pub fn kubernetes_bundle(&self, version: Version) -> Result<String> {
        let from = ensure_folder(&self.lab, version)?.display().to_string();
        let name = version.to_string();
        let path = self.dir.path().join(format!("kubeadm-{name}.qbb")).display().to_string();
        let build =
            ["bundle", "build", "--driver", "kubeadm", "--version", &name, "--from", &from, "-o", &path];
        self.run(&build)?.ended(0)?;
        Ok(path)
    }

    /// Waits until a host's own door shows a cluster of real Kubernetes that serves with these members.
    ///
    /// # Errors
    /// It does not come to that; says what it waits for.
    pub fn await_kubernetes(&self, at: &Host, cluster: &str, members: &[u8]) -> Result<()> {
        self.await_ready_within(ENTER, at, cluster, members).map(drop)
    }

    /// Waits until a cluster's own API says that these hosts, and no others, are its nodes, all ready, of this
    /// version.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn await_nodes(&self, at: &Host, cluster: &str, members: &[u8], version: Version) -> Result<()> {
        let wanted: BTreeSet<_> = members.iter().map(|i| format!("h{i}")).collect();
        at.eventually(LATE, "the nodes of Kubernetes are ready", |at| {
            let nodes = at.kubectl(cluster, &["get", "nodes", "-o", "json"])?.ended(0)?.json()?;
            let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
            let names: BTreeSet<_> = nodes.iter().map(name).collect();
            ensure!(names == wanted, "they are {names:?}");
            for node in &nodes {
                ensure!(
                    condition(node, "Ready") == "True",
                    "{} is not ready: {}",
                    name(node),
                    node["status"]["conditions"]
                );
                let own = node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default();
                ensure!(own == version.to_string(), "{} has {own}", name(node));
            }
            Ok(())
        })
    }

    /// One pod on every node, and a Service before them.
    ///
    /// # Errors
    /// The API refuses.
    pub fn deploy_web(&self, at: &Host, cluster: &str) -> Result<()> {
        at.write_file("/root/web.yaml", web().as_bytes(), 0o644)?;
        at.kubectl(cluster, &["apply", "-f", "/root/web.yaml"])?.ended(0).map(drop)
    }

    /// Ends the API server of each of these control plane nodes, one after the other, and waits until kubelet has
    /// started it again, for minutes if it ended often. Needed where the store had no leader for a moment, as when
    /// a second member joins it or the leader is lost:
    /// API servers 1.20.0 to 1.20.7 then leave watches of Services open without ever telling anything on them,
    /// for the five to ten minutes that a watch lasts (kubernetes/kubernetes#102464).
    ///
    /// # Errors
    /// One does not come back.
    pub fn watch_anew(&self, control: &[u8]) -> Result<()> {
        let pid = |host: &Host| host.exec(&["pgrep", "-x", "kube-apiserver"]).map(|ran| ran.stdout);
        for i in control {
            let host = self.lab.host(*i);
            let old = pid(&host)?;
            // Asked to end it would wait for a minute, for whoever watches.
            host.ok(&["pkill", "-KILL", "-x", "kube-apiserver"])?;
            let url = format!("https://{}:6443/readyz", host.address());
            host.eventually(ENTER, "another API server answers", |host| {
                let now = pid(host)?;
                ensure!(!now.is_empty() && now != old, "process {} instead of {}", now.trim(), old.trim());
                let ran = host.exec(&["curl", "-sk", "-m", ASK, &url])?;
                ensure!(ran.stdout == "ok", "it says {} {}", ran.stdout, ran.code);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until the pods of these nodes reach each other by address, and the Service; so do the hosts.
    ///
    /// # Errors
    /// One does not reach another; says which.
    pub fn await_paths(&self, at: &Host, cluster: &str, members: &[u8]) -> Result<()> {
        eventually(LATE, "pods reach each other", || {
            // Asked anew each time: a pod that starts again on a host that was off has another address.
            let pods = ready_pods(at, cluster, members)?;
            let ask = ["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"];
            let service = format!("http://{}/", at.kubectl(cluster, &ask)?.ended(0)?.stdout);
            for (from, pod) in &pods {
                let urls = pods.values().map(|to| format!("http://{}:8080/", to.address));
                for url in urls.chain([service.clone()]) {
                    // Debian's busybox faults at `wget -T`.
                    let ask =
                        ["exec", &pod.name, "--", "busybox", "timeout", ASK, "wget", "-q", "-O", "-", &url];
                    let ran = at.kubectl(cluster, &ask)?;
                    ensure!(ran.code == 0, "the pod on {from} does not reach {url}: {}", ran.stderr.trim());
                }
            }
            for i in members {
                let ran = self.lab.host(*i).exec(&["curl", "-sS", "-m", ASK, &service])?;
                ensure!(ran.code == 0, "host {i} does not reach the Service: {}", ran.stderr.trim());
            }
            Ok(())
        })
    }

    /// What a failure in Kubernetes is explained with, besides the journals of qb.
    pub fn kubernetes_journals(&self, cluster: &str) -> String {
        let mut told = String::new();
        for host in self.lab.hosts() {
            let show = |args: &[&str]| {
                host.exec(args).map_or_else(|e| format!("{e:#}\n"), |ran| ran.stdout + &ran.stderr)
            };
            told += &format!("--- {}: Kubernetes\n", host.name());
            told += &show(&[
                "journalctl",
                "--no-pager",
                "-o",
                "short-precise",
                "-n",
                "15",
                "-u",
                "kubelet",
                "-u",
                "qb-containerd",
            ]);
            if host.exec(&["test", "-s", "/etc/kubernetes/admin.conf"]).is_ok_and(|ran| ran.code == 0) {
                let all = ["--request-timeout=5s", "get", "nodes,pods", "-A", "-o", "wide"];
                told += &host
                    .kubectl(cluster, &all)
                    .map_or_else(|e| format!("{e:#}\n"), |ran| ran.stdout + &ran.stderr);
            }
        }
        told
    }
}

impl Host {
    /// Runs the cluster's own kubectl as root of a control plane node does.
    ///
    /// # Errors
    /// The host is off.
    pub fn kubectl(&self, cluster: &str, args: &[&str]) -> Result<Ran> {
        let program = format!("/var/lib/qb/exec/clusters/{cluster}/current/bin/kubectl");
        let begin = ["env", "KUBECONFIG=/etc/kubernetes/admin.conf", &program, "--request-timeout=20s"];
        self.exec(&[&begin[..], args].concat())
    }

    /// Asks the member of a cluster's store on this control plane node.
    ///
    /// # Errors
    /// The host is off, or the store does not answer.
    pub fn etcdctl(&self, cluster: &str, args: &[&str]) -> Result<Ran> {
        let program = format!("/var/lib/qb/exec/clusters/{cluster}/current/bin/etcdctl");
        let begin = [
            "env",
            "ETCDCTL_API=3",
            &program,
            "--command-timeout=3s",
            "--endpoints=https://127.0.0.1:2379",
            "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
            "--cert=/etc/kubernetes/pki/etcd/server.crt",
            "--key=/etc/kubernetes/pki/etcd/server.key",
        ];
        self.ok(&[&begin[..], args].concat())
    }

    /// Everything of a host that a cluster may touch, one line each, without what changes by itself.
    ///
    /// # Errors
    /// The host is off.
    pub fn picture(&self) -> Result<BTreeSet<String>> {
        let script = r#"
            find /etc /opt /usr /root /srv /var /run -xdev \( -path /var/lib/qb -o -path /var/log/journal -o -path /run/systemd \
                -o -path /run/udev -o -path /run/log -o -path /run/lock -o -path /var/lib/systemd -o -path /run/qb \
                -o -path /var/lib/private -o -path /var/tmp -o -path /run/user \) -prune -o -printf 'file %y %m %p %l\n'
            for dir in /var/lib/kubelet /var/lib/etcd; do find "$dir" -mindepth 1 -printf 'file %y %m %p %l\n'; done
            find /var/lib/qb /run/qb -maxdepth 2 -mindepth 1 -printf 'qb %p\n' 2>/dev/null || true
            awk '{print "mount", $5, $9, $10}' /proc/self/mountinfo
            ip -o link | sed 's/^[0-9]*: //; s/@.*//; s/:.*//; s/^/link /'
            ip -o -4 addr | awk '{print "address", $2, $4}'
            ip -4 route | sed 's/^/route /'
            ip -6 route | sed 's/^/route6 /; s/ expires [0-9]*sec//'
            ip rule | sed 's/^/rule /'
            bridge fdb | sed 's/^/fdb /'
            ls /run/netns 2>/dev/null | sed 's/^/netns /'
            nft -s list ruleset | sed 's/^/nft /'
            systemctl list-unit-files --plain --no-legend | awk '{print "unit-file", $1, $2}'
            systemctl list-units --all --plain --no-legend --type=service,slice,socket,target | awk '$1 !~ /^(user|systemd-|qb-workloads)/ {print "unit", $1, $3}'
            find /sys/fs/cgroup -type d \( -iname '*kube*' -o -iname '*containerd*' \) -printf 'cgroup %p\n'
            ps -eo comm= | sort -u | sed 's/^/process /'
            for key in net.ipv4.ip_forward net.ipv4.conf.all.route_localnet net.ipv4.conf.all.accept_redirects net.ipv4.conf.all.rp_filter \
                net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables net.ipv6.conf.all.forwarding \
                net.netfilter.nf_conntrack_tcp_timeout_close_wait net.netfilter.nf_conntrack_tcp_timeout_established; do
                echo "sysctl $key $(sysctl -n "$key" 2>/dev/null || echo none)"; done
            getent passwd | sed 's/^/user /'"#;
        let said = self.shell(script)?.stdout;
        // Short runs of the picture itself, and of what the system does now and then.
        let passing = [
            "process ps",
            "process sort",
            "process sed",
            "process sh",
            "process kworker",
            "process (sd-pam)",
            // The agent's own, whether its node is in a cluster or not.
            "qb /var/lib/qb/agent/",
            // systemd makes it for any unit of qb, and keeps it while one is loaded.
            "unit qb.slice ",
            // iptables makes it when it is first called.
            "file f 644 /run/xtables.lock",
        ];
        let kept = |line: &&str| !passing.iter().any(|word| line.starts_with(word));
        Ok(said.lines().filter(kept).map(str::to_owned).collect())
    }

    /// Waits until a host is as it was at the time of a picture.
    ///
    /// # Errors
    /// It is not; says what is there besides and what is missing.
    pub fn await_picture(&self, before: &BTreeSet<String>, limit: Duration) -> Result<()> {
        self.eventually(limit, "it is as it was", |host| {
            let now = host.picture()?;
            let list = |mark: &str, lines: Vec<&String>| -> String {
                lines.iter().map(|line| format!("\n  {mark} {line}")).collect()
            };
            let (more, less) =
                (now.difference(before).collect::<Vec<_>>(), before.difference(&now).collect::<Vec<_>>());
            if more.is_empty() && less.is_empty() {
                return Ok(());
            }
            bail!("{}{}", list("+", more), list("-", less))
        })
    }
}

/// A pod of the tests.
#[derive(Debug, Clone)]
struct Pod {
    name: String,
    address: String,
}

/// The tests' pods of these hosts, all of them ready, by host.
fn ready_pods(at: &Host, cluster: &str, members: &[u8]) -> Result<BTreeMap<String, Pod>> {
    let said = at.kubectl(cluster, &["get", "pods", "-l", "app=web", "-o", "json"])?.ended(0)?.json()?;
    let all = said["items"].as_array().cloned().unwrap_or_default();
    let mut ready: BTreeMap<_, _> =
        all.iter().filter(|p| condition(p, "Ready") == "True").map(placed).collect();
    let wanted: BTreeSet<_> = members.iter().map(|i| format!("h{i}")).collect();
    ready.retain(|host, _| wanted.contains(host));
    let lacking: Vec<_> = wanted.iter().filter(|host| !ready.contains_key(*host)).collect();
    ensure!(lacking.is_empty(), "no pod is ready on {lacking:?}: {}", states(&all));
    Ok(ready)
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn condition(object: &Value, kind: &str) -> String {
    let all = object["status"]["conditions"].as_array();
    let one = all.and_then(|all| all.iter().find(|c| c["type"] == kind));
    one.and_then(|c| c["status"].as_str()).unwrap_or_default().to_owned()
}

fn placed(pod: &Value) -> (String, Pod) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&pod["spec"]["nodeName"]), Pod { name: name(pod), address: text(&pod["status"]["podIP"]) })
}

fn states(pods: &[Value]) -> String {
    let one = |pod: &Value| {
        format!(
            "{} {} {}",
            name(pod),
            pod["spec"]["nodeName"],
            pod["status"]["containerStatuses"][0]["state"]
        )
    };
    pods.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// One pod on every node, whatever it is for, and a Service.
fn web() -> String {
    let serve = "mkdir -p /www; hostname >/www/index.html; exec httpd -f -p 8080 -h /www";
    format!(
        r#"apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: web
spec:
  selector:
    matchLabels: {{app: web}}
  template:
    metadata:
      labels: {{app: web}}
    spec:
      tolerations: [{{operator: Exists}}]
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: {WEB}
        imagePullPolicy: Never
        command: [/bin/sh, -c, "{serve}"]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 2}}
        resources: {{requests: {{cpu: 10m, memory: 16Mi}}}}
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"#
    )
}

/// The text of a cluster's stages, for messages.
///
/// # Errors
/// The door shows no such cluster.
pub fn stages(fleet: &Fleet, at: &Host, cluster: &str) -> Result<String> {
    let shown = fleet.local(at, &format!("/clusters/{cluster}"))?;
    serde_json::to_string_pretty(&shown["stages"]).context("no stages")
}
