//! A renewal with programs that are played: kubeadm writes files, the runtime starts what was ended.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use qb_drivers::host_step::HostAction;
use qb_drivers::kubeadm::upkeep::renewal;
use qb_drivers::{Step, StepAction};
use qb_model::limits::DAY_MS;

use super::super::clean::tests::NotedUnits;
use super::super::run::{Call, Output, Programs};
use super::super::tell::Tell;
use super::super::{apply, check};
use super::*;
use crate::certificates::tests::write_all;
use crate::dir::Dir;

/// The machine's programs.
#[derive(Default)]
struct Played {
    root: PathBuf,
    asked: Vec<String>,
    /// How often the part was started.
    starts: BTreeMap<String, u32>,
    /// A member that has not started.
    joining: bool,
    /// A kubeadm that is killed halfway: it wrote some files.
    killed: bool,
    /// A part that does not come up again.
    broken: Option<&'static str>,
    /// A part that ends, and that the kubelet lets wait before it starts it again.
    late: Option<&'static str>,
    /// Whether it ended.
    ended: bool,
}

impl Played {
    fn answer(&mut self, call: &Call) -> Output {
        let args = call.args.join(" ");
        let ok = |text: &str| Output { status: Some(0), stdout: text.as_bytes().to_vec(), said: text.into() };
        match (call.name(), args.as_str()) {
            ("kubeadm", "certs renew all") => {
                self.asked.push("kubeadm certs renew all".into());
                let ends = Millis(clock::now().0 + 365 * DAY_MS);
                if std::mem::take(&mut self.killed) {
                    fs::write(self.root.join("etc/kubernetes/pki/apiserver.crt"), "").unwrap();
                    return Output { status: None, ..Output::default() };
                }
                write_all(&self.root, ends);
                ok("")
            }
            ("etcdctl", args) if args.contains("member list") => {
                let second =
                    if self.joining { r#",{"ID":2,"peerURLs":["https://10.77.0.2:2380"]}"# } else { "" };
                ok(&format!(
                    r#"{{"members":[{{"ID":1,"name":"h1","peerURLs":["https://10.77.0.1:2380"]}}{second}]}}"#
                ))
            }
            ("ctr", args) if args.contains("containers list") => {
                let name = args.rsplit("==").next().unwrap();
                let starts = self.starts.entry(name.to_owned()).or_default();
                ok(&(0..=*starts).map(|n| format!("{name}-{n}\n")).collect::<String>())
            }
            ("ctr", args) if args.ends_with("tasks list") => {
                let mut text = "TASK    PID    STATUS\n".to_owned();
                for (name, starts) in &self.starts {
                    for n in 0..=*starts {
                        let waits = self.late == Some(name) && self.ended;
                        let state = if n == *starts && !waits { "RUNNING" } else { "STOPPED" };
                        text.push_str(&format!("{name}-{n}    {n}    {state}\n"));
                    }
                }
                ok(&text)
            }
            ("ctr", args) if args.contains("tasks kill") => {
                let id = args.rsplit(' ').next().unwrap();
                self.asked.push(format!("kill {id}"));
                let name = id.rsplit_once('-').unwrap().0;
                if self.late == Some(name) {
                    self.ended = true;
                } else if self.broken != Some(name) {
                    *self.starts.get_mut(name).unwrap() += 1;
                }
                ok("")
            }
            _ => ok(""),
        }
    }
}

#[derive(Clone, Default)]
struct Programmed(Arc<Mutex<Played>>);

impl Programs for Programmed {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        let output = self.0.lock().unwrap().answer(&call);
        Box::pin(async move { Ok(output) })
    }
}

struct Machine {
    _temp: tempfile::TempDir,
    host: Host,
    played: Programmed,
    base: PathBuf,
}

impl Machine {
    /// One whose certificates end in so many days.
    fn new(days: u64) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(temp.path()).unwrap();
        fs::create_dir(base.join("root")).unwrap();
        write_all(&base.join("root"), Millis(clock::now().0 + days * DAY_MS));
        let played = Programmed::default();
        played.0.lock().unwrap().root = base.join("root");
        let host = Host {
            cluster: "c1".parse().unwrap(),
            dir: Dir::create(&base.join("cluster")).unwrap(),
            root: Dir::open(&base.join("root")).unwrap(),
            programs: Box::new(played.clone()),
            units: Box::<NotedUnits>::default(),
            tell: Tell::default(),
        };
        let form = r#"{"v":1,"own":{"slot":1,"address":"10.77.0.1"},"peers":[],"networks":{"pods":"10.244.0.0/16","overlay":"10.245.0.0/16"},"quiet_link_local":false}"#;
        fs::write(base.join("cluster/network.json"), form).unwrap();
        Self { _temp: temp, host, played, base }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.played.0.lock().unwrap().asked)
    }

    fn half(&self) -> bool {
        self.base.join("cluster").join(LEFT).exists()
    }

    /// All steps but the wait for an API server, which no program plays.
    async fn renew(&self) -> Result<(), StepError> {
        let steps: Vec<Step> = renewal(&"1.20.2".parse().unwrap(), "10.77.0.1:6443").unwrap();
        for step in steps {
            let StepAction::Host { host: action } = step.action else { panic!() };
            if matches!(action, HostAction::AwaitApi { .. } | HostAction::Sync)
                || check(&self.host, &action).await?
            {
                continue;
            }
            apply(&self.host, &action).await?;
            assert!(check(&self.host, &action).await.unwrap(), "{action:?}");
        }
        Ok(())
    }
}

const ALL: [&str; 5] = [
    "kubeadm certs renew all",
    "kill etcd-0",
    "kill kube-apiserver-0",
    "kill kube-controller-manager-0",
    "kill kube-scheduler-0",
];

#[tokio::test]
async fn certificates_are_renewed_once_and_every_part_starts_anew() {
    let machine = Machine::new(89);
    machine.renew().await.unwrap();
    assert_eq!(machine.asked(), ALL);
    assert!(!machine.half(), "no key is kept");
    machine.renew().await.unwrap();
    assert_eq!(machine.asked(), [""; 0]);
    let early = Machine::new(200);
    early.renew().await.unwrap();
    assert_eq!(early.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_cut_off_goes_on_with_what_is_left() {
    let machine = Machine::new(10);
    machine.played.0.lock().unwrap().broken = Some("kube-apiserver");
    let error = machine.renew().await.unwrap_err();
    assert!(error.text.contains("kube-apiserver does not run again"), "{error:?}");
    assert_eq!(machine.asked(), ALL[..3]);
    assert!(machine.half());
    machine.played.0.lock().unwrap().broken = None;
    machine.renew().await.unwrap();
    assert_eq!(machine.asked(), ALL[2..], "kubeadm and etcd are done");
    assert!(!machine.half());
}

#[tokio::test(start_paused = true)]
async fn a_part_that_comes_late_is_not_ended_again() {
    let machine = Machine::new(10);
    machine.played.0.lock().unwrap().late = Some("kube-apiserver");
    for _ in 0..2 {
        let error = machine.renew().await.unwrap_err();
        assert!(error.text.contains("kube-apiserver does not run again"), "{error:?}");
    }
    assert_eq!(machine.asked(), ALL[..3]);
    {
        let mut played = machine.played.0.lock().unwrap();
        played.late = None;
        *played.starts.get_mut("kube-apiserver").unwrap() += 1;
    }
    machine.renew().await.unwrap();
    assert_eq!(machine.asked(), ALL[3..], "the one that came late is new");
    assert!(!machine.half());
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_everywhere_is_renewed_without_the_others() {
    for (days, ended) in [(0, true), (10, false)] {
        let machine = Machine::new(days);
        before(&machine.host).unwrap();
        assert_eq!(begun(&machine.host.dir), Some(ended));
        write_all(&machine.base.join("root"), Millis(clock::now().0 + 365 * DAY_MS));
        machine.played.0.lock().unwrap().joining = true;
        let done = restart(&machine.host, Part::Scheduler, 5).await;
        assert_eq!(done.is_ok(), ended, "{done:?}");
        // Another look at the files, which are well by now, forgets nothing.
        before(&machine.host).unwrap();
        assert_eq!(begun(&machine.host.dir), Some(ended));
    }
    assert_eq!(begun(&Machine::new(10).host.dir), None);
}

#[tokio::test]
async fn files_that_a_power_cut_emptied_are_put_back() {
    let machine = Machine::new(10);
    machine.played.0.lock().unwrap().killed = true;
    assert!(machine.renew().await.is_err());
    assert!(certificates::read(&machine.host.root).is_err() && machine.half());
    machine.asked();
    machine.renew().await.unwrap();
    assert_eq!(machine.asked(), ALL);
    // Without what was kept there is nothing to put back, and kubeadm is not asked.
    fs::write(machine.base.join("root/etc/kubernetes/pki/apiserver.crt"), "").unwrap();
    let error = machine.renew().await.unwrap_err();
    assert!(error.text.contains("pki/apiserver.crt is missing or damaged"), "{error:?}");
    assert_eq!(machine.asked(), [""; 0]);
}

#[tokio::test]
async fn nothing_is_done_while_another_member_is_not_well() {
    let machine = Machine::new(10);
    machine.played.0.lock().unwrap().joining = true;
    let error = machine.renew().await.unwrap_err();
    assert!(error.text.contains("10.77.0.2:2380 has not started"), "{error:?}");
    assert_eq!(machine.asked(), [""; 0]);
    before(&machine.host).unwrap();
    let restart = HostAction::RestartPart { part: Part::Etcd, limit_s: 5 };
    assert!(apply(&machine.host, &restart).await.is_err(), "each part asks again");
}

use qb_model::ids::Millis;
