//! Actions on a root of their own, with programs and units that are played.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use qb_drivers::host_step::{HostFile, HostPlace, HostUnit as Which, Kubeadm, KubeadmVerb};
use qb_model::action::NodeRole;

use super::leaver::Leaver;
use super::run::{Call, Output};
use super::units::HostUnit;
use super::*;

type Answer = Box<dyn Fn(&Call) -> Output + Send + Sync>;

/// Programs that answer, and what was asked of them.
struct Played {
    asked: Arc<Mutex<Vec<String>>>,
    answer: Answer,
}

impl Programs for Played {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        self.asked.lock().unwrap().push(format!("{} {}", call.name(), call.args.join(" ")));
        let output = (self.answer)(&call);
        Box::pin(async move { Ok(output) })
    }
}

/// Units by name, and what was done with them.
#[derive(Clone, Default)]
struct Units {
    units: Arc<Mutex<BTreeMap<String, HostUnit>>>,
    done: Arc<Mutex<Vec<String>>>,
}

impl Units {
    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.done.lock().unwrap())
    }

    fn change(&self, what: &str, name: &str, change: impl Fn(&mut HostUnit)) {
        self.done.lock().unwrap().push(format!("{what} {name}"));
        change(self.units.lock().unwrap().entry(name.to_owned()).or_default());
    }
}

impl HostUnits for Units {
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<HostUnit, StepError>> {
        let seen = self.units.lock().unwrap().get(name).cloned().unwrap_or_default();
        Box::pin(async move { Ok(seen) })
    }
    fn reload(&self) -> BoxFuture<'_, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
    fn enable<'a>(&'a self, name: &'a str, on: bool) -> BoxFuture<'a, Result<(), StepError>> {
        let word = if on { "enabled" } else { "disabled" };
        self.change(word, name, |unit| unit.enabled = word.to_owned());
        Box::pin(async { Ok(()) })
    }
    fn restart<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        self.change("restart", name, |unit| unit.active = "active".to_owned());
        Box::pin(async { Ok(()) })
    }
    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        self.change("stop", name, |unit| unit.active = "inactive".to_owned());
        Box::pin(async { Ok(()) })
    }
}

struct Machine {
    _temp: tempfile::TempDir,
    base: PathBuf,
    host: Host,
    asked: Arc<Mutex<Vec<String>>>,
    units: Units,
}

impl Machine {
    fn new(answer: impl Fn(&Call) -> Output + Send + Sync + 'static) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(temp.path()).unwrap();
        fs::create_dir(base.join("root")).unwrap();
        let (asked, units) = (Arc::default(), Units::default());
        let host = Host {
            cluster: "c1".parse().unwrap(),
            dir: Dir::create(&base.join("cluster")).unwrap(),
            root: Dir::open(&base.join("root")).unwrap(),
            programs: Box::new(Played { asked: Arc::clone(&asked), answer: Box::new(answer) }),
            units: Box::new(units.clone()),
            tell: Tell::default(),
        };
        Self { _temp: temp, base, host, asked, units }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    async fn is(&self, action: &HostAction) -> bool {
        check(&self.host, action).await.unwrap()
    }

    async fn apply(&self, action: &HostAction) -> Result<(), StepError> {
        apply(&self.host, action).await
    }

    /// What kubeadm leaves of a join that went well.
    fn joined(&self) {
        self.write("root/etc/kubernetes/kubelet.conf", "x");
        self.write("root/var/lib/kubelet/pki/kubelet-client-2026.pem", "x");
        let link = self.base.join("root/var/lib/kubelet/pki/kubelet-client-current.pem");
        std::os::unix::fs::symlink("/var/lib/kubelet/pki/kubelet-client-2026.pem", link).unwrap();
    }

    fn manifests(&self) {
        for part in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
            self.write(&format!("root/etc/kubernetes/manifests/{part}.yaml"), "x");
        }
    }
}

fn ok(stdout: &str) -> Output {
    Output { status: Some(0), stdout: stdout.as_bytes().to_vec(), said: stdout.to_owned() }
}

fn failed(said: &str) -> Output {
    Output { status: Some(1), stdout: Vec::new(), said: said.to_owned() }
}

fn kubeadm(verb: KubeadmVerb) -> HostAction {
    HostAction::Kubeadm(run_of(verb))
}

fn run_of(verb: KubeadmVerb) -> Kubeadm {
    Kubeadm {
        verb,
        version: "1.20.2".parse().unwrap(),
        tree: None,
        config: Some("config/kubeadm.yaml".parse().unwrap()),
        ignore: vec!["ImagePull".into(), "Swap".into()],
        skip_phases: Vec::new(),
        limit_s: 60,
    }
}

#[tokio::test]
async fn kubeadm_is_given_a_file_and_names_and_is_not_believed() {
    let machine = Machine::new(|_| ok(""));
    let init = kubeadm(KubeadmVerb::Init);
    assert!(!machine.is(&init).await);
    machine.apply(&init).await.unwrap();
    let file = machine.base.join("cluster/config/kubeadm.yaml");
    let wanted = format!("kubeadm init --config={} --ignore-preflight-errors=ImagePull,Swap", file.display());
    assert_eq!(machine.asked(), [wanted]);
    // It said that it did it, and nothing is there.
    assert!(!machine.is(&init).await);
    machine.manifests();
    machine.write("root/etc/kubernetes/admin.conf", "x");
    assert!(machine.is(&init).await);
    // What a power cut leaves is not there, and is taken away before the next try.
    machine.write("root/etc/kubernetes/manifests/etcd.yaml", "");
    assert!(!machine.is(&init).await);
    machine.apply(&init).await.unwrap();
    assert!(!machine.base.join("root/etc/kubernetes/manifests/etcd.yaml").exists());
    assert!(machine.base.join("root/etc/kubernetes/manifests/kube-apiserver.yaml").exists());
}

#[tokio::test]
async fn a_join_that_was_cut_off_late_goes_on_behind_the_kubelet() {
    let machine = Machine::new(|_| ok(""));
    let join = kubeadm(KubeadmVerb::JoinControlPlane);
    machine.joined();
    machine.manifests();
    // All files are there; whether its last phases were run is not known.
    assert!(!machine.is(&join).await);
    machine.apply(&join).await.unwrap();
    let asked = machine.asked();
    assert!(asked.len() == 1 && asked[0].ends_with(" --skip-phases=kubelet-start"), "{asked:?}");
    assert!(machine.is(&join).await);
    // A worker is done with its certificate, a link to the newest one.
    let worker = Machine::new(|_| ok(""));
    assert!(!worker.is(&kubeadm(KubeadmVerb::JoinWorker)).await);
    worker.joined();
    assert!(worker.is(&kubeadm(KubeadmVerb::JoinWorker)).await);
    worker.write("root/var/lib/kubelet/pki/kubelet-client-2026.pem", "");
    assert!(!worker.is(&kubeadm(KubeadmVerb::JoinWorker)).await);
}

#[tokio::test]
async fn a_member_that_was_announced_and_never_started_is_taken_out_first() {
    let machine = Machine::new(|call| match (call.name(), call.args.join(" ")) {
        ("kubectl", _) => ok("https://10.77.0.1:2379"),
        ("etcdctl", args) if args.contains("member list") => ok(
            r#"{"members":[{"ID":1,"name":"h1","peerURLs":["https://10.77.0.1:2380"]},{"ID":255,"name":"","peerURLs":["https://10.77.0.2:2380"]}]}"#,
        ),
        _ => ok(""),
    });
    machine.write(
        "cluster/network.json",
        r#"{"v":1,"own":{"slot":1,"address":"10.77.0.2"},"peers":[],"networks":{"pods":"10.244.0.0/16","overlay":"10.245.0.0/16"},"quiet_link_local":false}"#,
    );
    machine.write("root/etc/kubernetes/admin.conf", "x");
    machine.write("root/etc/kubernetes/pki/etcd/healthcheck-client.crt", "x");
    machine.write("root/var/lib/etcd/member/wal/0", "x");
    machine.apply(&kubeadm(KubeadmVerb::JoinControlPlane)).await.unwrap();
    let asked = machine.asked();
    assert!(
        asked[2].contains("--endpoints=https://10.77.0.1:2379") && asked[2].ends_with("member remove ff"),
        "{asked:?}"
    );
    assert!(asked[3].starts_with("kubeadm join"), "{asked:?}");
    assert!(!machine.base.join("root/var/lib/etcd/member").exists());
}

#[tokio::test]
async fn a_unit_is_started_anew_when_what_it_reads_has_changed() {
    let machine = Machine::new(|_| ok(""));
    let (start, stop) =
        (HostAction::Start { unit: Which::Containerd }, HostAction::Stop { unit: Which::Containerd });
    let name = Which::Containerd.name();
    let refused = machine.apply(&start).await.unwrap_err();
    assert!(refused.text.contains("is not there"), "{refused:?}");
    let unit = |content: &str| HostAction::Files {
        files: vec![HostFile {
            place: HostPlace::SystemdUnit(name.parse().unwrap()),
            content: content.to_owned(),
            mode: 0o644,
        }],
    };
    machine.apply(&unit("one")).await.unwrap();
    let ours = format!("/etc/systemd/system/{name}");
    machine
        .units
        .units
        .lock()
        .unwrap()
        .insert(name.to_owned(), HostUnit { file: ours, ..HostUnit::default() });
    machine.apply(&start).await.unwrap();
    assert_eq!(machine.units.done(), [format!("enabled {name}"), format!("restart {name}")]);
    assert!(machine.is(&start).await);
    for change in ["unit", "configuration", "tree"] {
        match change {
            "unit" => machine.apply(&unit("two")).await.unwrap(),
            "configuration" => machine.write("cluster/config/containerd.toml", "x"),
            _ => {
                machine.write("cluster/bundle/new/bin/x", "");
                let tree = "bundle/new".parse().unwrap();
                machine.apply(&HostAction::Select { tree }).await.unwrap();
            }
        }
        assert!(!machine.is(&start).await, "{change}");
        machine.apply(&start).await.unwrap();
        assert!(machine.is(&start).await, "{change}");
    }
    machine.apply(&stop).await.unwrap();
    assert!(machine.is(&stop).await && !machine.is(&start).await);
    // One of a package is nobody's business here.
    machine.units.units.lock().unwrap().insert(
        name.to_owned(),
        HostUnit {
            file: format!("/lib/systemd/system/{name}"),
            active: "active".into(),
            ..HostUnit::default()
        },
    );
    assert!(machine.apply(&start).await.unwrap_err().remedy.contains("package"));
    assert!(machine.is(&stop).await);
}

#[tokio::test]
async fn a_host_of_others_is_refused() {
    let machine = Machine::new(|_| ok(""));
    let fit = async || check(&machine.host, &HostAction::Fit).await;
    let error = fit().await.unwrap_err();
    assert!(error.text.contains("no conntrack") && error.remedy.contains("iptables"), "{error:?}");
    for program in ["conntrack", "ip", "iptables", "mount", "nsenter", "umount"] {
        machine.write(&format!("root/usr/sbin/{program}"), "");
    }
    assert_eq!(fit().await, Ok(true));
    fs::create_dir_all(machine.base.join("root/etc/kubernetes/manifests")).unwrap();
    assert_eq!(fit().await, Ok(true));
    machine.write("root/etc/kubernetes/admin.conf", "theirs");
    assert!(fit().await.unwrap_err().text.contains("/etc/kubernetes"));
    // This cluster's own, when the stage runs again.
    machine.write("cluster/record.json", "{}");
    assert_eq!(fit().await, Ok(true));
    let theirs = HostUnit { file: "/lib/systemd/system/kubelet.service".into(), ..HostUnit::default() };
    machine.units.units.lock().unwrap().insert("kubelet.service".into(), theirs);
    assert!(fit().await.unwrap_err().remedy.contains("apt-get remove kubelet"));
}

fn leaver(role: NodeRole) -> Leaver {
    Leaver {
        name: "h2".parse().unwrap(),
        address: "10.77.0.2".into(),
        role,
        version: "1.20.2".parse().unwrap(),
    }
}

/// What was asked of kubectl and etcdctl, without how they reach the cluster.
fn words(asked: &[String]) -> Vec<String> {
    let word = |line: &String| {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.starts_with("--")).collect();
        words[..4.min(words.len())].join(" ")
    };
    asked.iter().map(word).collect()
}

#[tokio::test]
async fn a_node_is_drained_a_dead_one_is_not() {
    for (ready, drained) in [("True", true), ("Unknown", false)] {
        let machine = Machine::new(move |call| match (call.name(), call.args.join(" ")) {
            ("kubectl", args) if args.contains("get node") => {
                ok(&format!(r#"{{"status":{{"conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#))
            }
            ("kubectl", args) if args.contains("get configmap") => ok(
                r#"{"metadata":{"resourceVersion":"7"},"data":{"ClusterStatus":"apiEndpoints:\n  h1:\n    bindPort: 6443\n  h2:\n    bindPort: 6443\nkind: ClusterStatus\n"}}"#,
            ),
            ("etcdctl", args) if args.contains("member list") => {
                ok(r#"{"members":[{"ID":255,"name":"h2","peerURLs":["https://10.77.0.2:2380"]}]}"#)
            }
            _ => ok(""),
        });
        machine.write("root/etc/kubernetes/admin.conf", "x");
        leaver::take_out(&machine.host, &leaver(NodeRole::ControlPlane)).await.unwrap();
        let asked = machine.asked();
        let mut wanted = vec!["kubectl get node h2", "kubectl cordon h2"];
        wanted.extend(drained.then_some("kubectl drain h2"));
        wanted.extend([
            "etcdctl member list",
            "etcdctl member remove ff",
            "kubectl get configmap kubeadm-config",
            "kubectl patch configmap kubeadm-config",
            "kubectl delete node h2",
        ]);
        assert_eq!(words(&asked), wanted, "{asked:?}");
        let patch = asked.iter().find(|line| line.contains("patch")).unwrap();
        assert!(patch.contains(r#""resourceVersion":"7""#) && !patch.contains("h2"), "{patch}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_holds_a_drain_is_told_and_nothing_is_taken_out() {
    let machine = Machine::new(|call| match call.args.join(" ") {
        args if args.contains("get node") => {
            ok(r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#)
        }
        args if args.contains("drain") => failed(
            "evicting pod default/web-1\nerror when evicting pods/\"web-1\" (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget.\nerror: drain did not complete within 20s\n",
        ),
        _ => ok(""),
    });
    let error = leaver::take_out(&machine.host, &leaver(NodeRole::Worker)).await.unwrap_err();
    assert!(
        error.text.contains("h2 is not drained") && error.text.contains("disruption budget"),
        "{error:?}"
    );
    let asked = machine.asked();
    assert!(asked.len() > 10 && asked.iter().all(|line| !line.contains("delete node")), "{}", asked.len());
    assert!(asked.iter().all(|line| !line.contains("--force") && !line.contains("--delete-emptydir-data")));
}

#[tokio::test]
async fn only_images_that_are_missing_are_imported() {
    let have = Arc::new(Mutex::new(vec!["k8s.gcr.io/pause:3.2".to_owned()]));
    let runtime = Arc::clone(&have);
    let machine = Machine::new(move |call| {
        if call.args.iter().any(|arg| arg == "list") {
            return ok(&runtime.lock().unwrap().join("\n"));
        }
        runtime.lock().unwrap().push("docker.io/library/web:1".to_owned());
        ok("")
    });
    for (name, tag) in [("pause.tar", "k8s.gcr.io/pause:3.2"), ("web.tar", "web:1"), ("etcd.tar", "x/etcd:3")]
    {
        let table = format!(r#"[{{"Config":"c","RepoTags":["{tag}"],"Layers":[]}}]"#);
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(table.len() as u64);
        archive.append_data(&mut header, "manifest.json", table.as_bytes()).unwrap();
        let path = machine.base.join("cluster/bundle/t/images");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name), archive.into_inner().unwrap()).unwrap();
    }
    machine.apply(&HostAction::Select { tree: "bundle/t".parse().unwrap() }).await.unwrap();
    let images =
        HostAction::Images { tree: None, without: vec!["etcd".into()], pause: "k8s.gcr.io/pause:3.2".into() };
    assert!(!machine.is(&images).await);
    machine.asked();
    machine.apply(&images).await.unwrap();
    let imports: Vec<String> = machine.asked().into_iter().filter(|line| line.contains("import")).collect();
    assert!(imports.len() == 1 && imports[0].ends_with("images/web.tar"), "{imports:?}");
    assert!(machine.is(&images).await);
}

/// The steps by which a node leaves, carried out as the helper does.
async fn leave(machine: &Machine) -> Result<(), StepError> {
    let kubeadm = |verb| HostAction::Kubeadm(Kubeadm { config: None, ..run_of(verb) });
    let steps = [
        kubeadm(KubeadmVerb::Reset),
        HostAction::Stop { unit: Which::Kubelet },
        HostAction::Clean,
        HostAction::Stop { unit: Which::Containerd },
        HostAction::Compare,
    ];
    for step in steps {
        super::helper::carry_out(&machine.host, &super::order::Work::Step(step)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_node_leaves_on_which_nothing_was_ever_installed() {
    let machine = Machine::new(|call| panic!("nothing is asked, {} was", call.name()));
    // Twice: what came to its end and was not heard is ordered again.
    for _ in 0..2 {
        leave(&machine).await.unwrap();
    }
    assert_eq!(machine.units.done(), [""; 0]);

    // Preparing was refused, since somebody else's Kubernetes lives here: it stays as it is.
    machine.joined();
    machine.manifests();
    machine.write("root/etc/kubernetes/admin.conf", "theirs");
    machine.write("root/var/lib/etcd/member/snap/db", "theirs");
    let theirs = HostUnit {
        active: "active".to_owned(),
        enabled: "enabled".to_owned(),
        file: "/etc/systemd/system/kubelet.service".to_owned(),
        ..HostUnit::default()
    };
    machine.units.units.lock().unwrap().insert("kubelet.service".to_owned(), theirs.clone());
    leave(&machine).await.unwrap();
    assert_eq!(machine.units.done(), [""; 0]);
    assert_eq!(machine.units.units.lock().unwrap()["kubelet.service"], theirs);
    assert!(machine.base.join("root/var/lib/etcd/member/snap/db").exists());
    assert!(machine.base.join("root/etc/kubernetes/kubelet.conf").exists());

    // With a tree that was selected it is this cluster's, and is reset.
    fs::create_dir_all(machine.base.join("cluster/bundle/sha256-1")).unwrap();
    std::os::unix::fs::symlink("bundle/sha256-1", machine.base.join("cluster/current")).unwrap();
    assert!(!machine.is(&HostAction::Kubeadm(run_of(KubeadmVerb::Reset))).await);
}
