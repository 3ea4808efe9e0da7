//! Networks and endpoints of a cluster: what is typed, what is signed of it, and who is given which address.

use qb_cli::args::cluster::{ClusterCommand, CreateArgs, KubeconfigArgs};
use qb_cli::args::{Command, help};
use qb_cli::cmd::access::{balancer, is_certified};
use qb_cli::cmd::cluster::{chosen_settings, page};
use qb_cli::out::paint::Paint;
use qb_cli::out::text::Clock;
use qb_cli::sentence;
use qb_model::Digest;
use qb_model::action::Action;
use qb_model::settings::Settings;
use qb_portal::view::ClusterView;

use crate::made;

fn verb(words: &[&str]) -> Option<ClusterCommand> {
    match help::parse(["qb", "cluster"].iter().chain(words).copied()).ok()?.command {
        Some(Command::Cluster(verb)) => Some(verb),
        _ => None,
    }
}

fn create(words: &[&str]) -> Option<CreateArgs> {
    match verb(&[&["create", "c1"], words].concat())? {
        ClusterCommand::Create(args) => Some(args),
        _ => None,
    }
}

#[test]
fn what_is_chosen() {
    let of = |words: &[&str]| {
        let args = create(words).unwrap();
        let chosen = chosen_settings(&args).unwrap();
        (args.driver.to_string(), chosen.map(|c| serde_json::to_string(&c).unwrap()).unwrap_or_default())
    };
    let is = |driver: &str, json: &str| (driver.to_owned(), json.to_owned());
    assert_eq!(of(&[]), is("rehearsal", ""));
    assert_eq!(of(&["--driver", "kubeadm"]), is("kubeadm", ""));
    assert_eq!(
        of(&["--pods", "10.244.0.0/16", "--services", "10.96.0.0/16"]),
        is("kubeadm", ""),
        "as without"
    );
    assert_eq!(
        of(&["--pods", "10.244.0.0/16", "--services", "10.96.0.0/12", "--endpoint", "k8s.example.com"]),
        is("kubeadm", r#"{"services":"10.96.0.0/12","endpoints":["k8s.example.com"]}"#)
    );
    assert_eq!(
        of(&["--endpoint", "k8s.example.com:8443", "--endpoint", "203.0.113.9", "--pods", "10.8.0.0/20"]),
        is("kubeadm", r#"{"pods":"10.8.0.0/20","endpoints":["k8s.example.com","203.0.113.9"],"port":8443}"#)
    );
    assert_eq!(of(&["--endpoint", "a:6443"]), is("kubeadm", r#"{"endpoints":["a"]}"#));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_signed() {
    for words in [&["--pods", "10.8.1.0/16"][..], &["--services", "10.8.0.0"], &["--pods", "fd00::/16"]] {
        assert!(create(words).is_none(), "{words:?}");
    }
    for (words, said) in [
        (&["--pods", "10.8.0.0/24"][..], "pods 10.8.0.0/24 has a prefix of 24 bits"),
        (&["--pods", "10.96.0.0/16"], "services 10.96.0.0/16 overlaps the pods' 10.96.0.0/16"),
        (&["--endpoint", "a", "--endpoint", "b:1"], "only the first endpoint may have one"),
        (&["--endpoint", "a:0"], "port is 0"),
        (&["--endpoint", "a:70000"], "no port from 1 to 65535"),
        (&["--endpoint", "https://a"], "endpoint"),
        (&["--endpoint", "a", "--endpoint", "a"], "has a twice"),
        (&["--driver", "rehearsal", "--pods", "10.8.0.0/16"], "driver kubeadm, not rehearsal"),
    ] {
        let error = chosen_settings(&create(words).unwrap()).unwrap_err();
        assert!(format!("{error:?}").contains(said), "{words:?}: {error:?}");
    }
}

fn kubeconfig(words: &[&str]) -> KubeconfigArgs {
    match verb(&[&["kubeconfig", "c1"], words].concat()).unwrap() {
        ClusterCommand::Kubeconfig(args) => args,
        other => panic!("{other:?}"),
    }
}

fn cluster(settings: Option<Settings>) -> ClusterView {
    let (name, driver) = ("c1".parse().unwrap(), "kubeadm".parse().unwrap());
    let mut view = made::cluster(&name, &driver, &"1.36.2".parse().unwrap(), Digest([3; 32]));
    (view.rehearsal, view.settings) = (false, settings);
    view
}

fn chosen() -> Settings {
    let args = create(&["--endpoint", "k8s.example.com:8443", "--endpoint", "203.0.113.9"]).unwrap();
    Settings::of(chosen_settings(&args).unwrap().as_ref()).unwrap()
}

#[test]
fn a_kubeconfig_goes_to_the_clusters_endpoint_when_asked() {
    let (with, without) = (cluster(Some(chosen())), cluster(Some(Settings::default())));
    assert_eq!(balancer(&kubeconfig(&[]), &with).unwrap(), None);
    assert_eq!(
        balancer(&kubeconfig(&["--endpoint"]), &with).unwrap().as_deref(),
        Some("k8s.example.com:8443")
    );
    let named = kubeconfig(&["--endpoint", "lb.example.com"]);
    assert_eq!(balancer(&named, &with).unwrap().as_deref(), Some("lb.example.com:6443"));
    assert!(balancer(&kubeconfig(&["--endpoint"]), &without).is_err());
    assert!(balancer(&kubeconfig(&["--endpoint"]), &cluster(None)).is_err());
    // A name in the certificates is verified as such; any other by one that all of them have.
    for (balancer, certified) in [
        ("k8s.example.com:8443", true),
        ("k8s.example.com:6443", true),
        ("203.0.113.9:443", true),
        ("lb.example.com:6443", false),
        ("[fd00::5]:6443", false),
    ] {
        assert_eq!(is_certified(&with, balancer), certified, "{balancer}");
        assert!(!is_certified(&without, balancer), "{balancer}");
    }
}

#[test]
fn it_is_shown_and_said() {
    let clock = Clock { now: made::NOW, zone: jiff::tz::TimeZone::UTC };
    let shown = page(&cluster(Some(chosen())), &clock, &Paint::PLAIN);
    assert!(shown.contains("\npods 10.244.0.0/16, services 10.96.0.0/16\n"), "{shown}");
    assert!(shown.contains("\nAPI at k8s.example.com:8443, 203.0.113.9\n"), "{shown}");
    let plain = page(&cluster(None), &clock, &Paint::PLAIN);
    assert!(!plain.contains("pods ") && !plain.contains("API at"), "{plain}");
    let action = Action::ClusterCreate {
        cluster: "c1".parse().unwrap(),
        driver: "kubeadm".parse().unwrap(),
        version: "1.36.2".parse().unwrap(),
        bundle: Digest([3; 32]),
        settings: chosen().chosen(),
    };
    assert_eq!(
        sentence::of(&action, &sentence::Hosts::new()),
        "create cluster c1 (kubeadm 1.36.2), API at k8s.example.com:8443 and 203.0.113.9"
    );
}
