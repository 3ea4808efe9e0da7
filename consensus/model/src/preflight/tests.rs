//! Tables: one fault each, and the findings that it must give.
#![allow(clippy::unwrap_used)]

use super::*;

const MIB: u64 = 1 << 20;

fn needs(role: NodeRole) -> Requirements {
    let port = |proto, port, service: &str| Port { proto, port, service: service.to_owned() };
    let mut ports = vec![port(Proto::Udp, 8472, "node service")];
    if role == NodeRole::ControlPlane {
        ports.push(port(Proto::Tcp, 6443, "API server"));
    }
    Requirements { cores: 2, memory_bytes: 256 * MIB, disk_free_bytes: 64 * MIB, ports }
}

fn host(n: u8, role: NodeRole) -> HostCheck {
    let name: HostName = format!("lyon-r1-0{n}").parse().unwrap();
    let facts = Facts {
        host: name.clone(),
        addresses: vec![format!("127.0.1.{n}")],
        cores: 2,
        memory_bytes: 256 * MIB,
        disk_bytes: 100 * MIB,
        disk_free_bytes: 64 * MIB,
        os: String::new(),
        kernel: String::new(),
        arch: String::new(),
        agent: String::new(),
        zone: String::new(),
    };
    HostCheck { node: NodeId([n; 32]), host: name, role, facts: Some(facts), busy: vec![], serving: false }
}

fn site() -> (Vec<HostCheck>, Vec<Probe>) {
    let hosts = vec![host(1, NodeRole::ControlPlane), host(2, NodeRole::Worker), host(3, NodeRole::Worker)];
    let probes = pairs(&hosts, &needs)
        .into_iter()
        .map(|p| Probe { from: p.from, to: p.to, port: p.port, result: ProbeResult::Ok { rtt_us: 80 } })
        .collect();
    (hosts, probes)
}

fn set(probes: &mut [Probe], from: u8, to: u8, port: u16, result: ProbeResult) {
    let hit = |p: &&mut Probe| p.from.0[0] == from && p.to.0[0] == to && p.port.port == port;
    probes.iter_mut().find(hit).unwrap().result = result;
}

fn lines(hosts: &[HostCheck], probes: &[Probe]) -> Vec<String> {
    let found = judge(hosts, probes, &needs, &pairs(hosts, &needs), Some(&Settings::default()));
    for finding in &found {
        assert!(explain(&finding.code).is_some(), "{} is explained", finding.code);
        assert!(finding.text.bytes().any(|c| c.is_ascii_digit()), "a number in {:?}", finding.text);
        assert!(!finding.remedy.is_empty());
    }
    found.into_iter().map(|f| format!("{} {} {}", f.code, f.subject, f.text)).collect()
}

#[test]
fn a_good_site_has_no_finding() {
    let (hosts, probes) = site();
    assert_eq!(pairs(&hosts, &needs).len(), 8);
    assert_eq!(lines(&hosts, &probes), [""; 0]);
}

#[test]
fn each_fault_of_a_host_is_named() {
    type Change = fn(&mut HostCheck);
    let cases: [(Change, &str); 6] = [
        (
            |h| h.facts.as_mut().unwrap().cores = 1,
            "HOST-CORES lyon-r1-01 has 1 core, a control plane node needs 2",
        ),
        (
            |h| h.facts.as_mut().unwrap().memory_bytes = 128 * MIB,
            "HOST-MEMORY lyon-r1-01 has 128 MiB of memory, a control plane node needs 256 MiB",
        ),
        (
            |h| h.facts.as_mut().unwrap().disk_free_bytes = 3 * MIB / 2,
            "HOST-DISK lyon-r1-01 has 1.5 MiB of disk free under the agent's state, a control plane node needs 64 MiB",
        ),
        (
            |h| {
                h.busy = vec![(needs(NodeRole::ControlPlane).ports[1].clone(), "address in use".to_owned())];
            },
            "PORT-BUSY lyon-r1-01 6443/tcp is taken, the API server needs it: address in use",
        ),
        (|h| h.host = "lyon-r1-02".parse().unwrap(), "HOST-NAME-DUPLICATE lyon-r1-02 is the name of 2 nodes"),
        (
            |h| {
                h.serving = true;
                h.busy = vec![(needs(NodeRole::Worker).ports[0].clone(), "in use".to_owned())];
            },
            "",
        ),
    ];
    for (change, want) in cases {
        let (mut hosts, mut probes) = site();
        change(&mut hosts[0]);
        if !hosts[0].busy.is_empty() {
            set(&mut probes, 2, 1, 6443, ProbeResult::WrongAnswer);
        }
        let want: Vec<&str> = [want].into_iter().filter(|w| !w.is_empty()).collect();
        if hosts[0].serving {
            set(&mut probes, 2, 1, 6443, ProbeResult::Ok { rtt_us: 1 });
        }
        assert_eq!(lines(&hosts, &probes), want);
    }
}

#[test]
fn a_silent_host_is_one_finding_and_what_was_not_tried_elsewhere_stays() {
    let (mut hosts, _) = site();
    hosts[0].facts = None;
    let named = lines(&hosts, &[]);
    assert_eq!(named[0], "HOST-SILENT lyon-r1-01 answers none of the checks: 0 facts, 0 probes");
    assert_eq!(named.len(), 3);
    let elsewhere = |l: &String| l.starts_with("NET-UNTRIED") && !l.contains("lyon-r1-01");
    assert!(named[1..].iter().all(elsewhere));
}

#[test]
fn each_fault_of_the_network_is_named() {
    let failed = || ProbeResult::Failed { reason: "network unreachable (101)".to_owned() };
    let cases = [
        (
            2,
            1,
            6443,
            ProbeResult::Refused,
            "NET-REFUSED lyon-r1-02 > lyon-r1-01 6443/tcp refused, the API server needs it",
        ),
        (
            2,
            1,
            6443,
            ProbeResult::Dropped,
            "NET-DROPPED lyon-r1-02 > lyon-r1-01 6443/tcp dropped: no answer to any try",
        ),
        (
            1,
            3,
            8472,
            ProbeResult::Dropped,
            "NET-ONE-WAY lyon-r1-01 > lyon-r1-03 8472/udp dropped; the way back is open",
        ),
        (
            1,
            3,
            8472,
            ProbeResult::Refused,
            "NET-ONE-WAY lyon-r1-01 > lyon-r1-03 8472/udp refused; the way back is open",
        ),
        (
            1,
            3,
            8472,
            ProbeResult::WrongAnswer,
            "NET-WRONG-HOST lyon-r1-01 > lyon-r1-03 8472/udp is answered by something other than lyon-r1-03",
        ),
        (
            1,
            3,
            8472,
            failed(),
            "NET-UNTRIED lyon-r1-01 > lyon-r1-03 8472/udp was not tried: network unreachable (101)",
        ),
    ];
    for (from, to, port, result, want) in cases {
        let (hosts, mut probes) = site();
        set(&mut probes, from, to, port, result);
        assert_eq!(lines(&hosts, &probes), [want]);
    }
}

#[test]
fn a_missing_probe_is_never_green_and_a_worse_answer_wins() {
    let (hosts, mut probes) = site();
    let last = probes.pop().unwrap();
    assert_eq!(
        lines(&hosts, &probes),
        ["NET-UNTRIED lyon-r1-02 > lyon-r1-03 8472/udp was not tried: 0 answers came back"]
    );
    probes.push(Probe { result: ProbeResult::Dropped, ..last.clone() });
    probes.push(last);
    assert_eq!(lines(&hosts, &probes).len(), 1);
    probes.reverse();
    assert_eq!(lines(&hosts, &probes).len(), 1);
}

#[test]
fn one_closed_port_among_many_is_one_finding() {
    let hosts: Vec<_> = (1..=7).map(|n| host(n, NodeRole::Worker)).collect();
    let probes: Vec<_> = pairs(&hosts, &needs)
        .into_iter()
        .map(|p| {
            let result = if p.to.0[0] == 4 { ProbeResult::Dropped } else { ProbeResult::Ok { rtt_us: 9 } };
            Probe { from: p.from, to: p.to, port: p.port, result }
        })
        .collect();
    assert_eq!(
        lines(&hosts, &probes),
        ["NET-ONE-WAY 6 nodes > lyon-r1-04 8472/udp dropped, from 6 of 6 nodes; the way back is open"]
    );
}

#[test]
fn the_order_of_the_input_does_not_matter() {
    let (mut hosts, mut probes) = site();
    set(&mut probes, 2, 1, 6443, ProbeResult::Refused);
    set(&mut probes, 3, 2, 8472, ProbeResult::Dropped);
    hosts[2].facts.as_mut().unwrap().cores = 1;
    let forward = lines(&hosts, &probes);
    hosts.reverse();
    probes.reverse();
    assert_eq!(lines(&hosts, &probes), forward);
    assert_eq!(forward.len(), 3);
}

#[test]
fn sizes_read_well() {
    let cases = [
        (0, "0 B"),
        (512, "512 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (10 << 10, "10 KiB"),
        (268_435_456, "256 MiB"),
        (9 << 30, "9 GiB"),
        (128 << 30, "128 GiB"),
        (u64::MAX, "16777215 TiB"),
    ];
    for (n, want) in cases {
        assert_eq!(bytes(n), want);
    }
}

#[test]
fn codes_are_sorted_and_explained() {
    let all: Vec<_> = codes().collect();
    assert!(all.is_sorted());
    assert!(all.iter().all(|code| explain(code).is_some()));
    assert!(explain("NET-MAGIC").is_none());
}

#[test]
fn addresses_in_the_clusters_networks_are_found() {
    let found = |addresses: &[&str], pods: &str, services: &str, serving: bool| {
        let mut one = host(1, NodeRole::ControlPlane);
        one.serving = serving;
        one.facts.as_mut().unwrap().addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
        let settings = Settings {
            pods: pods.parse().unwrap(),
            services: services.parse().unwrap(),
            ..Settings::default()
        };
        judge(&[one], &[], &needs, &[], Some(&settings))
    };
    let (pods, services) = ("10.244.0.0/16", "10.96.0.0/16");
    assert_eq!(found(&["192.168.7.1", "fd00::1"], pods, services, false), []);
    for (addresses, pods, services, said) in [
        (
            &["10.244.9.1"][..],
            pods,
            services,
            "10.244.9.1, which is in the cluster's pod network 10.244.0.0/16",
        ),
        (
            &["192.168.7.1", "10.96.0.7"],
            pods,
            services,
            "10.96.0.7, which is in the cluster's service network 10.96.0.0/16",
        ),
        (
            &["10.245.3.1"],
            pods,
            services,
            "10.245.3.1, which is in the cluster's network between hosts 10.245.0.0/16",
        ),
        (
            &["172.17.0.1"],
            pods,
            "172.16.0.0/12",
            "172.17.0.1, which is in the cluster's service network 172.16.0.0/12",
        ),
    ] {
        let found = found(addresses, pods, services, false);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].code.as_str(), found[0].severity), ("NET-OVERLAP", Severity::Error));
        assert_eq!(found[0].text, format!("has the address {said}"));
        assert!(explain("NET-OVERLAP").is_some());
    }
    // Who serves has its pods' bridge by right, and is known by its first address.
    assert_eq!(found(&["192.168.7.1", "10.244.0.1", "10.245.0.1"], pods, services, true), []);
    assert_eq!(found(&["10.244.0.1"], pods, services, true).len(), 1);
    // The remedy names networks that fit, or another machine.
    let remedy = |addresses: &[&str]| found(addresses, pods, services, false)[0].remedy.clone();
    assert!(remedy(&["10.244.0.9"]).ends_with("--pods 10.200.0.0/16 --services 10.201.0.0/16"));
    assert!(remedy(&["10.244.0.9", "10.201.0.9"]).ends_with("--pods 172.20.0.0/16 --services 172.21.0.0/16"));
    // A network between hosts that is in the way of one is in the way of all that leave it where it is.
    assert!(remedy(&["10.245.0.9"]).starts_with("attach another node instead of lyon-r1-01"));
}
